"""Names of settings that are not settings: misspelt, old, or not here yet."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sightline.errors import SettingValueError, UnknownSettingError
from sightline.log import LOGGER

SMALLEST_LIKENESS = 0.6  # of difflib, on which the recorded suggestions rest
MOST_SUGGESTIONS = 3

# What people type for these although the letters are far apart (other libraries' names, abbreviations).
ALIASES: dict[str, str] = {
    "learning_rate": "lr0",
    "learningrate": "lr0",
    "initial_lr": "lr0",
    "final_lr": "lrf",
    "min_lr": "lr_min",
    "lr_scheduler": "scheduler",
    "lr_schedule": "scheduler",
    "grad_accum": "accumulate",
    "accumulation_steps": "accumulate",
    "accumulate_grad_batches": "accumulate",
    "gradient_accumulation_steps": "accumulate",
    "warmup_iters": "warmup_steps",
    "wd": "weight_decay",
    "decay": "weight_decay",
    "batchsize": "batch",
    "batch_size": "batch",
    "bs": "batch",
    "imgsize": "imgsz",
    "img_size": "imgsz",
    "image_size": "imgsz",
    "img": "imgsz",
    "size": "imgsz",
    "resolution": "imgsz",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "n_epochs": "epochs",
    "num_workers": "workers",
    "early_stopping": "patience",
    "early_stop": "patience",
    "gpu": "device",
    "gpus": "device",
    "devices": "device",
    "weights": "model",
    "dataset": "data",
    "fp16": "amp",
    "precision": "amp",
    "mixed_precision": "amp",
    "confidence": "conf",
    "conf_thres": "conf",
    "conf_threshold": "conf",
    "score_thr": "conf",
    "iou_thres": "iou",
    "iou_threshold": "iou",
    "nms_thr": "iou",
    "max_detections": "max_det",
    "out_dir": "save_dir",
    "output_dir": "save_dir",
    "output": "save_dir",
    "gradient_clip": "clip_grad",
    "grad_clip": "clip_grad",
    "max_grad_norm": "clip_grad",
    "opt": "optimizer",
    "cosine": "cos_lr",
    "random_seed": "seed",
    "augmentation": "augmentations",
    "transforms": "augmentations",
    "rotate": "degrees",
    "rotation": "degrees",
    "hflip": "fliplr",
    "vflip": "flipud",
    "zoom": "scale",
    "input": "source",
    "fl_gamma": "focal_gamma",
    "smoothing": "label_smoothing",
    "pos_weight": "class_weights",
    "criterion": "loss",
    "images": "source",
}


class Later(NamedTuple):
    """An argument of the reference whose subject comes with a later issue."""

    default: Any  # the reference's; a settings file that only states it asks for nothing
    brings: str


# The one list of arguments that Ultralytics has and sightline does not have yet. Remove a row with its issue.
LATER: dict[str, Later] = {
    "overlap_mask": Later(True, "segmentation"),
    "mask_ratio": Later(4, "segmentation"),
    "retina_masks": Later(False, "segmentation"),
    "angle": Later(1.0, "oriented boxes"),
    "dropout": Later(0.0, "classification"),
    "auto_augment": Later("randaugment", "classification"),
    "erasing": Later(0.4, "classification"),
    "dlog": Later(1.0, "depth estimation"),
    "dgrad": Later(0.5, "depth estimation"),
    "dlam": Later(1.0, "depth estimation"),
    "distill_model": Later(None, "distillation"),
    "dis": Later(6.0, "distillation"),
    "compile": Later(False, "compiled networks"),
    "profile": Later(False, "profiling of exported networks"),
    "augment": Later(False, "test-time augmentation"),
    "embed": Later(None, "embeddings"),
    "dnn": Later(False, "exported networks"),
    "quantize": Later(None, "export and reduced precision in val and predict"),
    "half": Later(False, "export and reduced precision in val and predict"),
    "int8": Later(False, "export and reduced precision in val and predict"),
    "format": Later("torchscript", "export"),
    "optimize": Later(False, "export"),
    "dynamic": Later(False, "export"),
    "simplify": Later(True, "export"),
    "opset": Later(None, "export"),
    "workspace": Later(None, "export"),
    "tracker": Later("tracktrack.yaml", "tracking"),
}

# Old name → new name, and whether the value is turned round.
RENAMED: dict[str, tuple[str, bool]] = {
    "boxes": ("show_boxes", False),
    "hide_labels": ("show_labels", True),
    "hide_conf": ("show_conf", True),
    "line_thickness": ("line_width", False),
    "end2end": ("nms", True),
}
# Two names for one thing, neither of them old.
SYNONYMS: dict[str, str] = {"clip_grad_norm": "clip_grad"}
DROPPED = ("save_hybrid", "crop_fraction", "keras")


def current_names(values: Mapping[str, Any], known: Mapping[str, Any], *, quiet: bool = False) -> dict[str, Any]:
    """Translate old names, drop those without effect, refuse what is unknown or not here yet.

    Args:
        values: setting → value, as somebody gave them.
        known: every setting → its default.
        quiet: do not warn about old names (somebody else will, or has).

    Raises:
        UnknownSettingError: with the nearest names; all bad names in one message.
        SettingValueError: an old and its new name are both given, or an old switch is no switch.
    """
    result: dict[str, Any] = {}
    problems = [_problem(name, value, known) for name, value in values.items() if not _usable(name, known)]
    if problems:
        raise UnknownSettingError("\n".join(problems))
    for name, value in values.items():
        if name in known:
            result[name] = value
        elif name in SYNONYMS:
            if SYNONYMS[name] in values:
                raise SettingValueError(f"{name} is another name of {SYNONYMS[name]}, and both are given: keep one.")
            result[SYNONYMS[name]] = value
        elif name in DROPPED:
            if not quiet:
                LOGGER.warning(f"{name} has no effect any more and is ignored; remove it.")
        else:
            new, inverse = RENAMED[name]
            if new in values:
                raise SettingValueError(f"{name} is the old name of {new}, and both are given: keep {new}.")
            if inverse and not isinstance(value, bool):
                raise SettingValueError(
                    f"{name}={value!r} must be True or False; it is the old, opposite name of {new}."
                )
            result[new] = not value if inverse else value
            if not quiet:
                LOGGER.warning(f"{name}={value} is an old name: use {new}={result[new]}.")
    return result


def suggest(name: str, known: Mapping[str, Any]) -> list[str]:
    """Up to three settings that were probably meant, as `epochs=100` (bare where the default is None)."""
    key = name.lower().strip().replace("-", "_")
    # A name in capitals or with dashes is as good as the right one.
    first = [ALIASES[key]] if key in ALIASES else [key] if key in known else []
    near = difflib.get_close_matches(key, list(known), n=MOST_SUGGESTIONS, cutoff=SMALLEST_LIKENESS)
    return [with_default(each, known) for each in list(dict.fromkeys([*first, *near]))[:MOST_SUGGESTIONS]]


def with_default(name: str, known: Mapping[str, Any]) -> str:
    return name if known[name] is None else f"{name}={known[name]}"


def unknown_message(name: str, known: Mapping[str, Any]) -> str:
    near = suggest(name, known)
    hint = f"Did you mean {_either(near)}?" if near else "`sightline settings` lists all of them."
    return f"'{name}' is not a setting. {hint}"


def not_yet_message(name: str, value: Any) -> str:
    return f"{name}={value} exists in Ultralytics, not in sightline yet: it comes with {LATER[name].brings}. Remove it."


def _usable(name: str, known: Mapping[str, Any]) -> bool:
    return name in known or name in SYNONYMS or name in RENAMED or name in DROPPED


def _problem(name: str, value: Any, known: Mapping[str, Any]) -> str:
    return not_yet_message(name, value) if name in LATER else unknown_message(name, known)


def _either(names: Iterable[str]) -> str:
    *head, last = names
    return f"{', '.join(head)} or {last}" if head else last
