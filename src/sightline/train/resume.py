"""How a run goes on from its last.pt.

What that holds: run_checkpoint.py; what may change on the way: resume_rules.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.artifacts.checkpoint import load_checkpoint, load_latest
from sightline.artifacts.run_dir import checkpoint_to_resume
from sightline.artifacts.tables import ResultsTable
from sightline.config import rivals
from sightline.data.own_loader import passes_over
from sightline.errors import CheckpointError, SettingValueError
from sightline.files import aside_of, previous_of
from sightline.log import LOGGER
from sightline.models.origin import class_path, read_origin
from sightline.models.rebuild import load_strictly, rebuild
from sightline.train import freeze, resume_rules
from sightline.train.ema import unwrap
from sightline.train.random_states import random_state, set_random_state
from sightline.train.run_checkpoint import circumstances, scheduler_class
from sightline.train.schedule import Schedule

if TYPE_CHECKING:
    from sightline.config.settings import Settings
    from sightline.train.trainer import BaseTrainer


def read(settings: Settings) -> dict[str, Any]:
    """The checkpoint that `resume=` names; its settings become those of the run, except for what the user gives now.

    Raises:
        MissingInputError: there is no such file.
        CheckpointError: the file holds weights only.
        SettingValueError: the run is finished, or it needs an object that a file cannot hold.
    """
    checkpoint, path = load_latest(checkpoint_to_resume(settings.resume, settings.model), load_checkpoint)
    checkpoint["read_from"] = path
    if "run" not in checkpoint:
        raise CheckpointError(
            f"{path} holds weights only, so a run cannot go on from it. Resume from last.pt of that run, "
            "or start a new run from these weights with model=… and without resume."
        )
    given = {name for name, origin in settings.origins().items() if origin not in ("default", "auto")}
    if settings.optimizer == "auto":
        given.discard("optimizer")  # what that means was decided when the run began
    resume_rules.check(path, settings, given, checkpoint["args"])
    _require_objects(path, given, checkpoint["run"].get("objects", {}))
    if "model" in given:  # "last.pt" says which run goes on, not what that began with
        _say_whose_network(path, settings.model, checkpoint["args"].get("model"))
        given.discard("model")
    replaced = rivals.replaced_by(given)  # `accumulate` now, `nbs` before
    for name, value in checkpoint["args"].items():
        if name not in given | replaced and name not in ("resume", "save_dir", "mode"):
            settings.assign(name, value, origin=checkpoint["origins"].get(name, "checkpoint"))
    if "save_dir" not in given:
        settings.assign("save_dir", str(path.parent.parent), origin="checkpoint")
    settings.assign("exist_ok", True, origin="checkpoint")
    done = first_epoch(checkpoint)
    if done >= settings.epochs:
        raise SettingValueError(
            f"resume={path}: this run is finished ({done} of {settings.epochs} epochs). "
            "Give epochs= a larger number to go on, or start a new run with model=best.pt."
        )
    return checkpoint


def first_epoch(checkpoint: dict[str, Any]) -> int:
    """The epoch that a run goes on with, counted from 0; perhaps in its middle."""
    return checkpoint["epoch"] + (checkpoint["run"].get("batches_done") is None)


def _say_whose_network(path: Path, now: str | None, before: str | None) -> None:
    """Warn where a network is named that is neither this run nor what it began with."""
    named = Path(str(now))
    if now is not None and named.absolute().parent != path.absolute().parent and named.name != Path(str(before)).name:
        LOGGER.warning(
            f"resume={path}: the run goes on with its own network (model={before}); model={now} counts for nothing. "
            "To train that, start a new run: leave resume out."
        )


def _require_objects(path: Path, given: set[str], before: dict[str, str]) -> None:
    """Functions and classes stay in the program that the run was started from. Without them it would be another run."""
    missing = [name for name in before if name not in given]
    if missing:
        again = ", ".join(f"{name}={before[name]}" for name in missing)
        without = ", ".join(f"{name}=None" for name in missing)
        # What is best so far was measured with it, so without it there is nothing to compare with.
        advice = "" if "fitness" in missing else f" To go on without it, say {without}."
        raise SettingValueError(
            f"resume={path}: this run was started with {again}, which a checkpoint cannot hold. Give it again, from "
            f"Python: train(resume=…, {again}).{advice}"
        )


def restore(trainer: BaseTrainer, checkpoint: dict[str, Any]) -> None:
    """Put the state of every part back."""
    run, model = checkpoint["run"], unwrap(trainer.model)
    trainer.goals.load_state_dict(run.get("goals", []))
    model.load_state_dict(run["raw_model"])
    trainer.ema.load_state_dict(run["ema"])
    trainer.optimizer.load_state_dict(run["optimizer"])
    trainer.schedule.load_state_dict(run["scheduler"])
    resume_rules.put_in_force(trainer, checkpoint["args"])
    run["groups"], run["schedule"] = [dict(group) for group in trainer.optimizer.param_groups], trainer.schedule
    trainer.scaler.load_state_dict(run["scaler"])
    trainer.stopper.load_state_dict(run["stopper"])
    _restore_frozen(trainer, checkpoint)
    if run["criterion"]:
        make = getattr(model, "make_criterion", None) or model.init_criterion
        model.criterion = make()
        model.criterion.load_state_dict(run["criterion"])
    for name, parameter in model.named_parameters():
        if name in run["pending_gradients"]:
            parameter.grad = run["pending_gradients"][name].to(parameter.device)
    _restore_rank(trainer, run)


def _restore_rank(trainer: BaseTrainer, run: dict[str, Any]) -> None:
    """What this rank had of its own. A rank that was not there before begins as rank 0, with fresh random numbers."""
    states = run["ranks"]
    mine = states[trainer.rank] if trainer.rank < len(states) else states[0]
    trainer.guard.load_state_dict(mine["guard"], trainer.device)
    trainer.micro_batches.load_state_dict(mine["micro_batches"])
    trainer.micro_batches.restore_validation(trainer.validator)
    trainer.dumps.load_state_dict(mine["dumps"])
    if run["batches_done"] is None:
        return
    for model, name in ((unwrap(trainer.model), "buffers"), (trainer.ema.ema, "ema_buffers")):
        buffers = dict(model.named_buffers())
        for buffer, value in mine[name].items():
            buffers[buffer].copy_(value)
    trainer.loss_names = tuple(run["loss_names"])
    if mine["tloss"] is not None:
        trainer.tloss = {name: value.to(trainer.device) for name, value in mine["tloss"].items()}
    trainer.loss = None if mine["loss"] is None else mine["loss"].to(trainer.device)


def _restore_frozen(trainer: BaseTrainer, checkpoint: dict[str, Any]) -> None:
    """Which parameters train, with what callbacks have flipped; unless the settings about it are others now."""
    run, before = checkpoint["run"], checkpoint["args"]
    same = all(getattr(trainer.args, name) == before.get(name) for name in ("freeze", "unfreeze_epoch"))
    if same and "frozen" in run:
        trainer.freeze_layer_names = trainer.freeze_plan.enter(
            unwrap(trainer.model), checkpoint["epoch"], trainer.freeze_layer_names
        )
        freeze.set_frozen(unwrap(trainer.model), run["frozen"])
        trainer.freeze_layer_names = list(run["freeze_layer_names"])


def go_on(trainer: BaseTrainer, checkpoint: dict[str, Any]) -> None:
    """Set everything that says where the run is."""
    run = checkpoint["run"]
    trainer.best_fitness, trainer.best_written = run["best_fitness"], run["best_written"]
    trainer.history, trainer.time_before = run["history"], run["time"]
    trainer.metrics, trainer.fitness = dict(checkpoint["metrics"]), checkpoint["fitness"]
    trainer.start_epoch = trainer.epoch = first_epoch(checkpoint)
    trainer.first_batch = _first_batch(trainer, checkpoint)
    # Counted anew, since another batch size makes epochs of another length.
    last_batch = trainer.start_epoch * len(trainer.train_loader) + trainer.first_batch - 1
    trainer.last_opt_step = last_batch - run["batches_since_step"]
    trainer.plot_idx = list(run["plot_idx"])
    _restore_callbacks(trainer, run)
    if trainer.rank == 0:
        ResultsTable(trainer.csv).keep_epochs(trainer.start_epoch)
        _set_aside(trainer, checkpoint["read_from"])
    if trainer.best_written is not None and math.isfinite(trainer.best_written) and not trainer.best.exists():
        LOGGER.warning(f"{trainer.best} is gone; the best of the epochs from now on is written instead")
    _say_what_is_different(trainer, run.get("made_with", {}))
    change = trainer.schedule.change_since(run["scheduler"]) if isinstance(trainer.schedule, Schedule) else ""
    if change:
        LOGGER.info(change)
    done, batches = trainer.first_batch, len(trainer.train_loader)
    place = "" if not done else f", batch {done + 1} of {batches}" if done < batches else ", after its last batch,"
    LOGGER.info(f"going on with epoch {trainer.start_epoch + 1} of {trainer.epochs}{place} in {trainer.save_dir}")


def _set_aside(trainer: BaseTrainer, read_from: Path) -> None:
    """The next save keeps the last.pt that it finds as the previous one, which a damaged one must not become."""
    if read_from.resolve() == previous_of(trainer.last).resolve() and trainer.last.exists():
        trainer.last.replace(aside_of(trainer.last))
        LOGGER.info(f"{trainer.last} is {aside_of(trainer.last).name} now")


def _first_batch(trainer: BaseTrainer, checkpoint: dict[str, Any]) -> int:
    """Where in the epoch to go on. Of batches of another size, as many as show no image of the epoch unseen."""
    done = checkpoint["run"]["batches_done"] or 0
    before = int(checkpoint["args"]["batch"])
    if done and before != trainer.batch_size:
        done = done * before // trainer.batch_size
    return min(done, len(trainer.train_loader))


def _say_what_is_different(trainer: BaseTrainer, before: dict[str, Any]) -> None:
    now = circumstances(trainer)
    changed = [f"{name} {before[name]} → {value}" for name, value in now.items() if before.get(name, value) != value]
    if changed:
        LOGGER.warning(
            f"resume={trainer.args.resume}: {', '.join(changed)} since it was written. The run goes on, but not to the "
            "same last digit as before."
        )


def settle(trainer: BaseTrainer, *, in_epoch: bool) -> None:
    """The last thing before a resumed run makes its first step: what the events on the way here have changed once
    more is put back.

    Args:
        in_epoch: called at the start of every epoch, after its events; it acts once, where the checkpoint lies in the
            middle of that epoch. Without, called before the first epoch, and acts if the checkpoint lies before it.
    """
    checkpoint = trainer.checkpoint
    if checkpoint is None or "run" not in checkpoint:
        return
    run = checkpoint["run"]
    if in_epoch != (run["batches_done"] is not None):
        trainer.settings_before_epoch = dict(trainer.args.items())
        return
    if in_epoch:
        _restore_settings(trainer)
        trainer.stop_training, trainer.plot_idx = run["stop_training"], list(run["plot_idx"])
        trainer.batch_index = max(trainer.first_batch - 1, 0)
        _restore_rank(trainer, run)
        _restore_frozen(trainer, checkpoint)
        trainer._model_train()
    _restore_rates(trainer, run)
    _restore_callbacks(trainer, run, quiet=True)
    states = run["ranks"]
    if trainer.rank < len(states):  # more ranks than before have fresh ones
        set_random_state(states[trainer.rank]["random"])
        trainer.random_before_batches = states[trainer.rank].get("random_before_batches")
    del checkpoint["run"]  # a second copy of everything, which nobody needs any more


def _restore_settings(trainer: BaseTrainer) -> None:
    """A callback that halves a setting at the start of an epoch has done so before the checkpoint, and now again."""
    for name, value in trainer.settings_before_epoch.items():
        if getattr(trainer.args, name) is not value and getattr(trainer.args, name) != value:
            trainer.args.assign(name, value, origin=trainer.args.origin(name))
    trainer.live.follow()


def _restore_rates(trainer: BaseTrainer, run: dict[str, Any]) -> None:
    """Learning rates and momenta as `restore` left them, also where a callback sets them at the start; and the state of
    a scheduler that a callback has put in the place of ours, or that makes a step at every start."""
    groups = run["groups"]
    if [len(group["params"]) for group in groups] != [len(g["params"]) for g in trainer.optimizer.param_groups]:
        return  # a user's own, made in a callback, of which nothing is saved
    for group, saved in zip(trainer.optimizer.param_groups, groups, strict=True):
        group.update({name: value for name, value in saved.items() if name != "params"})
    ours = isinstance(trainer.schedule, Schedule) and trainer.schedule is run["schedule"]
    if not ours and scheduler_class(trainer.schedule) == run["scheduler_class"]:
        trainer.schedule.load_state_dict(run["scheduler"])


def starts_at(trainer: BaseTrainer) -> int:
    """The first batch of this epoch: 0, but for the first epoch of a run that goes on in its middle."""
    return trainer.first_batch if trainer.epoch == trainer.start_epoch else 0


def remaining_batches(trainer: BaseTrainer) -> Iterator[tuple[int, Any]]:
    """The batches of this epoch with their numbers; in the first of a resumed run, those that it has not had."""
    loader, start = trainer.train_loader, starts_at(trainer)
    if start == 0 or passes_over(loader):
        if start == 0:
            # A user's loader draws its order from the generators of the process, as torch's own does.
            trainer.random_before_batches = random_state()
        yield from enumerate(loader, start)
        return
    LOGGER.info(f"{type(loader).__name__}: the first {start} batches of the epoch are read once more and dropped")
    now = random_state()
    if trainer.random_before_batches is not None:
        set_random_state(trainer.random_before_batches)
    batches = iter(loader)
    for _ in range(start):
        next(batches, None)
    set_random_state(now)
    yield from enumerate(batches, start)


def network_to_resume(trainer: Any, checkpoint: dict[str, Any], *, ask_get_model: bool) -> Any:
    """The network of the run, with its raw weights.

    Args:
        trainer: before its first epoch.
        checkpoint: of the run.
        ask_get_model: the trainer's class makes its networks itself: it is asked with the saved description and
            weights, so that classes which no file can find again, and layers changed there, are as they were.

    Raises:
        ModelError, CheckpointError: it cannot be made again.
    """
    _compare_trainers(trainer, checkpoint["run"].get("trainer"))
    state, file = checkpoint["run"]["raw_model"], str(trainer.args.resume)
    given = trainer.source
    if ask_get_model:
        made = trainer.get_model(cfg=checkpoint["yaml"], weights=state, verbose=False)
        load_strictly(made, state, file, what=f"{type(trainer).__name__}.get_model")
        return made
    return rebuild(
        checkpoint["yaml"],
        nc=trainer.data["nc"],
        names=trainer.data["names"],
        state=state,
        origin=read_origin(checkpoint.get("network")),
        file=file,
        like=given,
    )


def _compare_trainers(trainer: Any, before: str | None) -> None:
    now = class_path(type(trainer))
    if before is not None and before != now:
        LOGGER.warning(
            f"resume={trainer.args.resume}: this run was trained with {before} and goes on with {now}. To go on as "
            f"before, pass its class: train(trainer={before.rpartition(':')[2]}, resume=True)."
        )


def _restore_callbacks(trainer: Any, run: dict[str, Any], *, quiet: bool = False) -> None:
    """Hand each state to the callback of its class; several of one class keep their order."""
    left = list(trainer.objects)
    states = run["ranks"]
    for entry in (states[trainer.rank] if trainer.rank < len(states) else states[0])["callbacks"]:
        found = next((each for each in left if class_path(type(each)) == entry["class"]), None)
        if found is not None:
            left.remove(found)
            found.load_state_dict(copy.deepcopy(entry["state"]))  # it comes once more: `settle`
        elif entry["state"] and not quiet:
            LOGGER.warning(
                f"resume={trainer.args.resume}: the run had a callback {entry['class']} with a state, and now there is "
                "none of that class. Add it before resuming, to go on as before."
            )
