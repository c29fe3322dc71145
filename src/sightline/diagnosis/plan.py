"""What can be said of settings before a run: combinations that often go wrong, each with its reason and a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sightline.diagnosis.finding import Finding

SGD_FAMILY = ("sgd", "musgd")
SGD_RANGE, SGD_WILD = (0.008, 0.02), 0.1
ADAM_FAMILY = ("adam", "adamw", "nadam", "radam", "adamax", "rmsprop")  # they divide by the size of the gradient
ADAM_RANGE, ADAM_WILD = (3e-4, 1e-3), 1e-2
FEWEST_FOR_BATCH_NORM = 4  # images a device whose mean and variance still say something
FEW_FOR_BATCH_NORM = 8
FEWEST_STEPS = 100  # of an optimizer, in which hardly anything is learnt
STEP_RANGE = (32, 128)  # images behind an optimizer step
MEASURE = "`sightline batch-find` measures how noisy they are."


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that is about to begin, as plain values.

    Attributes:
        lr_factor: of `lr_scale` on lr0; lr_chosen: somebody wants that lr0, it is not the one of a recipe.
        batch: images of a forward pass, over all processes; accumulate: passes behind a step.
        warmup_epochs: length of the warm-up, whatever it was given in; comes_up: the schedule itself begins low.
        patience: 0 if nothing ends the run early; patience_chosen: somebody wants it to.
        batch_norm: whether the network has BatchNorm layers, None if unknown; synced: over all processes; sync_asked:
            somebody wants that.
        frozen: share of the parameters that cannot move; from_weights: whether training starts from trained weights.
        batches: of an epoch, None if unknown.
    """

    optimizer: str
    lr0: float
    batch: int
    accumulate: int
    processes: int
    epochs: int
    warmup_epochs: float
    patience: int
    val_interval: int
    weight_decay: float
    batch_norm: bool | None
    synced: bool
    frozen: float
    from_weights: bool
    lr_factor: float = 1.0
    sync_asked: bool = False
    comes_up: bool = False
    batches: int | None = None
    patience_chosen: bool = False
    lr_chosen: bool = True

    @property
    def learning_rate(self) -> float:
        """That the run starts from, once it is warm."""
        return self.lr0 * self.lr_factor

    @property
    def images_per_device(self) -> int:
        return self.batch // max(self.processes, 1)

    @property
    def images_normalised_together(self) -> int:
        return self.batch if self.synced else self.images_per_device

    @property
    def images_per_step(self) -> int:
        return self.batch * self.accumulate


def review(plan: Plan) -> list[Finding]:
    """All that is risky about a plan, in the order of the rules."""
    return [finding for rule in RULES for finding in rule(plan)]


def learning_rate(plan: Plan) -> Iterator[Finding]:
    name, lr = plan.optimizer, plan.learning_rate
    kind = name.lower()
    if kind not in SGD_FAMILY + ADAM_FAMILY or not plan.lr_chosen:
        return
    (low, high), wild = (SGD_RANGE, SGD_WILD) if kind in SGD_FAMILY else (ADAM_RANGE, ADAM_WILD)
    usual = f"{low:g} to {high:g}"
    given = f"lr0={plan.lr0:g}" + (f" × {plan.lr_factor:.3g} (lr_scale) = {lr:.3g}" if plan.lr_factor != 1 else "")
    if lr == 0:
        yield Finding("lr0", "error", f"{given}: no weight will move", f"Use {usual} with {name}.")
    elif lr >= wild:
        why = "steps this large throw away what was learnt before"
        if kind in ADAM_FAMILY:
            why = "its steps are as large as lr0 whatever the gradient, so rates of SGD are far too large for it"
        yield Finding(
            "lr0", "warning", f"{given} with {name}: {why}", f"Usual are {usual}; `sightline lr-find` measures one."
        )
    elif lr > high:
        evidence = f"{given} with {name} is above the usual {usual}"
        yield Finding("lr0", "note", evidence, "Watch the first epochs; if the loss jumps, halve it.")
    elif lr < low and plan.from_weights:
        evidence = f"{given} with {name} is below the usual {usual}, which keeps more of the weights that are loaded"
        remedy = f"Right for data like theirs; if scores hardly move, raise it towards {low:g}."
        yield Finding("lr0", "note", evidence, remedy)
    elif lr < low:
        evidence = f"{given} with {name} is below the usual {usual}, and training starts from random weights"
        remedy = f"It will learn slowly: {low:g} or more; small rates are for fine-tuning."
        yield Finding("lr0", "note", evidence, remedy)


def batch_norm(plan: Plan) -> Iterator[Finding]:
    if plan.batch_norm is False:
        return
    yield from _synchronisation(plan)
    images = plan.images_normalised_together
    several = plan.processes > 1 and not plan.synced
    if images < FEWEST_FOR_BATCH_NORM:
        where = "in all" if plan.synced else "a device"
        evidence = f"{_images(images)} {where}: BatchNorm's mean and variance are mostly chance"
        remedy = "A larger batch, norm=gn" + (", or sync_bn=True." if several else ".")
        yield Finding("batch_norm", "warning", f"{evidence}. Accumulation does not help here", remedy)
    elif plan.accumulate > 1 and images < FEW_FOR_BATCH_NORM and not _taken_for_sync_bn(plan):
        evidence = (
            f"{plan.accumulate} passes of {images} images make a step of {plan.images_per_step}, but BatchNorm still "
            f"sees {images} at a time: accumulation is no SyncBN"
        )
        remedy = "For statistics of more images: a larger batch, norm=gn, or several processes with sync_bn=True."
        yield Finding("accumulation", "note", evidence, remedy)


