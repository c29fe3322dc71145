"""What a checkpoint of a run holds, and how a run goes on from it.

`best.pt` and `epoch{n}.pt` are light: the EMA weights in float32 and what is needed to use them. `last.pt` has in
addition every state of the run, so that going on from it equals never having stopped.
"""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import sightline
from sightline.artifacts.checkpoint import load_checkpoint
from sightline.artifacts.run_dir import checkpoint_to_resume
from sightline.artifacts.tables import ResultsTable
from sightline.config import rivals
from sightline.errors import CheckpointError, SettingValueError
from sightline.log import LOGGER
from sightline.models.origin import class_path, read_origin
from sightline.models.rebuild import load_strictly, plain_description, rebuild
from sightline.train import freeze
from sightline.train.ema import unwrap
from sightline.train.lr_groups import LR_FACTORS

if TYPE_CHECKING:
    from sightline.config.settings import Settings
    from sightline.train.trainer import BaseTrainer


# What the states in a checkpoint decide, so that another value would not be in force.
FIXED = (
    *("task", "optimizer", "lr0", "momentum", "weight_decay", *LR_FACTORS),
    *("single_cls", "pretrained", "cls_remap", "norm"),
)


def light_state(trainer: BaseTrainer) -> dict[str, Any]:
    """The trained network: EMA weights, its description, names, settings and scores."""
    model = trainer.ema.ema
    return {
        "format": "sightline",
        "version": sightline.__version__,
        "task": trainer.task,
        **plain_description(model),
        "model": {name: value.detach().cpu().clone() for name, value in model.state_dict().items()},
        "args": trainer.args.to_dict(),
        "origins": trainer.args.origins(),
        "data": str(trainer.args.data),
        "epoch": trainer.epoch,
        "fitness": trainer.fitness,
        "goals": {goal.name: goal.value for goal in trainer.goals},
        "metrics": {name: None if value is None else float(value) for name, value in trainer.metrics.items()},
    }


def full_state(trainer: BaseTrainer) -> dict[str, Any]:
    """`light_state` and all that moves during a run. Gradients that wait for their step are part of it."""
    model = unwrap(trainer.model)
    criterion = getattr(model, "criterion", None)
    pending = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    run = {
        "raw_model": model.state_dict(),
        "ema": trainer.ema.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.schedule.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "stopper": trainer.stopper.state_dict(),
        "criterion": criterion.state_dict() if hasattr(criterion, "state_dict") else {},
        "pending_gradients": pending,
        "frozen_by_user": sorted(trainer.frozen_by_user),
        "frozen": sorted(freeze.frozen_names(model)),
        "freeze_layer_names": [str(name) for name in trainer.freeze_layer_names],
        "batches_since_step": trainer.iteration - trainer.last_opt_step,
        "best_fitness": trainer.best_fitness,
        "best_written": trainer.best_written,
        "goals": trainer.goals.state_dict(),
        "history": trainer.history,
        "time": trainer.time_before + time.time() - trainer.train_time_start,
        "random": random_state(),
        "random_of_ranks": trainer.random_states[1:],
        "objects": trainer.args.objects(),
        "callbacks": [{"class": class_path(type(each)), "state": each.state_dict()} for each in trainer.objects],
        "trainer": class_path(type(trainer)),
        "finished": trainer.epoch + 1 >= trainer.epochs,
        "save_dir": str(trainer.save_dir),
    }
    return {**light_state(trainer), "run": run}


