"""Convolution, normalisation, activation: the block that everything else is made of."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# Of every YOLO and RT-DETR network (classification keeps PyTorch's own); statistics in published weights rest on them.
NORM_EPS = 1e-3
NORM_MOMENTUM = 0.03


class SiLU(nn.SiLU):
    """x · sigmoid(x); overwrites its input when nothing will be differentiated.

    Only for a fresh input that nobody else holds, as inside `Conv`. Inference is bound by memory traffic: this saved a
    fifth of the time of yolo26n in eval mode (bf16, CPU). With gradients autograd would copy the input first.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x, inplace=not torch.is_grad_enabled())


class Conv(nn.Module):
    """Convolution without bias → BatchNorm → activation; one biased convolution → activation once folded.

    Shape: (B, C_in, H, W) → (B, C_out, H', W'); without `padding`, H' = ceil(H / stride) for an odd kernel.

    Source: Ioffe & Szegedy, Batch Normalization, arXiv:1502.03167; SiLU: Elfwing et al., arXiv:1702.03118.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        dilation: int = 1,
        activation: bool | nn.Module | None = True,
    ) -> None:
        """`activation`: True for SiLU, False or None for none, or a module. `padding`: None keeps the size at stride 1.

        All can be given by place: scripts call this block in that order.

        Raises:
            ValueError: `activation` is something else. Text would count as true, and for the reference as none.
        """
        super().__init__()
        if not isinstance(activation, bool | nn.Module | None):
            raise ValueError(f"activation is {activation!r}; it must be true, false or a module")
        padding = dilation * (kernel - 1) // 2 if padding is None and kernel % 2 else padding
        padding = kernel // 2 if padding is None else padding
        # conv, bn and act are names in published checkpoints.
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, groups=groups, dilation=dilation, bias=False
        )
        self.bn: nn.Module | None = nn.BatchNorm2d(out_channels, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        if isinstance(activation, nn.Module):
            self.act = activation
        else:
            self.act = SiLU() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return self.act(x)

    @property
    def foldable(self) -> bool:
        """Whether there is a BatchNorm that `fold` would put away."""
        return isinstance(self.bn, _BatchNorm)

    def fold(self) -> None:
        """Put the BatchNorm into the convolution, in place. Only right for inference; folding twice changes nothing.

        Another norm (GroupNorm) depends on the image, so it stays.
        """
        if self.foldable:
            assert self.bn is not None
            self.conv = fold_batch_norm(self.conv, self.bn)
            self.bn = None


class DWConv(Conv):
    """Depthwise `Conv`: as many groups as both widths allow.

    Source: Howard et al., MobileNets, arXiv:1704.04861.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        activation: bool | nn.Module = True,
    ) -> None:
        groups = math.gcd(in_channels, out_channels)
        super().__init__(
            in_channels, out_channels, kernel, stride, groups=groups, dilation=dilation, activation=activation
        )


@torch.no_grad()
def fold_batch_norm(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """One convolution that equals `conv` followed by `norm` in eval mode.

    Per output channel g = gamma / sqrt(var + eps): the weight is scaled by g, the bias becomes
    beta + (bias − mean) · g.
    """
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=True,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # (C_out,)
    bias = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    folded.weight.copy_(conv.weight * gain[:, None, None, None])
    folded.bias.copy_(norm.bias + bias * gain)
    folded.requires_grad_(False)
    folded.train(conv.training)
    return folded
