"""Settings: what is accepted, what is refused and how, and where each value came from."""

from __future__ import annotations

import copy
import functools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml

from sightline.config.settings import DEFAULTS, Settings
from sightline.errors import SettingsError, SettingTypeError, SettingValueError, UnknownSettingError


def test_defaults_are_those_people_know():
    # Written out by hand from data_and_metrics.md section 9 and training.md section 20.
    known = {
        "epochs": 100, "batch": 16, "imgsz": 640, "patience": 100, "optimizer": "auto", "lr0": 0.01, "lrf": 0.01,
        "momentum": 0.937, "weight_decay": 0.0005, "warmup_epochs": 3.0, "warmup_momentum": 0.8, "warmup_bias_lr": 0.1,
        "cos_lr": False, "nbs": 64, "close_mosaic": 10, "save": True, "save_period": -1, "val": True, "amp": True,
        "deterministic": True, "seed": 0, "workers": 8, "freeze": None, "multi_scale": 0.0, "box": 7.5, "cls": 0.5,
        "dfl": 1.5, "cls_pw": 0.0, "time": None, "fraction": 1.0, "pretrained": True, "conf": None, "iou": 0.7,
        "max_det": 300, "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "degrees": 0.0, "translate": 0.1, "scale": 0.5,
        "shear": 0.0, "perspective": 0.0, "flipud": 0.0, "fliplr": 0.5, "bgr": 0.0, "mosaic": 1.0, "mixup": 0.0,
        "cutmix": 0.0, "copy_paste": 0.0, "copy_paste_mode": "flip", "cache": False, "rect": False, "split": "val",
        "vid_stride": 1, "show_labels": True, "cls_remap": True, "nms": None, "mosaic_tiles": 4, "mosaic_prob": 1.0,
        "val_interval": 1, "clip_grad": 10.0, "coco_eval": False,
    }  # fmt: skip
    settings = Settings()
    assert {name: settings.get(name) for name in known} == known


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("epochs", 5.0, 5),
        ("epochs", np.int64(7), 7),
        ("lr0", np.float32(0.5), 0.5),
        ("optimizer", "musgd", "MuSGD"),
        ("optimizer", "SGD", "SGD"),
        ("amp", "BF16", "bf16"),
        ("amp", False, False),
        ("cache", True, "ram"),
        ("cache", "disk", "disk"),
        ("classes", 2, [2]),
        ("classes", (3, 1, 3), [1, 3]),
        ("freeze", 10, 10),
        ("freeze", [0, "23.cv2"], [0, "23.cv2"]),
        ("freeze", "[0,23.cv2]", [0, "23.cv2"]),
        ("freeze", "backbone", "backbone"),
        ("freeze", "regex:cv[23]", "regex:cv[23]"),
        ("sync_bn", "AUTO", "auto"),
        ("norm", "GN", "gn"),
        ("lr_groups", {"cv3": 2}, {"cv3": 2.0}),
        ("device", "cuda:1", "cuda:1"),
        ("device", "0, 1", "0,1"),
        ("device", [0, 1], [0, 1]),
        ("device", "CPU", "cpu"),
        ("imgsz", (320, 640), [320, 640]),
        ("imgsz", "640", 640),
        ("scale", (0.5, 2), [0.5, 2.0]),
        ("fraction", [0.5, 20], [0.5, 20]),
        ("name", 5, "5"),
        ("project", Path("a") / "b", str(Path("a") / "b")),
        ("batch", 0.7, 0.7),
        ("batch", -1, -1),
        ("pretrained", "x.pt", "x.pt"),
        ("time", 0.5, 0.5),
        ("fitness", " 0.9*mAP50-95+0.1*recall ", "0.9*mAP50-95+0.1*recall"),
        ("fitness", "[mAP50, min(recall, f1)]", ["mAP50", "min(recall, f1)"]),  # as the command line has it
        ("fitness", "{a: mAP50, b_2: -val/box_loss}", {"a": "mAP50", "b_2": "-val/box_loss"}),
        ("fitness", ("mAP50", "recall"), ["mAP50", "recall"]),
        ("fitness", max, max),
        ("log_metrics", "f1", ["f1"]),
        ("log_metrics", "[f1,AP50/*]", ["f1", "AP50/*"]),
        ("log_metrics", ("f1", "f1/a, b"), ["f1", "f1/a, b"]),
        ("data", {"names": ["a"], "train": "x"}, {"names": ["a"], "train": "x"}),
    ],
)
def test_values_are_accepted_and_put_in_one_form(name: str, value: object, kept: object):
    found = Settings(**{name: value}).get(name)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("workers", -1, "from 0"),
        ("epochs", -5, "at least 1"),
        ("box", -0.1, "at least 0"),
        ("cls", float("nan"), "not finite"),
        ("lr0", float("inf"), "not finite"),
        ("degrees", 361, "from 0 to 360"),
        ("shear", 90, "below 90"),
        ("imgsz", 0, "1 to 32768"),
        ("imgsz", 10**6, "1 to 32768"),
        ("batch", 0, "whole number from 1"),
        ("batch", 1.5, "whole number from 1"),
        ("batch", -2, "whole number from 1"),
        ("mosaic_tiles", 5, "4 or 9"),
        ("split", "valid", "train or val or test"),
        ("optimizer", "sgdd", "MuSGD"),
        ("device", "gpu0", "cpu, mps, cuda"),
        ("device", [0, 0], "cpu, mps, cuda"),
        ("classes", [], "empty"),
        ("classes", [-1], "class number from 0"),
        ("freeze", -1, "from the front"),
        ("scale", (2, 0.5), "lowest,highest"),
        ("class_weights", "automatic", "auto, a list"),
        ("class_weights", [1.0, 0.0], "not above 0"),
        ("class_weights", [], "no weight"),
        ("class_weights", {"cat": -1}, "not above 0"),
        ("class_weights", [float("inf")], "not finite"),
        ("class_weights", "{cat:2,dog}", "'dog' is not name:weight"),
        ("focal_gamma", 0.5, "0, or a number from 1 to 10"),
        ("focal_gamma", -1.5, "0, or a number from 1 to 10"),
        ("label_smoothing", 1.0, "below 1"),
        ("fraction", 1.5, "whole number above 1"),
        ("time", 0, "above 0"),
        ("fitness", [], "empty"),
        ("fitness", {"a/b": "recall"}, "best_<name>.pt"),
        ("fitness", "{mAP50, recall}", "needs a name"),
        ("fitness", " ", "empty"),
        ("log_metrics", [], "empty"),
        ("repeat_factor", 1.5, "from 0 to 1"),
        ("cache_budget_gb", -1, "above 0"),
        ("task", "segment", "not in sightline yet"),
        ("mode", "export", "not in sightline yet"),
        ("name", "", "empty"),
        ("val_interval", 0, "at least 1"),
        ("save_period", -2, "at least -1"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: object, allowed: str):
    with pytest.raises(SettingValueError) as caught:
        Settings(**{name: value})
    message = str(caught.value)
    assert f"{name}={value!r}" in message
    assert allowed in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", "5"), ("epochs", 5.5), ("epochs", True), ("epochs", None), ("epochs", [5]), ("lr0", "0.1"),
        ("save", 1), ("save", "True"), ("save", None), ("nms", 1), ("optimizer", 3), ("classes", "person"),
        ("classes", [0.5]), ("freeze", {}), ("imgsz", "big"), ("imgsz", [1, 2, 3]), ("scale", [0.5]), ("data", 3),
        ("data", ["a.yaml", "b.yaml"]), ("model", 5), ("device", 1.5), ("device", ["a"]), ("augmentations", "Blur"),
        ("mosaic_tiles", "4"), ("iou", None), ("class_weights", 2.0), ("class_weights", {1.5: 2.0}),
        ("class_weights", ["2"]), ("loss", "focal"), ("loss", 3),
    ],
)  # fmt: skip
def test_wrong_types_are_refused(name: str, value: object):
    with pytest.raises(SettingTypeError, match=name):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("AUTO", "auto"),
        ((1, 2.5), [1.0, 2.5]),
        (np.array([1, 3]), [1.0, 3.0]),
        ({"cat": 2, 1: 3}, {"cat": 2.0, 1: 3.0}),
        ("{WBC:11.2,big dog: 3}", {"WBC": 11.2, "big dog": 3.0}),  # as the command line has it, without quotes
        ("{'WBC':11.2}", {"WBC": 11.2}),
    ],
)
def test_class_weights_have_three_forms(given: object, read: object):
    settings = Settings(class_weights=given)
    assert settings.class_weights == read
    assert Settings.from_dict(settings.to_dict()).class_weights == read


