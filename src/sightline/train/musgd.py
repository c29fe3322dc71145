"""MuSGD: SGD with momentum, plus a step along the orthogonalised momentum for matrices and convolutions.

The orthogonal step makes all directions of a weight matrix learn at the same pace; the SGD step beside it keeps the
magnitude information that orthogonalisation throws away.

Sources: Jordan et al., Muon: an optimizer for hidden layers (2024); Sutskever et al., On the importance of
initialization and momentum in deep learning (ICML 2013) for the SGD part. The blend of both and its constants follow
the recorded behaviour in the specification (training.md, section 11).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd as sgd_step

from sightline.train.precision import multiplies_bf16_faster

# Odd quintic whose five-fold iterate pushes every singular value in (0, 1] close to 1; the slope at 0 is steep on
# purpose, so that small singular values come up within five rounds. From the Muon write-up.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def newton_schulz(matrices: Tensor, *, rounds: int = ROUNDS) -> Tensor:
    """Replace the singular values of each matrix by values near 1, keeping its singular vectors.

    Args:
        matrices: (..., R, C), any floating type. A zero matrix stays zero.
        rounds: each costs three products of matrices.

    Returns:
        (..., R, C) bfloat16, the precision of every product on the way.
    """
    stack = matrices.reshape(-1, *matrices.shape[-2:])
    wide = stack.shape[1] <= stack.shape[2]
    x = stack if wide else stack.mT  # the Gram matrix below is then the smaller of the two
    x = x.bfloat16()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    if not _multiplies_bfloat16(x.device.type):
        x = x.float()
    a, b, c = QUINTIC
    for _ in range(rounds):
        gram = _round(torch.bmm(x, x.mT))
        # Each of the two lines is one multiply-add, rounded once: rounding the product first costs 5e-2 in the result.
        quadratic = _round(torch.baddbmm(gram, gram, gram, beta=b, alpha=c))
        x = _round(torch.baddbmm(x, quadratic, x, beta=a))
    x = x.bfloat16()
    return (x if wide else x.mT).reshape(matrices.shape)


def _round(x: Tensor) -> Tensor:
    """To bfloat16 precision; for float32 stand-ins only, a bfloat16 product is rounded already."""
    return x.bfloat16().float() if x.dtype == torch.float32 else x


def _multiplies_bfloat16(device_type: str) -> bool:
    """Whether products of bfloat16 matrices are worth asking for.

    Where they are not, float32 products rounded to bfloat16 give the same numbers, up to the order of sums; without
    the instructions bfloat16 runs in emulation, a hundred times slower on some processors.
    """
    return device_type != "cpu" or multiplies_bf16_faster()


def orthogonalize(updates: list[Tensor]) -> list[Tensor]:
    """`newton_schulz` of each update flattened to (first axis, rest), in the update's shape, type and memory layout.

    Matrices of equal shape go through together, which saves most of the launches: a detector has a hundred small ones.
    """
    layouts = [_as_matrix(update) for update in updates]
    stacks: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, (matrix, _) in enumerate(layouts):
        stacks[(*matrix.shape, matrix.device, matrix.dtype)].append(index)
    results: list[Tensor] = list(updates)
    for indices in stacks.values():
        done = newton_schulz(torch.stack([layouts[i][0] for i in indices]))
        done = done.to(updates[indices[0]].dtype, memory_format=torch.contiguous_format)
        for i, matrix in zip(indices, done.unbind(), strict=True):
            results[i] = layouts[i][1](matrix)
    return results


def _as_matrix(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """(d0, rest) in memory order, and the way back. Permuted columns do not change the result."""
    if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        rows, channels, height, width = x.shape
        matrix = x.permute(0, 2, 3, 1).reshape(rows, -1)
        return matrix, lambda m: m.view(rows, height, width, channels).permute(0, 3, 1, 2)
    return x.reshape(x.shape[0], -1), lambda m: m.view(x.shape)


class MuSGD(torch.optim.Optimizer):
    """SGD with momentum for all groups; groups with `use_muon` take an orthogonalised step first.

    For a parameter p with gradient g in a group with `use_muon`, momentum μ:

        m ← μ m + (1 − μ) g;   u = μ m + (1 − μ) g (nesterov) or m;   p ← p − lr · muon · scale · orthogonal(u)
        d = g + weight_decay · p;   b ← μ b + d;   p ← p − lr · sgd · (d + μ b (nesterov) or b)

    Other groups take the second line only, with factor lr. `scale` is √max(1, rows / columns) of the last two axes of
    the gradient as it is, so 1 for square kernels. Parameters without gradient are left alone.

    Args:
        params: parameters or groups; a group may set every option below.
        muon, sgd: weights of the two steps.

    Raises:
        ValueError: a negative option, or a vector in a group with `use_muon`.
    """

    # A gradient scaler, or whoever finds a bad gradient, may leave the verdict in `found_inf` (1.0 = skip this step):
    # it is applied on the device, so nobody waits for it.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        use_muon: bool = False,
        muon: float = 0.5,
        sgd: float = 0.5,
    ) -> None:
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name}={value}: MuSGD needs {name} ≥ 0.")
        self.muon, self.sgd = muon, sgd
        self.grad_scale: Tensor | None = None
        self.found_inf: Tensor | None = None
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "use_muon": use_muon,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("grad_scale", None)
        self.__dict__.setdefault("found_inf", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["use_muon"] and any(p.dim() < 2 for p in group["params"]):
            self.param_groups.pop()
            raise ValueError("A group with use_muon=True holds a parameter with fewer than 2 axes: it has no rows.")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters that have a gradient. Returns what `closure` returned, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # GradScaler sets these for the duration of one step and deletes them afterwards.
        grad_scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        if found_inf is not None and found_inf.device.type != "cuda":
            if found_inf:
                return loss
            found_inf = None  # where no queue runs ahead the verdict is known already, and the short way is open
        work = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        match_layouts(self)
        if grad_scale is not None:
            torch._foreach_div_([p.grad for _, params in work for p in params], grad_scale)
        self._orthogonal_steps([(group, params) for group, params in work if group["use_muon"] and params], found_inf)
        for group, params in work:
            if params:
                self._sgd_step(group, params, found_inf)
        return loss

    def _orthogonal_steps(self, work: list[tuple[dict[str, Any], list[Tensor]]], found_inf: Tensor | None) -> None:
        """The first line of the class docstring. All groups share the Newton–Schulz batches; only the lr differs."""
        keep = None if found_inf is None else 1.0 - found_inf.clamp(max=1.0)
        updates = [self._momentum_update(group, params, keep) for group, params in work]
        orthogonal = iter(orthogonalize([u for group in updates for u in group]))
        for group, params in work:
            steps = [next(orthogonal) for _ in params]
            for p, step in zip(params, steps, strict=True):
                rows, columns = p.shape[-2:]
                if rows > columns:
                    step.mul_(math.sqrt(rows / columns))
            if keep is not None:
                torch._foreach_mul_(steps, keep)
            torch._foreach_add_(params, steps, alpha=-group["lr"] * self.muon)

    def _momentum_update(self, group: dict[str, Any], params: list[Tensor], keep: Tensor | None) -> list[Tensor]:
        """Move the running mean m towards the gradient; returns the direction to orthogonalise."""
        share = 1.0 - group["momentum"]
        means = self._buffers(params, "momentum_buffer")
        grads = [p.grad for p in params]
        if keep is None:
            torch._foreach_lerp_(means, grads, share)
        else:
            # 0 · inf is not 0: what is not finite must go before the step is multiplied away.
            grads = [g.nan_to_num(0.0, 0.0, 0.0) for g in grads]
            moves = torch._foreach_sub(grads, means)
            torch._foreach_mul_(moves, keep)
            torch._foreach_add_(means, moves, alpha=share)
        return list(torch._foreach_lerp(means, grads, share)) if group["nesterov"] else means

    def _sgd_step(self, group: dict[str, Any], params: list[Tensor], found_inf: Tensor | None) -> None:
        """The second line of the class docstring, in one pass over memory where torch has that kernel."""
        muon = group["use_muon"]
        sgd_step(
            params,
            [p.grad for p in params],
            list(self._buffers(params, "momentum_buffer_SGD" if muon else "momentum_buffer")),
            fused=supports_fused(params),
            found_inf=found_inf,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"] * (self.sgd if muon else 1.0),
            dampening=0.0,
            nesterov=group["nesterov"] and group["momentum"] > 0,
            maximize=False,
        )

    def _buffers(self, params: list[Tensor], name: str) -> list[Tensor]:
        """The state of that name, made as zeros in the parameter's own memory layout when first asked for."""
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in params]


def supports_fused(params: list[Tensor]) -> bool:
    """Whether torch's fused kernels take these parameters (its own test is private and differs between versions)."""
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in params)


def match_layouts(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Give gradients and state the memory layout of their parameter.

    Fused kernels walk the bare memory of both: a contiguous gradient on a channels-last weight is applied to the
    wrong elements, without a message (torch 2.13). Autograd keeps the layouts equal; a restored checkpoint or a
    gradient set by hand may not.
    """
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is None:
                continue
            if not _same_layout(p.grad, p):
                p.grad = _with_layout_of(p, p.grad)
            state = optimizer.state.get(p, {})
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == p.shape and not _same_layout(value, p):
                    state[name] = _with_layout_of(p, value)


def _same_layout(a: Tensor, b: Tensor) -> bool:
    if a.stride() == b.stride():
        return True
    # The stride of an axis of length 1 is never used, and torch leaves it as it happens to be.
    return all(n == 1 or i == j for n, i, j in zip(a.shape, a.stride(), b.stride(), strict=True))


def _with_layout_of(parameter: Tensor, value: Tensor) -> Tensor:
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
