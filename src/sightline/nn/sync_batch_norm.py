"""BatchNorm over the batches of all ranks, with any backend of torch.distributed.

`torch.nn.SyncBatchNorm` does this for GPUs and refuses CPU tensors. This one also runs over gloo, and is a
`nn.BatchNorm2d` with the same state-dict keys, so that folding, freezing, grouping of parameters, averages and
checkpoints treat it as the BatchNorm that it stands for. And a pass through it can be broken off on all ranks where
one of them runs out of memory (ops/rank_sums.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sightline.ops.rank_sums import sum_over_ranks

# Exactly these are exchanged: a subclass of them may do something else in its forward pass.
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm whose mean and variance in training are those of the joined batch of all ranks.

    Shape: (B, C, …) → (B, C, …), two axes or more. B and what follows C may differ between ranks (a rank counts by its
    number of values), and so may B = 0 on some of them; every rank must make the call. In eval mode, without a process
    group and with one rank it is plain BatchNorm.

    Gradients of the input are those of BatchNorm on the joined batch. Those of weight and bias are this rank's share;
    their sum over ranks is that of the joined batch, as for every other parameter under data parallelism.

    Source: Ioffe & Szegedy, Batch Normalization, arXiv:1502.03167; Peng et al., MegDet, arXiv:1711.07240, section 3.3.
    """

    process_group: Any = None  # of torch.distributed; None is all ranks

    def forward(self, x: Tensor) -> Tensor:
        self._check_input_dim(x)
        if not (self.training and world_size(self.process_group) > 1):
            return super().forward(x)
        count, mean, var = joint_moments(x, self.process_group)
        self._track(count, mean, var)
        return _Normalise.apply(x, self.weight, self.bias, mean, var, count, self.eps, self.process_group)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"BatchNorm needs (batch, channels, …), but got a tensor of shape {tuple(input.shape)}.")

    @torch.no_grad()
    def _track(self, count: Tensor, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics; the same on all ranks, because what comes in is."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = var * (count / (count - 1)).to(var.dtype)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)

    def __getstate__(self) -> dict[str, Any]:
        # A process group belongs to its process: copies (the EMA) and files go without it.
        return {name: value for name, value in self.__dict__.items() if name != "process_group"}


def world_size(group: Any = None) -> int:
    """Ranks of a process group (None: of all); 1 where torch.distributed is not in use."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def joint_moments(x: Tensor, group: Any = None) -> tuple[Tensor, Tensor, Tensor]:
    """Number of values a channel, mean and biased variance over the batches of all ranks, in one reduction.

    Args:
        x: (B, C, …) of this rank.

    Returns:
        (count () in float64, mean (C,), var (C,)), the moments in float32 or better.

    Raises:
        ValueError: the ranks have one value a channel or none: there is no variance. On a GPU nobody looks, because
            that would wait for the reduction; the moments are then not finite.
    """
    channels = x.shape[1]
    values = x if x.dtype == torch.float64 else x.float()
    axes = [axis for axis in range(x.ndim) if axis != 1]
    count = x.numel() // channels
    if count:
        var, mean = torch.var_mean(values, axes, correction=0)
    else:
        var, mean = values.new_zeros(channels), values.new_zeros(channels)
    # Sums of squares cancel; in float64 (and from moments that were taken well) nothing of float32 gets lost by that.
    var, mean = var.double(), mean.double()
    sums = torch.cat([count * mean, count * (var + mean * mean), mean.new_tensor([count])])  # (2C + 1,)
    sums = sum_over_ranks(sums, group)
    total = sums[-1]
    if total.device.type == "cpu" and total < 2:
        raise ValueError(
            f"BatchNorm needs more than one value a channel in training; all ranks together have {float(total):g}."
        )
    mean = sums[:channels] / total
    var = (sums[channels:-1] / total - mean * mean).clamp_(min=0)
    return total, mean.to(values.dtype), var.to(values.dtype)


class _Normalise(torch.autograd.Function):
    """(x − mean) / sqrt(var + eps) · weight + bias, where mean and var depend on the x of every rank."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        eps: float,
        group: Any,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps, ctx.group = eps, group
        if not len(x):
            return torch.empty_like(x)
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """With x̂ = (x − mean) · s and s = 1 / sqrt(var + eps):

        dx = weight · s · (dy − Σdy / n − x̂ · Σ(dy · x̂) / n), both sums over all ranks; dweight = Σ(dy · x̂) and
        dbias = Σdy over this rank.
        """
        x, weight, mean, var, count = ctx.saved_tensors
        scale = torch.rsqrt(var + ctx.eps)  # (C,)
        if len(x):
            # torch's kernel for eval mode gives weight · s · dy and this rank's sums in one pass.
            direct, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
                grad, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
            )
        else:
            direct, dweight, dbias = torch.zeros_like(x), torch.zeros_like(mean), torch.zeros_like(mean)
        dx = None
        if ctx.needs_input_grad[0]:
            sums = torch.cat([dbias, dweight]).to(mean.dtype)  # (2C,)
            of_grad, of_product = (sum_over_ranks(sums, ctx.group) / count.to(mean.dtype)).chunk(2)
            gain = scale if weight is None else scale * weight.to(scale.dtype)
            slope = -gain * scale * of_product  # (C,): what dx has of x
            offset = -gain * of_grad - slope * mean
            shape = [1, -1] + [1] * (x.ndim - 2)
            dx = torch.addcmul(direct + offset.view(shape), x, slope.view(shape)).to(x.dtype)
        return (
            dx,
            dweight.to(weight.dtype) if ctx.needs_input_grad[1] else None,
            dbias if ctx.needs_input_grad[2] else None,
            *[None] * 5,
        )


def convert(module: nn.Module, process_group: Any = None) -> nn.Module:
    """Exchange every BatchNorm, and every `nn.SyncBatchNorm`, for ours.

    The new layers hold the parameters, buffers and hooks of the old ones themselves, so optimizers stay valid.

    Args:
        process_group: for plain BatchNorm; a `nn.SyncBatchNorm` keeps its own.

    Returns:
        The module, changed in place; a new one if it is itself such a layer.
    """
    return exchange(
        module,
        lambda norm: (
            _twin(norm, norm.process_group or process_group)
            if isinstance(norm, nn.SyncBatchNorm)
            else _twin(norm, process_group)
            if type(norm) in PLAIN
            else norm
        ),
    )


def convert_foreign(module: nn.Module) -> nn.Module:
    """Exchange only `nn.SyncBatchNorm`, which cannot train on a CPU; otherwise as `convert`."""
    return exchange(
        module, lambda norm: _twin(norm, norm.process_group) if isinstance(norm, nn.SyncBatchNorm) else norm
    )


def exchange(module: nn.Module, other: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Put `other(layer)` in the place of every layer below, and of the module itself.

    A layer that stands in several places is exchanged for one, in all of them. Where `other` gives the layer back,
    it stays, and what is below it is looked at.
    """
    done: dict[int, nn.Module] = {}

    def visit(layer: nn.Module) -> nn.Module:
        if id(layer) not in done:
            done[id(layer)] = other(layer)
            if done[id(layer)] is layer:
                for name, child in list(layer._modules.items()):  # named_children() would leave out a repeated one
                    if child is not None and visit(child) is not child:
                        setattr(layer, name, done[id(child)])
        return done[id(layer)]

    return visit(module)


def _twin(norm: nn.Module, process_group: Any) -> SyncBatchNorm:
    twin = SyncBatchNorm.__new__(SyncBatchNorm)
    twin.__dict__.update(norm.__dict__)
    twin.__dict__["process_group"] = process_group
    return twin