def read(settings: Settings) -> dict[str, Any]:
    """The checkpoint that `resume=` names; its settings become those of the run, except for what the user gives now.

    Raises:
        MissingInputError: there is no such file.
        CheckpointError: the file holds weights only.
        SettingValueError: the run is finished, or it needs an object that a file cannot hold.
    """
    path = checkpoint_to_resume(settings.resume, settings.model)
    checkpoint = load_checkpoint(path)
    if "run" not in checkpoint:
        raise CheckpointError(
            f"{path} holds weights only, so a run cannot go on from it. Resume from last.pt of that run, "
            "or start a new run from these weights with model=… and without resume."
        )
    given = {name for name, origin in settings.origins().items() if origin not in ("default", "auto")}
    if settings.optimizer == "auto":
        given.discard("optimizer")  # what that means was decided when the run began
    _refuse_changes(path, settings, given, checkpoint["args"])
    _require_objects(path, given, checkpoint["run"].get("objects", {}))
    replaced = rivals.replaced_by(given)  # `accumulate` now, `nbs` before
    for name, value in checkpoint["args"].items():
        if name not in given | replaced and name not in ("resume", "save_dir", "mode"):
            settings.assign(name, value, origin=checkpoint["origins"].get(name, "checkpoint"))
    if "save_dir" not in given:
        settings.assign("save_dir", str(path.parent.parent), origin="checkpoint")
    settings.assign("exist_ok", True, origin="checkpoint")
    if checkpoint["epoch"] + 1 >= settings.epochs:
        raise SettingValueError(
            f"resume={path}: this run is finished ({checkpoint['epoch'] + 1} of {settings.epochs} epochs). "
            "Give epochs= a larger number to go on, or start a new run with model=best.pt."
        )
    return checkpoint


def _refuse_changes(path: Path, settings: Settings, given: set[str], before: dict[str, Any]) -> None:
    """A setting that the restored state decides would be in args.yaml and nowhere else."""
    changed = [name for name in FIXED if name in given and getattr(settings, name) != before.get(name)]
    if changed:
        now = " ".join(f"{name}={getattr(settings, name)}" for name in changed)
        raise SettingValueError(
            f"resume={path}: {now} cannot change in a run that goes on; it has "
            f"{', '.join(f'{name}={before.get(name)}' for name in changed)}. Leave it out, "
            f"or start a new run from the weights: model={path} {now}"
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
    """Set everything that says where the run is; the next epoch is the one after the checkpoint's."""
    run = checkpoint["run"]
    trainer.best_fitness, trainer.best_written = run["best_fitness"], run["best_written"]
    trainer.history, trainer.time_before = run["history"], run["time"]
    trainer.metrics, trainer.fitness = dict(checkpoint["metrics"]), checkpoint["fitness"]
    trainer.start_epoch = trainer.epoch = checkpoint["epoch"] + 1
    # Counted anew, since another batch size makes epochs of another length.
    last_batch = trainer.start_epoch * len(trainer.train_loader) - 1
    trainer.last_opt_step = last_batch - run["batches_since_step"]
    _restore_callbacks(trainer, run["callbacks"])
    if trainer.rank == 0:
        ResultsTable(trainer.csv).keep_epochs(trainer.start_epoch)
    if trainer.best_written is not None and math.isfinite(trainer.best_written) and not trainer.best.exists():
        LOGGER.warning(f"{trainer.best} is gone; the best of the epochs from now on is written instead")
    states = [run["random"], *run.get("random_of_ranks", [])]
    if trainer.rank < len(states):  # more ranks than before have fresh ones
        set_random_state(states[trainer.rank])
    LOGGER.info(f"going on with epoch {trainer.start_epoch + 1} of {trainer.epochs} in {trainer.save_dir}")


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


def _restore_callbacks(trainer: Any, states: list[dict[str, Any]]) -> None:
    """Hand each state to the callback of its class; several of one class keep their order."""
    left = list(trainer.objects)
    for entry in states:
        found = next((each for each in left if class_path(type(each)) == entry["class"]), None)
        if found is not None:
            left.remove(found)
            found.load_state_dict(entry["state"])
        elif entry["state"]:
            LOGGER.warning(
                f"resume={trainer.args.resume}: the run had a callback {entry['class']} with a state, and now there is "
                "none of that class. Add it before resuming, to go on as before."
            )


def random_state() -> dict[str, Any]:
    """The states of the process-wide generators, as plain values. (Samples do not use them: decision 3.)"""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "python": [version, list(words), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([value.cpu() for value in state["cuda"]])