def test_objects_are_left_out_of_plain_values_and_described():
    class Mine:
        pass

    settings = Settings(loss=functools.partial(Mine), augmentations=[len, Mine])
    assert not {"loss", "augmentations"} & set(settings.to_dict())
    assert settings.objects() == {"augmentations": "[len, Mine]", "loss": "Mine"}
    assert settings.copy().loss is settings.loss
    assert Settings().objects() == {}


def test_all_bad_values_stand_in_one_error():
    with pytest.raises(SettingValueError) as caught:
        Settings(epochs=0, workers=-1)
    assert "epochs=0" in str(caught.value)
    assert "workers=-1" in str(caught.value)


def test_a_long_value_is_shortened():
    with pytest.raises(SettingTypeError) as caught:
        Settings(epochs=list(range(10_000)))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("values", "both"),
    [
        ({"save": False, "save_period": 5}, ("save=False", "save_period=5")),
        ({"save": False, "save_every_steps": 5}, ("save=False", "save_every_steps=5")),
        ({"val": False, "val_interval": 3}, ("val=False", "val_interval=3")),
        ({"single_cls": True, "cls_pw": 0.5}, ("single_cls=True", "cls_pw=0.5")),
        ({"single_cls": True, "class_weights": "auto"}, ("single_cls=True", "class_weights=auto")),
        ({"cls_pw": 0.5, "class_weights": "auto"}, ("cls_pw=0.5", "class_weights=auto")),
        ({"single_cls": True, "label_smoothing": 0.1}, ("single_cls=True", "label_smoothing=0.1")),
    ],
)
def test_rules_that_join_settings_name_both(values: dict, both: tuple[str, str]):
    with pytest.raises(SettingValueError) as caught:
        Settings(**values)
    assert all(name in str(caught.value) for name in both)


