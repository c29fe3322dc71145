"""Every setting: its type, default, range, meaning, and the modes that read it.

One class per concern; `Settings` (settings.py) inherits them all, so the public names are flat. Ranges live in the
field, meanings in the description; error messages, `sightline settings` and docs/settings.md are generated from both
(table.py). Names and defaults are those of Ultralytics, so that scripts and habits carry over; rows marked `new` are
ours. To add a setting, add its field here, read it where it is needed, and run `sightline settings --markdown`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from sightline.config.kinds import (
    Automatic,
    Batch,
    Cache,
    Classes,
    ClassWeights,
    Data,
    Device,
    Factors,
    File,
    Fitness,
    FocalGamma,
    Fraction,
    Freeze,
    ImageSize,
    Loss,
    Names,
    Number,
    PrecisionChoice,
    Scale,
    Switch,
    SwitchOrFile,
    Text,
    Transforms,
    Unfreeze,
    Whole,
    choice,
    whole_choice,
)

ALL = ("train", "val", "predict")
TASKS = ("detect",)
LATER_TASKS = ("segment", "classify", "pose", "obb", "semantic", "depth")
LATER_MODES = ("export", "track", "benchmark", "tune")
OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp")


def setting(default: Any, meaning: str, *modes: str, allowed: str = "", new: bool = False, **limits: Any) -> Any:
    """A field. `allowed` describes what the type and `limits` (ge, le, gt, lt) cannot say."""
    extra: dict[str, Any] = {"modes": list(modes or ALL), "allowed": allowed, "new": new}
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


class RunSettings(BaseModel):
    """The run: what to do, where, and with which files."""

    task: Annotated[Literal["detect"], BeforeValidator(choice(*TASKS, later=LATER_TASKS))] = setting(
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


class DataSettings(BaseModel):
    """The images: which, how large, how they are read."""

    data: Data | None = setting(
        None,
        "Data set: a YAML file, or the name of a built-in one.",
        "train",
        "val",
        allowed="a file, a name or a dict",
    )
    imgsz: ImageSize = setting(
        640,
        "Input size in pixels, rounded up to the stride; predict also takes height,width.",
        allowed="1 to 32768, or two of them",
    )
    batch: Batch = setting(
        16,
        "Images per step, all devices together.",
        allowed="a whole number from 1; not yet: -1 (as the memory allows), a part of the memory between 0 and 1",
    )
    fraction: Fraction = setting(
        1.0,
        "Part of the images to use: a share, or a count above 1; a list gives train, val (and test).",
        "train",
        "val",
        allowed="above 0 to 1, or a whole number above 1, or a list of two or three of those",
    )
    cache: Cache = setting(
        False, "Keep decoded images in memory or on disk.", "train", "val", allowed="True, False, ram, disk"
    )
    cache_budget_gb: Number | None = setting(
        None, "Memory or disk the cache may take, in GB; None is automatic.", "train", "val", new=True, gt=0
    )
    single_cls: Switch = setting(False, "Treat all classes as one.", "train", "val")
    classes: Classes | None = setting(
        None, "Use only these classes.", allowed="a class number from 0, or a list of them"
    )
    repeat_factor: Number = setting(
        0.0,
        "Repeat images with classes that are in fewer images than this share; 0 is off.",
        "train",
        new=True,
        ge=0,
        le=1,
    )
    rect: Switch = setting(False, "Batches of like shape with little padding; val and predict switch it on.")


class ModelSettings(BaseModel):
    """What training starts from."""

    pretrained: SwitchOrFile = setting(
        True, "Start from the model's weights, or from this file.", "train", allowed="True, False or a file"
    )
    cls_remap: Switch = setting(True, "Carry class outputs over by class name.", "train")
    freeze: Freeze | None = setting(
        None,
        "Layers that are not trained.",
        "train",
        allowed="how many from the front, backbone, a name, regex:…, or a list of layer numbers and those",
    )
    unfreeze_epoch: Unfreeze | None = setting(
        None,
        "Frozen layers train again after that many epochs; or {epoch: which of them}.",
        "train",
        allowed="a whole number from 1, or {epoch: names} with names as in freeze, or all",
        new=True,
    )
    freeze_bn: Switch | None = setting(
        None,
        "Hold BatchNorm statistics: None where it is frozen, False nowhere, True all if freeze is not set.",
        "train",
        new=True,
    )
    norm: Annotated[Literal["bn", "gn"], BeforeValidator(choice("bn", "gn", fold=True))] | None = setting(
        None,
        "Normalisation: bn (BatchNorm) or gn (GroupNorm in its place); None is what the network has.",
        "train",
        new=True,
    )
    sync_bn: Automatic = setting(
        "auto",
        "BatchNorm over the images of all processes; auto: with several, of 16 images each or fewer.",
        "train",
        allowed="auto, True, False",
        new=True,
    )
    resume: SwitchOrFile = setting(
        False, "Go on with an interrupted run: True, or its last.pt.", "train", allowed="True, False or a file"
    )


class OptimisationSettings(BaseModel):
    """How the weights are changed."""

    epochs: Whole = setting(100, "Training epochs.", "train", ge=1)
    time: Number | None = setting(None, "Time budget in hours; replaces epochs.", "train", gt=0)
    patience: Whole = setting(
        100, "Epochs without a better fitness before training stops; 0 never stops.", "train", ge=0
    )
    optimizer: Annotated[str, BeforeValidator(choice(*OPTIMIZERS, fold=True))] = setting(
        "auto",
        "Optimizer; auto also fills lr0, momentum, warmup_bias_lr, nbs and ema_tau where you left them.",
        "train",
        allowed=", ".join(OPTIMIZERS),
    )
    lr0: Number = setting(0.01, "Initial learning rate.", "train", ge=0, le=1)
    lrf: Number = setting(0.01, "Final learning rate as a factor of lr0.", "train", ge=0, le=1)
    cos_lr: Switch = setting(False, "Cosine instead of a straight line from lr0 to lr0·lrf.", "train")
    momentum: Number = setting(0.937, "Momentum, or beta1 of the Adam family.", "train", ge=0, le=1)
    weight_decay: Number = setting(0.0005, "Weight decay at the nominal batch.", "train", ge=0, le=1)
    nbs: Whole = setting(64, "Nominal batch: gradients are gathered up to it.", "train", ge=1)
    ema: Switch = setting(
        True, "Validate and save an average of the weights; False: the weights themselves.", "train", new=True
    )
    ema_decay: Number = setting(
        0.9999,
        "Average of the weights: what stays of it in a step, at the end of a long run.",
        "train",
        new=True,
        ge=0,
        lt=1,
    )
    ema_tau: Number = setting(
        2000, "Average of the weights: steps over which ema_decay comes up from 0.", "train", new=True, gt=0
    )
    clip_grad: Number = setting(
        10.0, "Largest norm of the gradient; 0 is off. clip_grad_norm is another name of it.", "train", new=True, ge=0
    )
    clip_grad_value: Number | None = setting(
        None,
        "Largest size of each value of the gradient, cut before the norm; 0 and None are off.",
        "train",
        new=True,
        ge=0,
    )
    backbone_lr_ratio: Number | None = setting(
        None, "Learning rates of the backbone as a factor of all others.", "train", new=True, gt=0
    )
    layer_decay: Number | None = setting(
        None, "Factor on the learning rate of each layer for every layer after it.", "train", new=True, gt=0, le=1
    )
    lr_groups: Factors | None = setting(
        None,
        "Factors on the learning rate by regular expressions on parameter names.",
        "train",
        allowed="{regular expression: a factor above 0}",
        new=True,
    )
    amp: PrecisionChoice = setting(
        True,
        "Mixed precision: True and auto take the best the device supports, False is exact fp32.",
        "train",
        allowed="True, False, auto, fp16, bf16, fp32",
    )


class WarmupSettings(BaseModel):
    """How the learning rate comes up at the start of a run."""

    warmup_epochs: Number = setting(3.0, "Length in epochs; part of an epoch is allowed, 0 is off.", "train", ge=0)
    warmup_momentum: Number = setting(0.8, "Momentum at the start.", "train", ge=0, le=1)
    warmup_bias_lr: Number = setting(0.1, "Learning rate of biases at the start.", "train", ge=0, le=1)


class AugmentationSettings(BaseModel):
    """Random changes of the training images."""

    hsv_h: Number = setting(0.015, "Hue jitter, ± as a share of the colour circle.", "train", ge=0, le=1)
    hsv_s: Number = setting(0.7, "Saturation jitter, ± as a share.", "train", ge=0, le=1)
    hsv_v: Number = setting(0.4, "Brightness jitter, ± as a share.", "train", ge=0, le=1)
    degrees: Number = setting(0.0, "Rotation, ± degrees.", "train", ge=0, le=360)
    translate: Number = setting(0.1, "Shift, ± as a share of the image.", "train", ge=0, le=1)
    scale: Scale = setting(
        0.5,
        "Zoom by 1 ± this, or between two factors.",
        "train",
        allowed="0 to 1, or a pair lowest,highest above 0",
    )
    shear: Number = setting(0.0, "Shear, ± degrees.", "train", ge=0, lt=90)
    perspective: Number = setting(0.0, "Perspective, ±; useful up to 0.001.", "train", ge=0, le=1)
    flipud: Number = setting(0.0, "Probability of an upside-down flip.", "train", ge=0, le=1)
    fliplr: Number = setting(0.5, "Probability of a left-right flip.", "train", ge=0, le=1)
    bgr: Number = setting(0.0, "Probability of keeping the blue-green-red order.", "train", ge=0, le=1)
    mosaic: Number = setting(1.0, "Probability of a mosaic of several images.", "train", ge=0, le=1)
    mosaic_prob: Number = setting(1.0, "Second factor of that probability.", "train", new=True, ge=0, le=1)
    mosaic_tiles: Annotated[int, BeforeValidator(whole_choice(4, 9))] = setting(
        4, "Images in a mosaic.", "train", allowed="4 or 9", new=True
    )
    mixup: Number = setting(0.0, "Probability of blending in a second image.", "train", ge=0, le=1)
    cutmix: Number = setting(0.0, "Probability of pasting in a patch of a second image.", "train", ge=0, le=1)
    copy_paste: Number = setting(0.0, "Probability of pasting objects.", "train", ge=0, le=1)
    copy_paste_mode: Annotated[Literal["flip", "mixup"], BeforeValidator(choice("flip", "mixup"))] = setting(
        "flip", "Pasted objects come from the mirrored image or from a second one.", "train"
    )
    close_mosaic: Whole = setting(10, "Last epochs without mosaic, mixup, cutmix and copy_paste.", "train", ge=0)
    multi_scale: Number = setting(0.0, "Random change of the size of each batch, ± as a share.", "train", ge=0, le=1)
    augmentations: Transforms | None = setting(
        None, "Your own transforms, from Python only.", "train", allowed="a list of transforms", new=True
    )


class LossSettings(BaseModel):
    """How much the parts of the loss weigh."""

    box: Number = setting(7.5, "Gain of the box loss.", "train", ge=0)
    cls: Number = setting(0.5, "Gain of the class loss.", "train", ge=0)
    dfl: Number = setting(1.5, "Gain of the distance loss (DFL or L1).", "train", ge=0)
    cls_pw: Number = setting(
        0.0, "Exponent on inverse class frequency for class weights; 0 is off.", "train", ge=0, le=1
    )
    class_weights: ClassWeights | None = setting(
        None,
        "Factors on the class loss of objects, not of background; auto: largest count / own count.",
        "train",
        allowed="auto, a list of one number above 0 a class, or a dict from class names to such numbers",
        new=True,
    )
    focal_gamma: FocalGamma = setting(
        0.0,
        "Class loss times |target − score| to this power; 0 is off.",
        "train",
        allowed="0, or a number from 1 to 10",
        new=True,
    )
    label_smoothing: Number = setting(
        0.0, "Part of an object's class target that is spread over all classes.", "train", new=True, ge=0, lt=1
    )
    loss: Loss | None = setting(
        None,
        "Your own loss, from Python only (docs/losses.md).",
        "train",
        allowed="a class derived from v8DetectionLoss or E2ELoss, or a function of (preds, batch) or of the model",
        new=True,
    )


class ValidationSettings(BaseModel):
    """How a network is judged."""

    val: Switch = setting(True, "Validate during training.", "train")
    val_interval: Whole = setting(1, "Epochs from one validation to the next.", "train", new=True, ge=1)
    fitness: Fitness | None = setting(
        None,
        "What decides which epoch is best, the first of several; None is mAP50-95.",
        "train",
        allowed="an expression over metrics such as 0.9*mAP50-95+0.1*recall, a function of the metrics (from Python), "
        "or a list or dict of those",
        new=True,
    )
    log_metrics: Names | None = setting(
        None,
        "Further columns of results.csv: f1, mAP75, f1/* (each class) and others of docs/metrics.md.",
        "train",
        "val",
        allowed="a name, or a list of names",
        new=True,
    )
    split: Annotated[Literal["train", "val", "test"], BeforeValidator(choice("train", "val", "test"))] = setting(
        "val", "Which part of the data set to validate on.", "val"
    )
    save_json: Switch = setting(False, "Write predictions.json in COCO form.", "train", "val")
    coco_eval: Switch = setting(False, "Also compute the exact COCO numbers.", "train", "val", new=True)


class PredictionSettings(BaseModel):
    """How raw output becomes boxes, and what to predict on."""

    conf: Number | None = setting(None, "Lowest score kept; None is 0.25 in predict, 0.001 in val.", ge=0, le=1)
    iou: Number = setting(0.7, "Overlap above which NMS removes a box.", ge=0, le=1)
    max_det: Whole = setting(300, "Most boxes of one image.", ge=1)
    nms: Switch | None = setting(
        None, "True: one-to-many branch and NMS. False: NMS-free branch. None: NMS-free where the model has it."
    )
    agnostic_nms: Switch = setting(False, "Boxes of different classes suppress each other, too.")
    source: Any = setting(
        None,
        "Images or videos: file, folder, pattern, list, address, camera number, array.",
        "predict",
        allowed="any source",
    )
    vid_stride: Whole = setting(1, "Use every n-th frame of a video.", "predict", ge=1)
    stream_buffer: Switch = setting(False, "Keep every frame of a live stream instead of the latest.", "predict")
    visualize: Switch = setting(
        False, "Pictures of hits and misses (val); of activations (predict): not yet.", "val", "predict"
    )


class OutputSettings(BaseModel):
    """What is kept and shown."""

    save: Switch = setting(True, "Write checkpoints (train) or pictures (predict).", "train", "predict")
    save_period: Whole = setting(-1, "Also keep a checkpoint every n epochs; off below 1.", "train", ge=-1)
    show: Switch = setting(False, "Show pictures in a window.", "predict")
    save_frames: Switch = setting(False, "Write each frame of a video as a picture.", "predict")
    save_txt: Switch = setting(False, "Write boxes as text.", "val", "predict")
    save_conf: Switch = setting(False, "Write scores into those text files, too.", "val", "predict")
    save_crop: Switch = setting(False, "Write a picture of each box.", "predict")
    show_labels: Switch = setting(True, "Draw class names.", "predict")
    show_conf: Switch = setting(True, "Draw scores.", "predict")
    show_boxes: Switch = setting(True, "Draw boxes.", "predict")
    line_width: Whole | None = setting(None, "Width of drawn lines in pixels; None fits the image.", "predict", ge=1)


GROUPS: tuple[type[BaseModel], ...] = (
    RunSettings,
    DataSettings,
    ModelSettings,
    OptimisationSettings,
    WarmupSettings,
    AugmentationSettings,
    LossSettings,
    ValidationSettings,
    PredictionSettings,
    OutputSettings,
)

# Where a mode is better served by another default than training is. They count as defaults: nobody asked for them.
MODE_DEFAULTS: dict[str, dict[str, Any]] = {
    "train": {},
    "val": {"rect": True},
    "predict": {"rect": True, "batch": 1, "save": False},
}
