"""When frozen layers train again: the settings `freeze`, `unfreeze_epoch` and `freeze_bn` over the epochs of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sightline.errors import SettingValueError
from sightline.log import LOGGER
from sightline.train import freeze as freezing
from sightline.train.ema import unwrap

if TYPE_CHECKING:
    from sightline.config.settings import Settings
    from sightline.train.trainer import BaseTrainer

ALL = "all"
NEVER = 2**31  # an epoch that no run reaches
SHOWN = 4  # names in a line


def put_in_force(trainer: BaseTrainer) -> None:
    """Freeze what the user froze and what `freeze` names; before DDP and EMA take the network as it is."""
    if trainer.checkpoint is not None:
        trainer.frozen_by_user |= set(trainer.checkpoint["run"]["frozen_by_user"])
    freezing.keep(trainer.model, trainer.frozen_by_user)
    trainer.frozen_by_user = freezing.frozen_names(trainer.model)  # with what `get_model` of a subclass froze
    trainer.freeze_plan = FreezePlan(
        trainer.model,
        trainer.args.freeze,
        trainer.args.unfreeze_epoch,
        epochs=trainer.epochs if trainer.args.time is None else None,
    )
    trainer.freeze_layer_names = list(trainer.freeze_plan.names)
    trainer.in_force |= trainer.freeze_plan.describe(trainer.model, trainer.args)


class FreezePlan:
    """What the settings froze, and from which epoch on each parameter trains again.

    It acts when an epoch begins in which something thaws, and leaves `requires_grad` alone in all others, so whatever
    a callback flips stays as it is. It never touches what was frozen before it.

    Args:
        model: the network of the run; its parameters are frozen here. None for a plan without anything in it.
        freeze: the setting.
        unfreeze_epoch: n, all of it trains from the epoch with index n on (so it is frozen for n epochs); or
            {epoch: names}, where "all" is what is still frozen.
        epochs: of the run; None if only its time is known.

    Raises:
        SettingValueError: names that mean nothing, thaw nothing or come after the run.
        TrainingError: nothing is left to train.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        freeze: int | str | Sequence[int | str] | None = None,
        unfreeze_epoch: int | Mapping[int, str | Sequence[int | str]] | None = None,
        *,
        epochs: int | None = None,
    ) -> None:
        self.names: list[str] = []  # modules and parameters that are frozen now
        self.thaws: dict[str, int] = {}  # parameter → the epoch from which it trains
        self.reached = -1  # the last epoch whose thaws are done
        if model is None:
            return
        before = freezing.frozen_names(model)
        self.names = freezing.apply(model, freeze)
        self.thaws = dict.fromkeys(sorted(freezing.frozen_names(model) - before), NEVER)
        if unfreeze_epoch is not None:
            self._schedule(model, freeze, unfreeze_epoch, epochs)

    def _schedule(self, model: nn.Module, freeze: Any, unfreeze: Any, epochs: int | None) -> None:
        if not self.names:
            raise SettingValueError(
                f"unfreeze_epoch={unfreeze}, but freeze={freeze} freezes nothing. Say what thaws then, for example "
                "freeze=backbone, or leave unfreeze_epoch out."
            )
        steps: Mapping[int, Any] = {unfreeze: ALL} if isinstance(unfreeze, int) else unfreeze
        for epoch in sorted(steps):
            if epochs is not None and epoch >= epochs:
                raise SettingValueError(
                    f"unfreeze_epoch={unfreeze}: the run has {epochs} epochs, so nothing thaws after {epoch}. "
                    f"Give 1 to {epochs - 1}, or leave it out to keep the layers frozen."
                    if epochs > 1
                    else f"unfreeze_epoch={unfreeze}: a run of one epoch ends before anything thaws. Leave it out."
                )
            frozen = [name for name, thaw in self.thaws.items() if thaw == NEVER]
            if steps[epoch] == ALL:
                names = frozen
            else:
                wanted = freezing.resolve(model, steps[epoch], setting="unfreeze_epoch")
                names = [name for name in frozen if freezing.inside(name, wanted)]
            if not names:
                raise SettingValueError(
                    f"unfreeze_epoch={unfreeze}: in epoch {epoch} {steps[epoch]!r} has nothing that freeze={freeze} "
                    "still holds frozen. Name layers that are frozen until then, or take the entry out."
                )
            self.thaws.update(dict.fromkeys(names, epoch))

    def enter(self, model: nn.Module, epoch: int, names: Sequence[str]) -> list[str]:
        """Let train what thaws up to this epoch.

        Args:
            epoch: counted from 0.
            names: the trainer's list of frozen names, which a user may have changed.

        Returns:
            That list without what no longer has anything frozen.
        """
        due = {name for name, thaw in self.thaws.items() if self.reached < thaw <= epoch}
        self.reached = epoch
        if not due:
            return list(names)
        for name, parameter in unwrap(model).named_parameters():
            if name in due:
                parameter.requires_grad = True
        still = [name for name, thaw in self.thaws.items() if thaw > epoch]
        ours, self.names = self.names, [each for each in self.names if any(freezing.inside(n, [each]) for n in still)]
        gone = set(ours) - set(self.names)
        LOGGER.info(f"epoch {epoch + 1}: {_some(sorted(gone) or sorted(due))} trains again ({len(due)} tensors)")
        return [name for name in names if _plain(name) not in gone]

    def settle(self, model: nn.Module, names: Sequence[str], freeze_bn: bool | None) -> None:
        """After `model.train()`: frozen BatchNorm goes back into eval mode, and gradients of what is frozen go away.

        BatchNorm is frozen where all its own parameters are. Names that a user added to the trainer's list hold it,
        too; those that were taken from the list let it move.

        Args:
            names: the trainer's list of frozen names.
            freeze_bn: the setting. True holds all BatchNorm if nothing is frozen by `freeze`; False none.
        """
        listed = [_plain(name) for name in names]
        added = [name for name in listed if name not in self.names]
        removed = [name for name in self.names if name not in listed]
        everything = freeze_bn is True and not self.thaws
        if everything:
            for module in model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        freezing.hold_batch_norm(model, added, removed, frozen_too=freeze_bn is not False)
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.grad = None  # one that waited for its step would still move the weight

    def describe(self, model: nn.Module, settings: Settings) -> dict[str, str]:
        """Setting → what it does in this run, for the summary."""
        lines = {}
        if self.thaws:
            total = sum(1 for _ in model.parameters())
            lines["freeze"] = f"{len(self.thaws)} of {total} tensors do not train: {_some(self.names)}"
        if settings.unfreeze_epoch is not None:
            counts: dict[int, int] = {}
            for thaw in self.thaws.values():
                counts[thaw] = counts.get(thaw, 0) + 1
            parts = [f"{count} after {epoch} epochs" for epoch, count in sorted(counts.items()) if epoch != NEVER]
            never = counts.get(NEVER)
            lines["unfreeze_epoch"] = f"train again: {', '.join(parts)}" + (f"; {never} never" if never else "")
        if settings.freeze_bn is not None:
            norms = sum(isinstance(module, _BatchNorm) for module in model.modules())
            if not settings.freeze_bn:
                lines["freeze_bn"] = "statistics of BatchNorm move, also in frozen layers"
            elif self.thaws:
                lines["freeze_bn"] = "statistics of BatchNorm are held where it is frozen"
            else:
                lines["freeze_bn"] = f"statistics of all {norms} BatchNorm layers are held and used in training"
        return lines


def _plain(name: Any) -> str:
    """A name as scripts write it ("model.3.", "3", 3) as our own ("model.3")."""
    text = str(name).rstrip(".")
    return f"model.{text}" if text.isdigit() else text


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= SHOWN else f"{names[0]}, {names[1]}, … {names[-1]}"
