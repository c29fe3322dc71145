"""The last good state of a run, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.train.ema import unwrap

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


class Snapshot:
    """Copies of everything that a step moves: weights, averages, optimizer, scaler, loss.

    The copies lie in the host's memory, where a GPU's memory is not missed; they are written over in place, so that
    the memory of a run stays flat.
    """

    def __init__(self) -> None:
        self.state: dict[str, Any] | None = None
        self.iteration = -1  # of the trainer when it was taken

    def take(self, trainer: BaseTrainer) -> None:
        live = _live_state(trainer)
        self.state = _copied(live, self.state)
        self.iteration = trainer.iteration

    def put_back(self, trainer: BaseTrainer) -> None:
        """Make the trainer's parts what they were. Gradients that wait are dropped."""
        assert self.state is not None
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)  # the copy may still be on its way to the host
        model = unwrap(trainer.model)
        model.load_state_dict(self.state["model"])
        self.put_back_ema(trainer)
        # Rates and momenta are up to the schedule and the settings, and stay as they are now. An optimizer keeps the
        # tensors it is given and goes on to write into them, so it gets copies.
        groups = trainer.optimizer.state_dict()["param_groups"]
        state = _copied(self.state["optimizer"]["state"], None)
        trainer.optimizer.load_state_dict({"state": state, "param_groups": groups})
        trainer.optimizer.zero_grad()
        if self.state["scaler"]:  # a scaler that has been switched off since has no state
            trainer.scaler.load_state_dict(self.state["scaler"])
        criterion = getattr(model, "criterion", None)
        if self.state["criterion"] and hasattr(criterion, "load_state_dict"):
            criterion.load_state_dict(self.state["criterion"])

    def put_back_ema(self, trainer: BaseTrainer) -> None:
        assert self.state is not None
        if hasattr(trainer.ema, "load_state_dict"):
            trainer.ema.load_state_dict(self.state["ema"])


def is_finite(trees: Iterable[Any]) -> bool:
    """Whether every floating number in some trees of tensors is finite. Waits for the device."""
    tensors: list[Tensor] = []
    for tree in trees:
        _visit(tree, tensors.append)
    by_kind: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.numel():
            by_kind.setdefault((tensor.device, tensor.dtype), []).append(tensor.detach())
    # The largest size is NaN or infinite as soon as one value is, and unlike a sum of squares it cannot overflow.
    tops = [torch.stack(torch._foreach_norm(some, ord=float("inf"))).isfinite().all() for some in by_kind.values()]
    return all(bool(top) for top in tops)


def _live_state(trainer: BaseTrainer) -> dict[str, Any]:
    model = unwrap(trainer.model)
    criterion = getattr(model, "criterion", None)
    ema = trainer.ema.state_dict() if hasattr(trainer.ema, "state_dict") else {}
    return {
        "model": model.state_dict(),
        "ema": ema,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "criterion": criterion.state_dict() if hasattr(criterion, "state_dict") else {},
    }


def _visit(tree: Any, see: Callable[[Tensor], Any]) -> None:
    if isinstance(tree, Tensor):
        see(tree)
    elif isinstance(tree, Mapping):
        for value in tree.values():
            _visit(value, see)
    elif isinstance(tree, list | tuple):
        for value in tree:
            _visit(value, see)


@torch.no_grad()
def _copied(tree: Any, into: Any) -> Any:
    """A copy on the host, written into the tensors of an earlier copy where they fit."""
    if isinstance(tree, Tensor):
        fits = isinstance(into, Tensor) and into.shape == tree.shape and into.dtype == tree.dtype
        copy = into if fits else torch.empty_like(tree, device="cpu", pin_memory=tree.is_cuda)
        return copy.copy_(tree.detach(), non_blocking=True)
    if isinstance(tree, Mapping):
        return {
            key: _copied(value, into.get(key) if isinstance(into, Mapping) else None) for key, value in tree.items()
        }
    if isinstance(tree, list | tuple):
        old = into if isinstance(into, list | tuple) and len(into) == len(tree) else [None] * len(tree)
        return type(tree)(_copied(value, before) for value, before in zip(tree, old, strict=True))
    return tree
