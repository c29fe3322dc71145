"""A network as validation and prediction call it: images in, decoded output out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sightline.backends.attention_kernel import AUTO, check_inference, forced
from sightline.errors import ModelError
from sightline.log import LOGGER
from sightline.models.contract import head_of, largest_stride, named_classes
from sightline.models.copies import copy_of
from sightline.models.fuse import fuse


class TorchModel:
    """One call for a network; other backends (ONNX, OpenVINO) will offer the same attributes.

    The network given is used as it is. `private_copy` makes one that may be folded and moved; `evaluating` borrows
    one that belongs to somebody else.

    Attributes:
        network: the module.
        names: class index → name.
        nc: number of classes.
        stride: pixels per cell of the coarsest level; the sides of the input must be multiples of it.
        channels: of the input image.
        end2end: whether the output is that of the NMS-free branch.
        device, dtype: where and in what precision the images go in.
        attention_kernel: what computes its attention, see `backends/attention_kernel.py`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool | None = None,
        attention_kernel: str = AUTO,
    ) -> None:
        first = next(network.parameters())
        self.network: Any = network
        self.device = first.device if device is None else torch.device(device)
        self.dtype = first.dtype if dtype is None else dtype
        self.attention_kernel = attention_kernel
        self.memory_format = torch.contiguous_format if channels_last is False else torch.channels_last
        self.names: dict[int, str] = named_classes(self.network.names)
        self.nc = int(self.network.nc)
        self.stride = largest_stride(self.network)
        self.task: str = getattr(network, "task", "detect")
        self.channels = channels_of(network)

    @property
    def end2end(self) -> bool:
        """Read from the head, because a borrowed network may be switched in between."""
        head = head_of(self.network)
        return bool(getattr(self.network if head is None else head, "end2end", False))

    def preprocess(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 → the same shape in [0, 1], on the device. Floats are taken to be in [0, 1] already."""
        moved = images.to(self.device, non_blocking=True).contiguous(memory_format=self.memory_format)
        return moved.to(self.dtype) / 255 if images.dtype == torch.uint8 else moved.to(self.dtype)

    def __call__(self, images: Tensor) -> tuple[Tensor, Any]:
        """Run the network on images that `preprocess` returned.

        Returns:
            The decoded output: (B, K, 6 + extra) rows with `end2end`, else (B, 4 + nc + extra, A) for suppression;
            and the head's raw dictionary, which a loss takes.
        """
        with forced(self.attention_kernel):
            output = self.network(images)
        return output if isinstance(output, tuple) else (output, None)


def private_copy(
    network: nn.Module,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    nms: bool | None = None,
    max_det: int = 300,
    agnostic_nms: bool = False,
    channels_last: bool | None = None,
    attention_kernel: str = AUTO,
) -> TorchModel:
    """A copy of a network in eval mode, folded and on the device. The original is not touched.

    Args:
        network: as built or trained; its weights may be of any precision.
        device: where the copy goes.
        dtype: of its weights and input.
        nms: None and False choose the NMS-free branch of networks that have one, True the other one.
        max_det: rows of the NMS-free branch, at most.
        agnostic_nms: the NMS-free branch gives each place one class only.
        channels_last: False keeps the ordinary memory layout.
        attention_kernel: what computes its attention; a line says where it cannot, and the plain formula does.

    Raises:
        SettingValueError: the device has no such kernel for this network.
    """
    device = torch.device(device)
    line = check_inference(attention_kernel, network, device, dtype)
    if line is not None:
        LOGGER.info(line)
    twin: Any = copy_of(network)
    twin.eval()
    _set_branch(twin, nms=nms, max_det=max_det, agnostic_nms=agnostic_nms)
    twin.float()  # folding in half precision would lose digits
    if hasattr(twin, "fuse"):  # a class may do it in its own way
        twin.fuse(verbose=False)
    else:
        fuse(twin)
    twin.requires_grad_(False)
    layout = torch.contiguous_format if channels_last is False else torch.channels_last
    twin.to(device=device, dtype=dtype, memory_format=layout)
    return TorchModel(twin, channels_last=channels_last, attention_kernel=attention_kernel)


@contextlib.contextmanager
def evaluating(
    network: nn.Module,
    *,
    nms: bool | None = None,
    max_det: int = 300,
    agnostic_nms: bool = False,
    channels_last: bool | None = None,
) -> Iterator[TorchModel]:
    """Borrow a network that is being trained: eval mode and the branch that will be deployed; all is put back after.

    Arguments as for `private_copy`. Nothing is copied or folded.
    """
    head: Any = head_of(network)
    settings = {name: getattr(head, name) for name in ("end2end", "max_det", "agnostic_nms") if hasattr(head, name)}
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        _set_branch(network, nms=nms, max_det=max_det, agnostic_nms=agnostic_nms)
        yield TorchModel(network, channels_last=channels_last)
    finally:
        for name, value in settings.items():
            setattr(head, name, value)
        for module, training in modes.items():
            module.training = training


def channels_of(network: Any) -> int:
    """Channels of the images that it takes; 3 where it does not say."""
    description = getattr(network, "yaml", None) or {}
    return int(description.get("channels", getattr(network, "channels", 3)))


def _set_branch(network: Any, *, nms: bool | None, max_det: int, agnostic_nms: bool) -> None:
    # nms=False on a network without such a branch is the user's mistake, and `use_end2end` says so.
    if hasattr(network, "use_end2end"):
        if nms is False or getattr(network, "end2end", False):
            network.use_end2end(nms is not True)
    elif nms is not None and nms is bool(getattr(network, "end2end", False)):
        form = "rows that need no NMS" if nms else "predictions for NMS"
        raise ModelError(f"nms={nms}: the network {type(network).__name__} gives {form}, nothing else. Leave it out.")
    head = head_of(network)
    if head is not None:
        head.max_det, head.agnostic_nms = max_det, agnostic_nms
