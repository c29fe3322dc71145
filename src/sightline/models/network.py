"""The networks: a stack of layers with what the rest of the house wants to know about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import ModelError
from sightline.log import LOGGER
from sightline.models import count, stack
from sightline.models.find import find_description, read_description
from sightline.models.fuse import fuse, is_fused
from sightline.models.origin import Recorded
from sightline.models.spec import ModelSpec, read_spec
from sightline.models.weights import TransferReport, transfer
from sightline.nn.heads.detect import Detect
from sightline.nn.heads.pose import Pose26


class DetectionModel(Recorded):
    """A detector: backbone, neck and head as one sequence of layers under `model`.

    Call it with images (B, C, H, W) in [0, 1], H and W multiples of the largest stride, for what its head gives (see
    `Detect`); or with a batch (dict) for its loss.
    """

    task = "detect"

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any] | ModelSpec = "yolo26n.yaml",
        ch: int | None = None,
        nc: int | None = None,
        verbose: bool = True,
        *,
        names: Mapping[int, str] | Sequence[str] | None = None,
        scale: str | None = None,
    ) -> None:
        """
        Args:
            cfg: a name or file, or what such a file holds (`model.yaml` of another network, too).
            ch: channels of the image; None for the description's own, which is 3 unless it says otherwise.
            nc: number of classes; None for as many as there are names, else the description's own.
            verbose: log the summary line.
            names: of the classes; None for "0", "1", ….
            scale: letter of the size; None for the one in the file name.

        Raises:
            ModelError: unknown name, bad row, or names that do not fit `nc`; the message names file and row.
        """
        super().__init__()
        nc = len(names) if nc is None and names is not None else nc
        self.spec = load_spec(cfg, scale=scale).with_changes(nc=nc, channels=ch)
        self.yaml: dict[str, Any] = self.spec.to_dict()
        self.nc: int = self.spec.nc
        self.model = stack.make_layers(self.spec)
        self.names: dict[int, str] = _class_names(names, self.nc)
        self.save: list[int] = stack.saved_layers(self.model)
        self.args: Any = None  # the settings of the run; set by the trainer, read by the criterion
        self.class_weights: Tensor | None = None  # (nc,) factors on the whole class loss; set by the trainer
        self.positive_weights: Tensor | None = None  # (nc,) factors on the class loss of objects; set by the trainer
        self.own_loss: Any = None  # an `OwnLoss`: what was given as train(loss=…); goes before `init_criterion`
        self.criterion: Any = None
        self.inplace = True  # scripts read it
        self.head.stride = self.stride = torch.tensor(stack.find_strides(self.model, self.spec), dtype=torch.float32)
        self.head.init_biases()
        if verbose:
            self.info()

    @property
    def head(self) -> Detect:
        return self.model[-1]

    @property
    def end2end(self) -> bool:
        """Whether there are one-to-one branches. The switch that uses them is `head.end2end`."""
        return self.head.has_one2one

    def use_end2end(self, on: bool) -> None:
        """Let eval mode give the NMS-free rows, or the predictions for suppression.

        Raises:
            ModelError: the branches for it do not exist, or were dropped by `fuse`.
        """
        head = self.head
        if on and not head.has_one2one:
            raise ModelError(f"{self.spec.file} has no NMS-free branch (or fuse() dropped it): use nms=True.")
        if not on and not head.has_one2many:
            raise ModelError("fuse() dropped the branch for NMS: load the model again, or use nms=False.")
        head.end2end = on

    def forward(self, x: Tensor | Mapping[str, Any]) -> Any:
        """Images → the head's output (raw in training, (decoded, raw) in eval); a batch → `loss(batch)`."""
        return self.loss(x) if isinstance(x, Mapping) else self.predict(x)

    def predict(self, x: Tensor, **told: Any) -> Any:
        """The head's output for images (B, C, H, W). `told` is what the head gets beside its maps."""
        kept: dict[int, Any] = {}  # only what a later layer reads, so that memory is freed on the way
        for layer in self.model:
            if layer.f != -1:
                previous = layer.i - 1
                inputs = [x if each == previous else kept[each] for each in stack.inputs_of(layer)]
                x = inputs if isinstance(layer.f, list) else inputs[0]
            x = layer(x, **told) if told and layer is self.head else layer(x)
            if layer.i in self.save:
                kept[layer.i] = x
        return x

    def loss(self, batch: Mapping[str, Any], preds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss vector (times the batch size) and detached items by name. `preds` spares the forward pass."""
        from sightline.losses.own import usable

        if self.criterion is None:
            self.criterion = self.make_criterion()
        preds = self.predict_batch(batch) if preds is None else preds
        learning = self.training and self.own_loss is not None
        return usable(self.criterion(preds, batch), self.criterion, learning=learning)

    def predict_batch(self, batch: Mapping[str, Any]) -> Any:
        """The head's output for the images of a batch, which a head that learns from noisy targets sees whole."""
        return self.predict(batch["img"])

    def make_criterion(self) -> Any:
        """The loss that the run asked for, else the model's own; called at the first batch."""
        return self.init_criterion() if self.own_loss is None else self.own_loss.make(self)

    def init_criterion(self) -> Any:
        """The model's own loss. What a subclass with another one replaces."""
        from sightline.losses.detect import v8DetectionLoss
        from sightline.losses.end_to_end import E2ELoss

        return E2ELoss(self, v8DetectionLoss) if self.end2end else v8DetectionLoss(self)

    def load(self, weights: nn.Module | Mapping[str, Any], verbose: bool = True) -> TransferReport:
        """Take over what fits from another network, a state dict, or weights that were read from a file (as a trainer's
        `get_model` gets them). See `weights.transfer`."""
        names = getattr(weights, "names", None)
        state = weights.state_dict() if isinstance(weights, nn.Module) else dict(getattr(weights, "state", weights))
        report = transfer(self, state, source_names=names)
        if verbose:
            LOGGER.info(report.summary())
        return report

    def fuse(self, verbose: bool = False) -> DetectionModel:
        """Fold for inference, in place: BatchNorm into convolutions, and away with the branch that is not used."""
        if not self.is_fused():
            fuse(self)
            if verbose:
                self.info()
        return self

    def is_fused(self) -> bool:
        return is_fused(self)

    def info(self, detailed: bool = False, verbose: bool = True, imgsz: int = 640) -> tuple[int, int, int, float]:
        """(layers, parameters, parameters with gradient, GFLOPs at `imgsz`); see `count` for what is counted."""
        numbers = count.summary(self, imgsz=imgsz)
        if verbose:
            if detailed:
                LOGGER.info(count.table(self))
            layers, parameters, gradients, gflops = numbers
            name = Path(self.spec.file).stem
            LOGGER.info(
                f"{name} {self.spec.scale.letter}: {layers} layers, {parameters:,} parameters, {gradients:,} of them "
                f"trainable, {gflops:.1f} GFLOPs at {imgsz} pixels"
            )
        return numbers

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "criterion":  # never a child module: it belongs to the run, not to the weights
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        # Copies (the EMA) and files start without a criterion: it holds tensors, settings and a schedule of this run.
        return {**self.__dict__, "criterion": None}


class PoseModel(DetectionModel):
    """A detector that gives each object K keypoints, too: see the head `Pose`."""

    task = "pose"

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any] | ModelSpec = "yolo26n-pose.yaml",
        ch: int | None = None,
        nc: int | None = None,
        verbose: bool = True,
        *,
        names: Mapping[int, str] | Sequence[str] | None = None,
        scale: str | None = None,
        kpt_shape: Sequence[int] | None = None,
    ) -> None:
        """As `DetectionModel`, and:

        Args:
            kpt_shape: (K, 2 or 3) of the data; None for the description's own.
        """
        spec = load_spec(cfg, scale=scale).with_changes(nc=None, channels=None, kpt_shape=kpt_shape)
        super().__init__(spec, ch, nc, verbose, names=names)
        self.kpt_oks_sigmas: list[float] | None = None  # of the data set; set by the trainer, None for the usual ones

    @property
    def kpt_shape(self) -> tuple[int, int]:
        """(K, D): keypoints of an object, and 2 (x, y) or 3 (x, y, visibility) numbers for each."""
        return self.head.kpt_shape

    def init_criterion(self) -> Any:
        from sightline.losses.end_to_end import E2ELoss
        from sightline.losses.pose import PoseLoss26, v8PoseLoss

        loss = PoseLoss26 if isinstance(self.head, Pose26) else v8PoseLoss
        return E2ELoss(self, loss) if self.end2end else loss(self)


