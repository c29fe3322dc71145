"""A normalising flow in the plane: how errors of keypoints are spread, learnt with the network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

HIDDEN = 64
COUPLINGS = 6
FIRST_GAIN = 0.01  # so small that the flow begins almost as the identity: errors spread like a normal distribution


class FlowLinear(nn.Linear):
    """A linear layer whose first weights are close to zero."""

    def reset_parameters(self) -> None:
        super().reset_parameters()  # the bias keeps PyTorch's own first values
        nn.init.xavier_uniform_(self.weight, gain=FIRST_GAIN)


class RealNVP(nn.Module):
    """The density of points in the plane, as a normal distribution bent by six coupling layers.

    Used while training only. Buffers and child names are those of published weights; `loc` and `cov` are kept for them
    and not read.

    Source: Dinh et al., Density estimation using Real NVP, arXiv:1605.08803; as the error model of keypoints Li et al.,
    Human Pose Regression with Residual Log-likelihood Estimation, arXiv:2107.11291.
    """

    loc: Tensor
    cov: Tensor
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(2))
        self.register_buffer("cov", torch.eye(2))
        # (6, 2): which coordinate a coupling leaves as it is.
        self.register_buffer("mask", torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(COUPLINGS // 2, 1))
        self.s = nn.ModuleList(nn.Sequential(*_layers(), nn.Tanh()) for _ in range(COUPLINGS))
        self.t = nn.ModuleList(nn.Sequential(*_layers()) for _ in range(COUPLINGS))

    def backward_p(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 2) points → (N, 2) where the normal distribution has them, and (N,) log of the change of area."""
        log_det = x.new_zeros(len(x))
        z = x
        for i in reversed(range(COUPLINGS)):
            kept, moved = self.mask[i], 1 - self.mask[i]
            held = kept * z
            scale, shift = self.s[i](held) * moved, self.t[i](held) * moved
            z = moved * (z - shift) * torch.exp(-scale) + held
            log_det = log_det - scale.sum(1)
        return z, log_det

    def log_prob(self, x: Tensor) -> Tensor:
        """(N, 2) points → (N,) log density."""
        z, log_det = self.backward_p(x)
        return -0.5 * (z * z).sum(1) - math.log(2 * math.pi) + log_det

    def forward(self, x: Tensor) -> Tensor:
        return self.log_prob(x)


def _layers() -> list[nn.Module]:
    return [FlowLinear(2, HIDDEN), nn.SiLU(), FlowLinear(HIDDEN, HIDDEN), nn.SiLU(), FlowLinear(HIDDEN, 2)]