def test_assignment_is_checked_and_a_refused_one_changes_nothing():
    settings = Settings(val_interval=3)
    with pytest.raises(SettingValueError, match="lr0=2"):
        settings.lr0 = 2
    with pytest.raises(SettingValueError, match="val_interval"):
        settings.val = False  # breaks a rule that joins settings, which is checked after the value is in place
    with pytest.raises(UnknownSettingError, match="lr0"):
        settings.learning_rate = 0.1
    assert (settings.lr0, settings.val, settings.origin("lr0"), settings.origin("val")) == (
        0.01, True, "default", "default",
    )  # fmt: skip


def test_every_value_knows_its_origin():
    settings = Settings(epochs=5)
    settings.lr0 = 0.02
    settings.assign("batch", 8, origin="command line")
    assert settings.fill_auto("momentum", 0.9)
    assert not settings.fill_auto("lr0", 0.5)  # somebody set it
    assert settings.fill_auto("momentum", 0.95)  # an automatic value may be filled again
    origins = settings.origins()
    assert set(origins) == set(DEFAULTS)
    assert {name: origin for name, origin in origins.items() if origin != "default"} == {
        "epochs": "code",
        "lr0": "code",
        "batch": "command line",
        "momentum": "auto",
    }
    assert settings.is_user_set("lr0")
    assert not settings.is_user_set("momentum")
    assert not settings.is_user_set("iou")
    assert settings.changed() == {
        "batch": (8, "command line"),
        "epochs": (5, "code"),
        "lr0": (0.02, "code"),
        "momentum": (0.95, "auto"),
    }
    with pytest.raises(UnknownSettingError, match="epochs"):
        settings.origin("epoch")


def test_a_value_equal_to_the_default_can_still_be_the_users():
    settings = Settings(lr0=0.01)
    assert settings.is_user_set("lr0")
    assert not settings.fill_auto("lr0", 0.002)
    assert settings.changed() == {}