def load_spec(cfg: str | Path | Mapping[str, Any] | ModelSpec, *, scale: str | None = None) -> ModelSpec:
    """A checked description from a name, a file, or what a file holds."""
    if isinstance(cfg, ModelSpec):
        return cfg
    if isinstance(cfg, Mapping):
        return read_spec(cfg, scale=scale)
    if not isinstance(cfg, (str, Path)):
        raise ModelError(f"The model is a {type(cfg).__name__}; give a name such as yolo26n.yaml, a file or a dict.")
    found = find_description(cfg)
    data = read_description(found.path)
    sizes = data.get("scales") if isinstance(data, Mapping) else None
    if scale is None and (found.taken_off or found.letter in (sizes or ())):
        scale = found.letter
    name = Path(cfg).with_suffix(found.path.suffix) if found.taken_off else found.path
    return read_spec(data, file=str(found.path), name=name.name, scale=scale, strict=True)


def _class_names(names: Mapping[int, str] | Sequence[str] | None, nc: int) -> dict[int, str]:
    if names is None:
        return {index: str(index) for index in range(nc)}
    listed = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
    result = {int(index): str(name) for index, name in listed.items()}
    if sorted(result) != list(range(nc)):
        raise ModelError(f"{len(result)} class names were given for nc={nc} classes; name each of 0 to {nc - 1}.")
    return result
