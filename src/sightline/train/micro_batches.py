"""A batch that does not fit into the memory goes through the network in pieces.

Gradients of the pieces are added up, and each piece is divided by what was counted in the whole batch
(losses/normalise.py), so that the step is the one that the whole batch would have made: batch size, learning rate,
accumulation and schedule stay what they are. Only BatchNorm sees pieces, as it does where a batch is spread over GPUs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sightline.backends import ranks
from sightline.backends.memory import BackwardDrain, is_out_of_memory, release
from sightline.data.collate import split_batch
from sightline.errors import TrainingError
from sightline.log import LOGGER
from sightline.losses import normalise
from sightline.losses.items import named_items
from sightline.train import distributed
from sightline.train.ema import unwrap

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


class MicroBatches:
    """Runs forward and backward of a batch, and finds out how many images fit.

    Attributes:
        limit: images of this rank that go through the network at once; None: all of a batch.
        validation_limit: the same in validation, of this rank.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self.validation_limit: int | None = None
        self._drain: BackwardDrain | None = None
        self._loss_counts = True  # whether the loss asks for divisors; one of a user's own need not

    def forward_backward(self, trainer: BaseTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        """Add the gradients of a batch to those that wait for their step, whatever memory there is.

        Returns:
            The batch as the network saw it; of several pieces the first.

        Raises:
            TrainingError: not even one image fits.
        """
        whole = normalise.WholeBatch()
        self._drain = self._drain or BackwardDrain(trainer.device)
        waiting, losses = _set_aside(trainer.model), trainer.tloss
        trainer.images_in_batch, trainer.objects_in_batch = len(batch["img"]), len(batch.get("cls", ()))
        while True:
            pieces = [batch] if self.limit is None else split_batch(batch, self.limit)
            try:
                seen = self._attempt(trainer, pieces, whole, losses)
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                problem = error
            trainer.loss = None
            for parameter in unwrap(trainer.model).parameters():
                parameter.grad = None
            self._drain.clear()
            said = release(problem)
            self._halve(trainer, max(len(piece["img"]) for piece in pieces), said)
        distributed.average_gradients(unwrap(trainer.model))
        _add_back(waiting)
        trainer.dumps.keep(trainer, seen if len(pieces) == 1 else batch)
        return seen

    def agree(self) -> None:
        """All ranks take the smallest limit; between epochs, since each can go on alone until then."""
        limits = [limit for limit in ranks.gather(self.limit) if limit is not None]
        self.limit = min(limits) if limits else None

    # ------------------------------------------------------------------ one attempt

    def _attempt(
        self,
        trainer: BaseTrainer,
        pieces: list[dict[str, Any]],
        whole: normalise.WholeBatch,
        before: dict[str, Tensor] | None,
    ) -> dict[str, Any]:
        several = len(pieces) > 1
        total: Tensor | None = None
        items: dict[str, Tensor] = {}
        seen: dict[str, Any] = {}
        with contextlib.ExitStack() as stack:
            if several or ranks.count() > 1:
                stack.enter_context(normalise.of_whole(whole))
            if isinstance(trainer.model, nn.parallel.DistributedDataParallel):
                # Gradients are averaged when this rank's are complete: while one rank has to begin again, the others
                # would wait within their backward pass, from which there is no way back.
                stack.enter_context(trainer.model.no_sync())
            if several:
                stack.enter_context(_paced_statistics(unwrap(trainer.model), len(pieces)))
                if self._loss_counts:
                    self._count(trainer, pieces, whole)
                    self._loss_counts = whole.used
            for piece in pieces:
                whole.begin_piece()
                # Copies of the dict: `preprocess_batch` writes into it, and an attempt may be repeated.
                shown, part = trainer._forward(dict(piece))
                # What is divided by the whole batch's counts adds up; means of a loss of the user's own are averaged.
                share = 1.0 if not several or whole.used else len(piece["img"]) / trainer.images_in_batch
                named = named_items(part, trainer.loss_names)
                items = {name: items.get(name, 0) + value.detach() * share for name, value in named.items()}
                trainer._track_loss(items, before)
                trainer._backward()
                assert trainer.loss is not None
                total = trainer.loss.detach() if total is None else total + trainer.loss.detach()
                seen = seen or shown
        if several:
            trainer.loss = total
        trainer.guard.watch(trainer.loss, trainer.images_in_batch)
        return seen

    @staticmethod
    def _count(trainer: BaseTrainer, pieces: list[dict[str, Any]], whole: normalise.WholeBatch) -> None:
        """A pass without gradients, for the divisors: they depend on the predictions, so on all pieces."""
        whole.begin_counting()
        with torch.no_grad(), _still_statistics(unwrap(trainer.model)):
            for piece in pieces:
                whole.begin_piece()
                trainer._forward(dict(piece))
        whole.counting = False

    # ------------------------------------------------------------------ less at once

    def halve(self, trainer: BaseTrainer, said: str) -> None:
        """Memory ran out outside of a pass, where smaller pieces help by what they leave free."""
        whole = trainer.images_in_batch
        self._halve(trainer, whole if self.limit is None else min(self.limit, whole), said)

    def _halve(self, trainer: BaseTrainer, images: int, said: str) -> None:
        place = trainer.place
        if images == 1:
            raise TrainingError(
                f"{place}: there is not enough memory for a single image ({said}). Lower imgsz (now "
                f"{trainer.args.imgsz}) or multi_scale (now {trainer.args.multi_scale:g}), or take a smaller model."
            )
        if ranks.count() > 1 and _is_synchronised(unwrap(trainer.model)):
            raise TrainingError(
                f"{place}: out of memory ({said}), and sync_bn lets no rank take its batch in pieces by itself. "
                f"Resume with sync_bn=False, or with a smaller batch than {trainer.batch_size}."
            )
        self.limit = (images + 1) // 2
        text = (
            f"{place}: out of memory ({said}). From here on at most {self.limit} images go through the network at "
            f"once; their gradients are added up, so batch={trainer.batch_size} and the learning rate stay what they "
            "are. BatchNorm sees the smaller pieces, and each batch takes a forward pass more"
        )
        LOGGER.warning(f"{text}.")
        trainer.in_force["micro-batches"] = f"at most {self.limit} images at once, since memory ran out"
        trainer.guard.note(
            "out_of_memory", epoch=trainer.epoch, step=trainer.iteration, reason=text, images_at_once=self.limit
        )

    def after_validation(self, trainer: BaseTrainer) -> None:
        """The validator finds its own limit, and says so; here it becomes part of the run."""
        limit = getattr(trainer.validator, "images_at_once", None)
        if limit != self.validation_limit:
            self.validation_limit = limit
            trainer.guard.note(
                "out_of_memory", epoch=trainer.epoch, step=trainer.iteration, reason="validation", images_at_once=limit
            )

    def restore_validation(self, validator: Any) -> None:
        if self.validation_limit is not None:
            validator.images_at_once = self.validation_limit

    def state_dict(self) -> dict[str, Any]:
        return {"limit": self.limit, "validation_limit": self.validation_limit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.limit, self.validation_limit = state.get("limit"), state.get("validation_limit")


def _set_aside(model: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
    """Take away the gradients that wait for their step, so that those of a failed attempt can be dropped alone."""
    waiting = [(parameter, parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
    for parameter, _ in waiting:
        parameter.grad = None
    return waiting


@torch.no_grad()
def _add_back(waiting: list[tuple[nn.Parameter, Tensor]]) -> None:
    both = [(parameter.grad, old) for parameter, old in waiting if parameter.grad is not None]
    if both:
        torch._foreach_add_([new for new, _ in both], [old for _, old in both])
    for parameter, old in waiting:
        if parameter.grad is None:
            parameter.grad = old


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def _is_synchronised(model: nn.Module) -> bool:
    return any("Sync" in type(module).__name__ and module.training for module in _norms(model))


@contextlib.contextmanager
def _still_statistics(model: nn.Module) -> Iterator[None]:
    """BatchNorm normalises as in training and remembers nothing."""
    moving = [module for module in _norms(model) if module.track_running_stats and module.training]
    for module in moving:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in moving:
            module.track_running_stats = True


@contextlib.contextmanager
def _paced_statistics(model: nn.Module, pieces: int) -> Iterator[None]:
    """Running statistics move once for each piece: so little that a batch moves them as far as a whole one would."""
    before = [(module, module.momentum) for module in _norms(model)]
    for module, momentum in before:
        if momentum is not None:
            module.momentum = 1 - (1 - momentum) ** (1 / pieces)
    try:
        yield
    finally:
        for module, momentum in before:
            module.momentum = momentum
