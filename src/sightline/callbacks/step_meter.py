"""What the steps of an epoch were like: gradients, updates, the average of the weights, time spent waiting for batches.

Numbers stay on the device until the epoch ends and are read there in one go. Gradients and updates are looked at in
a few parameters ("witnesses") of the head and of the rest, at two steps an epoch.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

WITNESSES = 12  # parameters of each part
VALUES = 4096  # of each of them
SAMPLES = (0.4, 0.8)  # parts of an epoch after which a step is looked at closely
PARTS = ("head", "body")


class Witnesses:
    """A few weights of the head and of the rest, and where they were when the run began."""

    def __init__(self, model: nn.Module) -> None:
        head = f"{head_name(model)}."
        matrices = [(name, p) for name, p in model.named_parameters() if p.ndim >= 2]
        self.names = {
            "head": _spread([name for name, _ in matrices if name.startswith(head)]),
            "body": _spread([name for name, _ in matrices if not name.startswith(head)]),
        }
        self.start = {name: values.clone() for name, values in self.read(model).items()}
        self.before: dict[str, Tensor] = {}

    def read(self, model: nn.Module) -> dict[str, Tensor]:
        """Name → a view of its first values."""
        table = dict(model.named_parameters())
        chosen = (name for part in PARTS for name in self.names[part] if name in table)
        return {name: _some(table[name].detach()) for name in chosen}

    def gradients(self, model: nn.Module) -> Tensor:
        """(2,) norms of the gradients in head and body; NaN where no witness has one."""
        table = dict(model.named_parameters())
        norms = []
        for part in PARTS:
            found = [table[name].grad for name in self.names[part] if name in table]
            found = [_some(grad) for grad in found if grad is not None]
            norms.append(_norm(found, like=next(iter(self.start.values()))))
        return torch.stack(norms)

    def remember(self, model: nn.Module) -> None:
        """Just before a step."""
        self.before = {name: values.clone() for name, values in self.read(model).items()}

    def updates(self, model: nn.Module) -> Tensor:
        """(3,) ‖Δw‖ / ‖w‖ of the step since `remember`: all, head, body; frozen parameters left out."""
        moving = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        now, ratios = self.read(model), []
        for parts in (PARTS, PARTS[:1], PARTS[1:]):
            names = [n for part in parts for n in self.names[part] if n in moving and n in self.before and n in now]
            moved = _norm([now[name] - self.before[name] for name in names], like=next(iter(self.start.values())))
            ratios.append(moved / _norm([self.before[name] for name in names], like=moved).clamp(min=1e-12))
        self.before = {}
        return torch.stack(ratios)

    def lag(self, model: nn.Module, average: nn.Module) -> Tensor:
        """() ‖average − w‖ / ‖w − w at the start‖: 1 for an average that has stayed where the run began."""
        now, mean = self.read(model), self.read(average)
        names = [name for name in now if name in mean and name in self.start]
        like = next(iter(self.start.values()))
        away = _norm([now[name] - self.start[name].to(now[name].device) for name in names], like=like)
        return _norm([mean[name] - now[name] for name in names], like=like) / away.clamp(min=1e-12)


class StepMeter:
    """Collects over an epoch; `finish` reads."""

    def __init__(self) -> None:
        self.norms: Tensor | None = None  # (batches + 1,) gradient norms of this epoch's steps, on the device
        self.steps = 0
        self.measured = 0  # of the steps; a user's own `optimizer_step` need not set `grad_norm`
        self.samples = 0
        self.gradients: list[Tensor] = []
        self.updates: list[Tensor] = []
        self.looking = False  # at the step that is being made
        self.images = self.objects = 0
        self.began = self.ended = 0.0
        self.waited = 0.0
        self.queued: Any = None  # CUDA event behind the last batch

    def begin(self, trainer: BaseTrainer) -> None:
        self.__init__()  # type: ignore[misc]
        self.norms = torch.full((len(trainer.train_loader) + 1,), float("nan"), device=trainer.device)
        self.began = self.ended = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on in the middle of an epoch needs. Times stay out of it: they belong to a process."""
        return {
            "norms": [] if self.norms is None else self.norms[: self.measured].cpu(),
            "steps": self.steps,
            "measured": self.measured,
            "samples": self.samples,
            "images": self.images,
            "objects": self.objects,
            "gradients": [values.cpu() for values in self.gradients],
            "updates": [values.cpu() for values in self.updates],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Into an epoch that has begun."""
        assert self.norms is not None
        device = self.norms.device
        for name in ("steps", "measured", "samples", "images", "objects"):
            setattr(self, name, state[name])
        kept = min(self.measured, len(self.norms))  # another batch size makes another number of steps
        self.measured = kept
        self.norms[:kept] = torch.as_tensor(state["norms"], device=device)[:kept]
        self.gradients = [values.to(device) for values in state["gradients"]]
        self.updates = [values.to(device) for values in state["updates"]]

    def batch_came(self) -> None:
        # On a GPU, time spent here only counts if the device had nothing left to do meanwhile. Asking does not wait.
        if self.queued is None or self.queued.query():
            self.waited += time.perf_counter() - self.ended

    def batch_ended(self, trainer: BaseTrainer) -> None:
        self.images += trainer.images_in_batch
        self.objects += trainer.objects_in_batch
        if trainer.device.type == "cuda":
            self.queued = self.queued or torch.cuda.Event()
            self.queued.record()
        self.ended = time.perf_counter()

    def before_step(self, trainer: BaseTrainer, model: nn.Module, witnesses: Witnesses) -> None:
        done = (trainer.batch_index + 1) / max(len(trainer.train_loader), 1)
        self.looking = self.samples < len(SAMPLES) and done >= SAMPLES[self.samples]
        if self.looking:
            self.samples = sum(done >= part for part in SAMPLES)
            self.gradients.append(witnesses.gradients(model))
            witnesses.remember(model)

    def after_step(self, trainer: BaseTrainer, model: nn.Module, witnesses: Witnesses) -> None:
        if self.looking:
            self.updates.append(witnesses.updates(model))
            self.looking = False
        if isinstance(trainer.grad_norm, Tensor) and self.norms is not None and self.measured < len(self.norms):
            self.norms[self.measured] = trainer.grad_norm.detach()
            self.measured += 1
        self.steps += 1

    def finish(self, lag: Tensor | None) -> dict[str, Any]:
        """Attributes of `Epoch`; the one place that waits for the device."""
        seconds = max(time.perf_counter() - self.began, 1e-9)
        facts: dict[str, Any] = {"steps": self.steps, "images": self.images, "objects": self.objects}
        facts["loader_share"] = self.waited / seconds
        if self.norms is not None:
            norms = self.norms[: self.measured].cpu()
            finite = norms[norms.isfinite()]
            facts["not_finite"] = int(norms.isnan().sum() + norms.isinf().sum())
            if len(finite):
                facts |= {"grad_norm": float(finite.median()), "grad_norm_max": float(finite.max())}
        if self.gradients:
            head, body = torch.stack(self.gradients).cpu().nanmean(0).tolist()
            facts |= {"head_gradient": head, "body_gradient": body}
        if self.updates:
            everything, head, body = torch.stack(self.updates).cpu().nanmean(0).tolist()
            facts |= {"update": everything, "update_head": head, "update_body": body}
        if lag is not None:
            facts["ema_lag"] = float(lag)
        return facts


def head_name(model: nn.Module) -> str:
    """The dotted name of the last layer; a name that nothing has in a network of the user's own."""
    layers = getattr(model, "model", None)
    if isinstance(layers, (nn.Sequential, nn.ModuleList)) and len(layers):
        return f"model.{len(layers) - 1}"
    return "-"


def _spread(names: list[str]) -> list[str]:
    if len(names) <= WITNESSES:
        return names
    # The last ones included: the final layers of the head.
    return [names[round(i * (len(names) - 1) / (WITNESSES - 1))] for i in range(WITNESSES)]


def _some(values: Tensor) -> Tensor:
    """The first rows, about `VALUES` numbers; a view."""
    return values[: max(1, VALUES // max(values[0].numel(), 1))]


def _norm(tensors: list[Tensor], like: Tensor) -> Tensor:
    """() norm of all together; NaN of none."""
    if not tensors:
        return torch.tensor(float("nan"), device=like.device)
    return torch.stack(torch._foreach_norm([t.float() for t in tensors])).norm()
