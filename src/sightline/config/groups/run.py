"""Settings: where, on what, and how often a run computes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator

from sightline.config.groups.field import ALL, setting
from sightline.config.kinds import Device, File, Number, Switch, Text, Whole, choice

TASKS = ("detect", "pose", "rtdetr")
LATER_TASKS = ("segment", "classify", "obb", "semantic", "depth")
AttentionKernel = Annotated[
    Literal["auto", "flash", "efficient", "math"],
    BeforeValidator(choice("auto", "flash", "efficient", "math", fold=True)),
]
LATER_MODES = ("export", "track", "benchmark")


class RunSettings(BaseModel):
    """The run: what to do, where, and with which files."""

    task: Annotated[Literal["detect", "pose", "rtdetr"], BeforeValidator(choice(*TASKS, later=LATER_TASKS))] = setting(
        "detect", "What the network finds."
    )
    mode: Annotated[Literal["train", "val", "predict"], BeforeValidator(choice(*ALL, later=LATER_MODES))] = setting(
        "train", "What to do with the network."
    )
    model: File | None = setting(None, "Weights (.pt, .safetensors) or network description (.yaml).")
    cfg: File | None = setting(None, "A YAML file of settings; the command line and keywords go before it.")
    device: Device | None = setting(
        None,
        "Where to compute; None takes the first GPU, else the CPU.",
        allowed="cpu, mps, cuda, a GPU number (0) or, to train, several (0,1); not yet: -1 for an idle one",
    )
    nproc: Whole | None = setting(
        None,
        "Processes that train together on the CPU; on GPUs `device` names them all.",
        "train",
        new=True,
        ge=1,
        le=1024,
    )
    watchdog: Number = setting(
        50.0,
        "Seconds after which a process that holds up all others is named and the run ended; 0 is off.",
        "train",
        new=True,
        ge=0,
    )
    dry_run: Switch = setting(
        False, "Try everything in two steps and one validation batch, and leave nothing behind.", "train", new=True
    )
    workers: Whole = setting(
        8, "Loader processes for a GPU; with 0, and on a CPU, the main process loads.", "train", "val", ge=0, le=1024
    )
    project: Text | None = setting(None, "Folder of the run folders; None is runs/detect. Taken as written.")
    name: Text | None = setting(None, "Name of the run folder; None is the mode.")
    save_dir: File | None = setting(None, "The run folder itself, instead of project/name.")
    exist_ok: Switch = setting(False, "Write into an existing run folder instead of numbering a new one.")
    verbose: Switch = setting(True, "Say more.")
    seed: Whole = setting(0, "Random seed of the run.", "train", ge=0, le=2**32 - 1)
    deterministic: Switch = setting(True, "Ask for kernels that give the same numbers each time.", "train")
    plots: Switch = setting(True, "Write pictures and curves.", "train", "val")
    channels_last: Switch | None = setting(None, "Channels-last memory layout; None is automatic.", *ALL)
    attention_kernel: AttentionKernel = setting(
        "auto", "What computes scaled_dot_product_attention; auto: torch chooses for every call.", *ALL, new=True
    )