def test_a_copy_is_independent_and_keeps_origins():
    settings = Settings(classes=[1, 2])
    settings.assign("lr0", 0.02, origin="command line")
    twin = settings.copy(epochs=7)
    twin.lr0 = 0.5
    twin.classes.append(9)
    assert (settings.lr0, settings.classes, settings.epochs) == (0.02, [1, 2], 100)
    assert settings.origin("lr0") == "command line"
    assert (twin.origin("epochs"), twin.origin("classes"), twin.epochs) == ("code", "code", 7)
    assert settings.copy().origins() == settings.origins()
    with pytest.raises(SettingValueError):
        settings.copy(epochs=0)


def test_updates_of_a_copy_are_checked_together():
    assert Settings(val_interval=3).copy(val=False, val_interval=1).val is False


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda settings: pickle.loads(pickle.dumps(settings))])
def test_copies_of_other_kinds_keep_origins(duplicate):
    settings = Settings(lr0=0.02)
    settings.fill_auto("momentum", 0.9)
    twin = duplicate(settings)
    assert twin == settings
    assert twin.origins() == settings.origins()


def test_plain_values_survive_json_and_yaml():
    settings = Settings(
        imgsz=[320, 640], scale=(0.5, 2.0), freeze=[0, "23.cv2"], data={"names": {0: "a"}}, cache=True, lr0=0.02
    )
    settings.fill_auto("momentum", 0.9)
    values = json.loads(json.dumps(settings.to_dict()))
    values["data"] = {"names": {0: "a"}}  # JSON has no whole-number keys, YAML has
    again = Settings.from_dict(values, json.loads(json.dumps(settings.origins())))
    assert again == settings
    assert again.origins() == settings.origins()
    assert Settings.from_dict(yaml.safe_load(yaml.safe_dump(settings.to_dict()))).to_dict() == settings.to_dict()


def test_without_origins_what_differs_came_from_a_checkpoint():
    settings = Settings.from_dict({"lr0": 0.02, "iou": 0.7})
    assert (settings.origin("lr0"), settings.origin("iou")) == ("checkpoint", "default")


def test_unknown_names_can_be_skipped_where_a_file_is_from_another_version():
    values = {"lr0": 0.02, "angle": 1.0, "of_the_future": 1}
    assert Settings.from_dict(values, skip_unknown=True).lr0 == 0.02
    with pytest.raises(UnknownSettingError, match="of_the_future"):
        Settings.from_dict(values)


def test_what_lives_in_this_process_only_stays_out_of_files():
    class Blur:
        pass

    blur, picture = Blur(), np.zeros((4, 4, 3), np.uint8)
    settings = Settings(augmentations=[blur], source=picture)
    assert settings.copy().augmentations[0] is blur
    assert settings.copy().source is picture
    plain = settings.to_dict()
    assert "augmentations" not in plain
    assert plain["source"] == "<ndarray>"
    assert settings.changed()["source"][0] is picture


def test_a_torch_device_is_taken_by_its_name():
    torch = pytest.importorskip("torch")
    assert Settings(device=torch.device("cuda", 1)).device == "cuda:1"


def test_every_error_is_a_usage_error():
    for values in ({"epochs": 0}, {"epochs": "5"}, {"epoch": 5}, {"angle": 1}):
        with pytest.raises(SettingsError) as caught:
            Settings(**values)
        assert caught.value.exit_code == 2


def test_copies_of_any_kind_are_independent():
    settings = Settings(lr0=0.02)
    for twin in (settings.copy(), copy.copy(settings), copy.deepcopy(settings)):
        twin.epochs = 5
        assert (twin.epochs, twin.origin("epochs"), twin.origin("lr0")) == (5, "code", "code")
        assert (settings.epochs, settings.origin("epochs")) == (100, "default")


def test_functions_stay_out_of_files_and_text_does_not():
    assert Settings(fitness="recall").to_dict()["fitness"] == "recall"
    assert Settings(fitness={"a": "recall"}).to_dict()["fitness"] == {"a": "recall"}
    for fitness in (max, ["recall", max], {"a": max, "b": "recall"}):
        settings = Settings(fitness=fitness)
        assert "fitness" not in settings.to_dict()
        assert settings.copy().fitness == fitness


def test_repeats_and_fixed_batches_do_not_go_together():
    with pytest.raises(SettingValueError, match="rect=True"):
        Settings(repeat_factor=0.1, rect=True)
