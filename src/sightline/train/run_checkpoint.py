"""What a checkpoint of a run holds.

`best.pt` and `epoch{n}.pt` are light: the EMA weights in float32 and what is needed to use them. `last.pt` has in
addition every state of the run, so that going on from it equals never having stopped. It is written after an epoch, or
after any batch in the middle of one. How a run goes on from it: resume.py.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import sightline
from sightline.models.origin import class_path
from sightline.models.rebuild import plain_description
from sightline.train import freeze, time_budget
from sightline.train.ema import unwrap
from sightline.train.random_states import random_state

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


def light_state(trainer: BaseTrainer) -> dict[str, Any]:
    """The trained network: EMA weights, its description, names, settings and scores."""
    model = trainer.ema.ema
    return {
        "format": "sightline",
        "version": sightline.__version__,
        "task": trainer.task,
        **plain_description(model),
        "model": model.state_dict(),
        "args": trainer.args.to_dict(),
        "origins": trainer.args.origins(),
        "data": str(trainer.args.data),
        "epoch": trainer.epoch,
        "fitness": trainer.fitness,
        "goals": {goal.name: goal.value for goal in trainer.goals},
        "metrics": {name: None if value is None else float(value) for name, value in trainer.metrics.items()},
    }


def full_state(trainer: BaseTrainer, *, in_epoch: bool = False) -> dict[str, Any]:
    """`light_state` and all that moves during a run. Gradients that wait for their step are part of it.

    Args:
        in_epoch: the epoch is not at its end: `batch_index` says which batch was the last.
    """
    model = unwrap(trainer.model)
    criterion = getattr(model, "criterion", None)
    pending = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    run = {
        "raw_model": model.state_dict(),
        "ema": trainer.ema.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.schedule.state_dict(),
        "scheduler_class": scheduler_class(trainer.schedule),
        "scaler": trainer.scaler.state_dict(),
        "stopper": trainer.stopper.state_dict(),
        "criterion": criterion.state_dict() if hasattr(criterion, "state_dict") else {},
        "pending_gradients": pending,
        "frozen_by_user": sorted(trainer.frozen_by_user),
        "frozen": sorted(freeze.frozen_names(model)),
        "freeze_layer_names": [str(name) for name in trainer.freeze_layer_names],
        "batches_done": trainer.batch_index + 1 if in_epoch else None,  # of the epoch; None: all, and it is recorded
        "batches_since_step": trainer.iteration - trainer.last_opt_step,
        "loss_names": list(trainer.loss_names),
        "plot_idx": list(trainer.plot_idx),
        "stop_training": trainer.stop_training,
        "best_fitness": trainer.best_fitness,
        "best_written": trainer.best_written,
        "goals": trainer.goals.state_dict(),
        "history": trainer.history,
        "time": trainer.time_before + time_budget.elapsed(trainer),
        "ranks": trainer.rank_states,
        "objects": trainer.args.objects(),
        "trainer": class_path(type(trainer)),
        "save_dir": str(trainer.save_dir),
        "made_with": circumstances(trainer),
    }
    return {**light_state(trainer), "run": run}


def rank_state(trainer: BaseTrainer, *, in_epoch: bool = False) -> dict[str, Any]:
    """What each rank has of its own, to be gathered for `full_state`. With several it is on the CPU, as it travels."""
    state: dict[str, Any] = {
        "random": random_state(),
        "callbacks": [{"class": class_path(type(each)), "state": each.state_dict()} for each in trainer.objects],
        "guard": trainer.guard.state_dict(),
        "micro_batches": trainer.micro_batches.state_dict(),
        "dumps": trainer.dumps.state_dict(),
    }
    if in_epoch:  # at its end, running means and BatchNorm's statistics are those of all ranks together
        state |= {
            "random_before_batches": trainer.random_before_batches,
            "tloss": trainer.tloss,
            "loss": trainer.loss,
            "buffers": _buffers(unwrap(trainer.model)),
            "ema_buffers": _buffers(trainer.ema.ema),
        }
    return _on_cpu(state) if trainer.world_size > 1 else state


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in model.named_buffers() if buffer.is_floating_point()}


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {name: _on_cpu(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(item) for item in value)
    return value


def circumstances(trainer: BaseTrainer) -> dict[str, Any]:
    """Versions and what else decides the last digits of a sum."""
    return {
        "sightline": sightline.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": trainer.device.type,
        "precision": trainer.precision.name,
        "threads": torch.get_num_threads(),
        "processes": trainer.world_size,
    }


def scheduler_class(schedule: Any) -> str:
    """Of the scheduler, which one of torch's has inside."""
    return class_path(type(getattr(schedule, "scheduler", schedule)))