def _synchronisation(plan: Plan) -> Iterator[Finding]:
    """What is over several processes, and what is only taken for it."""
    images = plan.images_per_device
    if plan.sync_asked and plan.processes == 1:
        evidence = "sync_bn=True with one process: there is nothing to synchronise"
        if _taken_for_sync_bn(plan):
            evidence += f", and accumulation is no SyncBN: BatchNorm sees {_images(images)} at a time, not "
            evidence += f"{plan.images_per_step}"
        remedy = "Leave it out; several processes (device=0,1), a larger batch or norm=gn change what is normalised."
        yield Finding("sync_bn", "warning" if _taken_for_sync_bn(plan) else "note", evidence, remedy)
    elif plan.processes > 1 and not plan.synced and FEWEST_FOR_BATCH_NORM <= images < FEW_FOR_BATCH_NORM:
        evidence = f"{plan.processes} processes normalise {images} images each, on their own"
        remedy = "sync_bn=True takes the statistics over all of them."
        yield Finding("sync_bn", "note", evidence, remedy)


def _taken_for_sync_bn(plan: Plan) -> bool:
    """Whether somebody who has one process and accumulates over batches expects BatchNorm to see all of them."""
    return plan.sync_asked and plan.processes == 1 and plan.accumulate > 1


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def effective_batch(plan: Plan) -> Iterator[Finding]:
    images, (low, high) = plan.images_per_step, STEP_RANGE
    made = f"{images} images behind a step (batch={plan.batch} × {plan.accumulate})"
    if images < low:
        evidence = f"{made}: few, so gradients are noisy, which regularises by itself"
        remedy = f"Keep weight_decay at or below {plan.weight_decay:g} and lr0 low, or accumulate to {low} and more."
        yield Finding("effective_batch", "note", evidence, f"{remedy} {MEASURE}")
    elif images > high:
        evidence = f"{made}: many, so gradients have little noise and long runs over-fit more easily"
        remedy = "More augmentation or weight_decay, a longer warm-up, and lr0 higher by about the root of the factor."
        yield Finding("effective_batch", "note", evidence, f"{remedy} {MEASURE}")


def warm_up(plan: Plan) -> Iterator[Finding]:
    warm = plan.warmup_epochs
    if warm >= max(plan.epochs / 2, 1) and plan.epochs > 1:
        evidence = (
            f"the warm-up takes {round(warm, 1):g} of {plan.epochs} epochs: the full learning rate comes late or never"
        )
        yield Finding("warm_up", "warning", evidence, "A tenth of the run, at most 3 to 5 epochs.")
    elif warm == 0 and plan.epochs > 1 and not plan.from_weights and not plan.comes_up:
        evidence = f"no warm-up, from random weights: the first steps go with the whole lr0={plan.learning_rate:g}"
        adam = plan.optimizer.lower() in ADAM_FAMILY
        remedy = "warmup_epochs=3" + (", which Adam's second moments need, too." if adam else ".")
        yield Finding("warm_up", "note", evidence, remedy)


def frozen_layers(plan: Plan) -> Iterator[Finding]:
    if plan.frozen >= 1:
        yield Finding("frozen_layers", "error", "every parameter is frozen", "Lower freeze=.")
    elif plan.frozen > 0 and not plan.from_weights:
        evidence = (
            f"{100 * plan.frozen:.2g}% of the parameters are frozen at random values, since no weights are loaded"
        )
        yield Finding("frozen_layers", "warning", evidence, "Start from weights (model=….pt), or leave freeze out.")
    elif plan.frozen > 0.9:
        evidence = f"{plan.frozen:.0%} of the parameters are frozen"
        yield Finding("frozen_layers", "note", evidence, "Little can be learnt: freeze=backbone is usual.")


def patience(plan: Plan) -> Iterator[Finding]:
    if not plan.patience:
        return
    if plan.patience < 2 * plan.val_interval:
        evidence = (
            f"patience={plan.patience} with a validation every {plan.val_interval} epochs: one bad score ends the run"
        )
        remedy = f"patience={10 * plan.val_interval} or more."
        yield Finding("patience", "warning", evidence, remedy)
    elif plan.patience < min(10, plan.epochs / 4) or plan.patience <= plan.warmup_epochs:
        evidence = f"patience={plan.patience} of {plan.epochs} epochs: scores wobble longer than that between gains"
        yield Finding("patience", "warning", evidence, f"A tenth of the run: {max(plan.epochs // 10, 10)}.")
    elif plan.patience >= plan.epochs and plan.patience_chosen:
        evidence = f"patience={plan.patience} of {plan.epochs} epochs: nothing stops this run early"
        yield Finding("patience", "note", evidence, "Lower it to end a run that gains nothing.")


def few_steps(plan: Plan) -> Iterator[Finding]:
    if plan.batches is None:
        return
    steps = plan.batches * plan.epochs // plan.accumulate
    if steps < FEWEST_STEPS:
        evidence = f"the whole run has {steps} optimizer steps ({plan.batches} batches × {plan.epochs} epochs"
        evidence += f" / {plan.accumulate})" if plan.accumulate > 1 else ")"
        remedy = "More epochs, or a smaller batch" + (", or nbs=batch." if plan.accumulate > 1 else ".")
        yield Finding("few_steps", "note", evidence, remedy)


RULES: tuple[Callable[[Plan], Iterator[Finding]], ...] = (
    learning_rate,
    batch_norm,
    effective_batch,
    warm_up,
    frozen_layers,
    patience,
    few_steps,
)
