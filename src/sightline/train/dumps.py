"""Bad batches, written so that they can be looked at: `sightline doctor replay` runs one again.

A step turns out to be bad one batch later, so the batch before the one at hand is kept until then. A dump holds what
the network saw, file names and seeds of the samples, the weights at that moment and the settings: nothing else is
needed to repeat the forward and backward pass.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sightline.artifacts.checkpoint import save_checkpoint
from sightline.errors import SightlineError
from sightline.log import LOGGER
from sightline.models.rebuild import plain_description
from sightline.train.ema import unwrap
from sightline.train.late import Late

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

FOLDER = "dumps"
KIND = "bad batch"


class _Kept(NamedTuple):
    epoch: int
    batch_index: int
    iteration: int
    batch: dict[str, Any]
    loss: Late  # (1,) per image


class BatchDumps:
    """The last batches, and how many have been written; each rank has its own.

    A batch that went through the network in pieces is kept as it came from the loader, where memory is short as it is.
    """

    def __init__(self) -> None:
        self.written = 0
        self._last: _Kept | None = None  # the batch at hand
        self._before: _Kept | None = None
        self._suspect: _Kept | None = None  # of several batches behind a step, the one whose loss was bad

    def keep(self, trainer: BaseTrainer, batch: dict[str, Any]) -> None:
        """After the backward pass of a batch: `batch` as the network saw it."""
        if trainer.args.dump_batches <= self.written or trainer.loss is None:
            self._last = self._before = self._suspect = None  # no memory for what nobody will ask for
            return
        loss = (trainer.loss.detach().float() / max(len(batch["img"]), 1)).reshape(1)
        place = (trainer.epoch, trainer.batch_index, trainer.iteration)
        self._before, self._last = self._last, _Kept(*place, dict(batch), Late(loss))
        if self._before is not None and trainer.schedule.accumulate > 1:
            (value,) = self._before.loss.read()
            if not value <= trainer.guard.level.limit(trainer.args.spike_factor):  # NaN is not below anything
                self._suspect = self._before

    def write(
        self, trainer: BaseTrainer, *, reason: str, loss: float, grad_norm: float, epoch_is_over: bool
    ) -> str | None:
        """Write the batch behind the step that was judged last, at most `dump_batches` of them. Returns the file."""
        kept = self._suspect or (self._last if epoch_is_over else self._before)
        self._suspect = None
        if kept is None or self.written >= trainer.args.dump_batches or trainer.rehearsal is not None:
            return None
        if trainer.world_size > 1 and not math.isfinite(loss) and math.isfinite(kept.loss.read()[0]):
            return None  # it was another rank's part
        rank = f"-rank{trainer.rank}" if trainer.world_size > 1 else ""
        path = trainer.save_dir / FOLDER / f"epoch{kept.epoch + 1}-batch{kept.batch_index + 1}{rank}.pt"
        try:
            path.parent.mkdir(exist_ok=True)
            save_checkpoint(path, _content(trainer, kept, reason, grad_norm))
        except (OSError, SightlineError, TypeError, MemoryError) as error:
            LOGGER.warning(f"the bad batch could not be written to {path} ({error}); the run goes on without")
            return None
        self.written += 1
        more = "" if self.written < trainer.args.dump_batches else "; it is the last that is written (dump_batches)"
        LOGGER.warning(f"The batch is in {path}{more}. `sightline doctor replay {path}` runs it again.")
        return str(path)

    def state_dict(self) -> dict[str, Any]:
        return {"written": self.written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.written = state.get("written", 0)


def _content(trainer: BaseTrainer, kept: _Kept, reason: str, grad_norm: float) -> dict[str, Any]:
    model = unwrap(trainer.model)
    criterion = getattr(model, "criterion", None)
    files = [str(path) for path in kept.batch.get("im_file", ())]
    (loss,) = kept.loss.read()
    return {
        "kind": KIND,
        "task": trainer.task,
        "reason": reason,
        "epoch": kept.epoch,
        "batch_index": kept.batch_index,
        "iteration": kept.iteration,
        "rank": trainer.rank,
        "loss_per_image": loss,
        "grad_norm": grad_norm if math.isfinite(grad_norm) else str(grad_norm),
        "precision": trainer.precision.name,
        "files": files,
        "seeds": _seeds(trainer, files, kept.epoch),
        "batch": {name: _small(value) for name, value in kept.batch.items() if _is_plain(value)},
        **plain_description(model),
        "model": {name: value.detach().cpu().clone() for name, value in model.state_dict().items()},
        # Frozen layers use the statistics they have, not those of the batch.
        "held": [name for name, module in model.named_modules() if name and not module.training],
        "criterion": criterion.state_dict() if hasattr(criterion, "state_dict") else {},
        "weights_of_classes": {
            name: getattr(model, name)
            for name in ("class_weights", "positive_weights")
            if isinstance(getattr(model, name, None), Tensor)
        },
        "objects": trainer.args.objects(),
        "args": trainer.args.to_dict(),
    }


def _seeds(trainer: BaseTrainer, files: list[str], epoch: int) -> list[list[int]]:
    """What each sample was drawn with: seed of the run, epoch, number of the image (data/sampler.py)."""
    index = getattr(getattr(trainer.train_loader, "dataset", None), "index", None)
    number = {str(path): i for i, path in enumerate(getattr(index, "paths", ()))}
    return [[trainer.args.seed, epoch, number.get(path, -1)] for path in files]


def _small(value: Any) -> Any:
    """Images that come from bytes go back to bytes, a quarter of the size, where nothing is lost by that."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach().float().cpu() if value.is_floating_point() else value.detach().cpu()
    if value.ndim == 4 and value.is_floating_point() and bool(value.isfinite().all()):
        as_bytes = (value * 255).round().clamp(0, 255).to(torch.uint8)
        if torch.equal(as_bytes.float() / 255, value):
            return as_bytes
    return value.contiguous()


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, Tensor | str | int | float | bool)
