"""A batch that does not fit into the memory goes through the network in pieces.

Gradients of the pieces are added up, and each piece is divided by what was counted in the whole batch
(losses/normalise.py), so that the step is the one that the whole batch would have made: batch size, learning rate,
accumulation and schedule stay what they are. Only BatchNorm sees pieces, as it does where a batch is spread over GPUs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sightline.backends import ranks
from sightline.backends.memory import BackwardDrain, is_out_of_memory, release
from sightline.backends.pulse import PULSE
from sightline.data.collate import split_batch
from sightline.errors import TrainingError
from sightline.log import LOGGER
from sightline.losses import normalise
from sightline.losses.items import named_items
from sightline.nn.sync_batch_norm import SyncBatchNorm
from sightline.ops.rank_sums import JointPass
from sightline.train import distributed
from sightline.train.ema import unwrap

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


class _Failure(NamedTuple):
    """Why an attempt of a rank failed; `images` are those of its largest piece."""

    rank: int
    images: int
    short_of_memory: bool
    said: str


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
        self._joint: JointPass | None = None  # where ranks wait for each other within a pass
        self._loss_counts = True  # whether the loss asks for divisors; one of a user's own need not

    def forward_backward(self, trainer: BaseTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        """Add the gradients of a batch to those that wait for their step, whatever memory there is.

        Returns:
            The batch as the network saw it; of several pieces the first.

        Raises:
            TrainingError: not even one image fits.
        """
        waiting, losses = _set_aside(trainer.model), trainer.tloss
        trainer.images_in_batch = len(batch["img"])
        self._prepare(trainer)
        whole = normalise.WholeBatch()
        while True:
            pieces = self._pieces(batch)
            problem: Exception | None = None
            seen: dict[str, Any] = {}
            try:
                with contextlib.nullcontext() if self._joint is None else self._joint.in_force():
                    seen = self._attempt(trainer, pieces, whole, losses)
            except Exception as error:
                problem = error
            if not self._failed(problem):
                break
            trainer.loss = None
            for parameter in unwrap(trainer.model).parameters():
                parameter.grad = None
            self._drain.clear()
            images = max(len(piece["img"]) for piece in pieces)
            self._take_less(trainer, problem, images=images, together=self._joint is not None)
            if self._joint is not None:  # the others begin again as well, and have to be asked anew
                whole = normalise.WholeBatch()
        trainer.guard.watch(trainer.loss, trainer.images_in_batch)
        distributed.average_gradients(unwrap(trainer.model))
        _add_back(waiting)
        trainer.dumps.keep(trainer, seen if len(pieces) == 1 else batch)
        return seen

    def agree(self, trainer: BaseTrainer) -> None:
        """All ranks take the smallest limit; between epochs, since each can go on alone until then."""
        limits = {rank: limit for rank, limit in enumerate(ranks.gather(self.limit)) if limit is not None}
        if limits and min(limits.values()) != self.limit:
            rank = min(limits, key=limits.__getitem__)
            self._set_limit(trainer, limits[rank], f"rank {rank} ran out of memory")

    def _prepare(self, trainer: BaseTrainer) -> None:
        """What has to be there before memory gets short."""
        if self._drain is None:
            self._drain = BackwardDrain(trainer.device)
            self._joint = _joint_pass(unwrap(trainer.model), trainer.device)

    def _pieces(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        if self.limit is None:
            return [batch]
        if self._joint is None:
            return split_batch(batch, self.limit)
        # Every piece is a pass of all ranks, so they need as many; the last batch of an epoch can differ by an image.
        return split_batch(batch, self.limit, at_least=ranks.highest(-(-len(batch["img"]) // self.limit))[0])

    def _failed(self, problem: Exception | None) -> bool:
        """Whether the attempt has to be made again: on this rank or, where they make it together, on any."""
        if self._joint is not None:
            with PULSE.waiting():
                return self._joint.end(failed=problem is not None)
        if problem is not None and not is_out_of_memory(problem):
            raise problem
        return problem is not None

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
        objects = 0
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
                share = 1.0 if not several or whole.used else len(piece["img"]) / max(trainer.images_in_batch, 1)
                named = named_items(part, trainer.loss_names)
                items = {name: items.get(name, 0) + value.detach() * share for name, value in named.items()}
                trainer._track_loss(items, before)
                trainer._backward()
                assert trainer.loss is not None
                total = trainer.loss.detach() if total is None else total + trainer.loss.detach()
                objects += len(shown.get("cls", ()))
                seen = seen or shown
        trainer.objects_in_batch = objects
        if several:
            trainer.loss = total
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

    def after_failed_step(self, trainer: BaseTrainer, problem: Exception | None) -> None:
        """Memory ran out in the optimizer's step, here or on another rank: smaller pieces leave more of it free."""
        whole = trainer.images_in_batch
        images = whole if self.limit is None else min(self.limit, whole)
        self._take_less(trainer, problem, images=images, together=True)

    def _take_less(self, trainer: BaseTrainer, problem: Exception | None, *, images: int, together: bool) -> None:
        """Half as many images at once.

        Args:
            problem: what went wrong on this rank, if anything did.
            images: of its largest piece.
            together: whether all ranks are here, and do the same.

        Raises:
            TrainingError: there is nothing to halve, or another rank failed for another reason.
            Exception: this one did.
        """
        mine = None
        if problem is not None:
            short = is_out_of_memory(problem)
            mine = _Failure(ranks.rank(), images, short, release(problem) if short else repr(problem))
        failures = [failure for failure in (ranks.gather(mine) if together else [mine]) if failure is not None]
        short_of_memory = [failure for failure in failures if failure.short_of_memory]
        if not short_of_memory:
            if problem is not None:
                raise problem
            raise TrainingError(f"{trainer.place}: rank {failures[0].rank} failed: {failures[0].said}")
        # What else went wrong follows from that: the sums of the pass lacked a rank.
        worst = min(short_of_memory, key=lambda failure: failure.images)
        said = f"{worst.said}, on rank {worst.rank}" if ranks.count() > 1 else worst.said
        if worst.images == 1:
            raise TrainingError(
                f"{trainer.place}: there is not enough memory for a single image ({said}). Lower imgsz (now "
                f"{trainer.args.imgsz}) or multi_scale (now {trainer.args.multi_scale:g}), or take a smaller model."
            )
        if not together and ranks.count() > 1 and _is_synchronised(unwrap(trainer.model)):
            raise TrainingError(
                f"{trainer.place}: out of memory ({said}), and a BatchNorm that is synchronised within a process group "
                "of its own lets no rank take its batch in pieces. Resume with a smaller batch than "
                f"{trainer.batch_size}, or without that group."
            )
        self._set_limit(trainer, (worst.images + 1) // 2, said)

    def _set_limit(self, trainer: BaseTrainer, limit: int, said: str) -> None:
        self.limit = limit
        text = (
            f"{trainer.place}: out of memory ({said}). From here on at most {limit} images go through the network at "
            f"once; their gradients are added up, so batch={trainer.batch_size} and the learning rate stay what they "
            "are. BatchNorm sees the smaller pieces, and each batch takes a forward pass more"
        )
        LOGGER.warning(f"{text}.")
        trainer.in_force["micro-batches"] = f"at most {limit} images at once, since memory ran out"
        trainer.guard.note(
            "out_of_memory", epoch=trainer.epoch, step=trainer.iteration, reason=text, images_at_once=limit
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


def _joint_pass(model: nn.Module, device: torch.device) -> JointPass | None:
    """Where BatchNorm talks to the other ranks, a pass is one of all ranks, in which each may fail."""
    layers = [module for module in _norms(model) if "Sync" in type(module).__name__]
    ours = [module for module in layers if isinstance(module, SyncBatchNorm) and module.process_group is None]
    if ranks.count() == 1 or not layers or len(ours) < len(layers):
        return None
    return JointPass(2 * max(module.num_features for module in ours) + 1, device)


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
