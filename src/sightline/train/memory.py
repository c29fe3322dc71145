"""`batch=-1` and `batch=0.8`: the largest batch that fits, found by steps that take as much memory as any in the run.

A probe is a whole training step with everything a run has beside the network: optimizer states, the average of the
weights, copies for a rollback; on random images of the largest size that `multi_scale` draws, each as crowded as the
most crowded sample can be; then a validation batch, twice as large. Memory grows in a straight line with the batch, so
a few small probes give the slope, and one of the size that comes out shows whether it is true.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sightline.backends import ranks
from sightline.backends.memory import MemoryMeter, is_out_of_memory, release
from sightline.data.transforms.multi_scale import multi_scale_size
from sightline.errors import SettingValueError
from sightline.log import LOGGER
from sightline.models.copies import copy_of
from sightline.train.ema import ModelEMA

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

SHARE = 0.6  # of the free memory for batch=-1, as people know it: the rest is for others on the machine, and for peaks
LARGEST = 512  # images: beyond that a batch learns less an epoch, however much memory there is
PATIENCE = 60.0  # seconds that a probe may take; a larger one is not tried, its memory is taken from the line
GIB = 2**30


@dataclass(frozen=True)
class Worst:
    """What a batch can be at its worst."""

    size: int  # pixels, of a square image
    objects: int  # of an image
    validation_size: int


def settle(trainer: BaseTrainer) -> None:
    """Replace `batch=-1` or a share by a number, before anything is built with it."""
    asked = trainer.args.batch
    if asked >= 1:
        return
    batch = trainer.auto_batch()
    trainer.args.assign("batch", batch, origin="auto")
    trainer.in_force["batch"] = f"{batch}, chosen for batch={asked:g}"
    if trainer.rehearsal is not None:
        trainer.args.assign("nbs", batch, origin="auto")  # a step for every batch


def choose(trainer: BaseTrainer, *, objects: int, images: int) -> int:
    """The batch of all ranks together.

    Args:
        objects: of the most crowded sample; 0 is taken as 100.
        images: of the training set, which no batch exceeds; 0 if unknown.

    Raises:
        SettingValueError: not even one image fits.
    """
    asked = trainer.args.batch
    share = SHARE if asked == -1 else float(asked)
    began = time.time()
    meter = MemoryMeter(trainer.device)
    on_host = trainer.device.type != "cuda"
    # Ranks on the CPU share the machine; each GPU has a memory of its own.
    budget = share * meter.free / (trainer.world_size if on_host else 1)
    worst = worst_case(trainer, objects or 100)
    reserved = _for_the_rest(trainer, images, meter.free) if on_host else 0
    probe = _Probe(trainer, worst, meter)
    most = min(LARGEST, images // trainer.world_size or LARGEST) if images else LARGEST
    found, need = largest(probe, budget - reserved, most)
    found = min(ranks.gather(found))
    if found < 1:
        raise SettingValueError(
            f"batch={asked:g}: one image of {worst.size} pixels with {worst.objects} objects takes "
            f"{(need + reserved) / GIB:.2f} GiB in a step; {share:.0%} of the free memory are {budget / GIB:.2f} GiB. "
            f"Lower imgsz (now {trainer.args.imgsz}) or multi_scale (now {trainer.args.multi_scale:g}), take a smaller "
            "model, or free memory."
        )
    batch = found * trainer.world_size
    LOGGER.info(
        f"batch={asked:g}: {batch} images take {(need + reserved) / GIB:.2f} GiB of {meter.free / GIB:.2f} GiB free"
        f"{f' on each of {trainer.world_size} ranks' if trainer.world_size > 1 else ''}, tried with "
        f"{worst.size} pixels, {worst.objects} objects an image, optimizer, average and validation "
        f"({time.time() - began:.1f} s)"
    )
    return batch


def worst_case(trainer: BaseTrainer, objects: int) -> Worst:
    """The largest image a batch of this run can hold."""
    settings, stride = trainer.args, int(trainer.stride)
    imgsz = settings.imgsz if isinstance(settings.imgsz, int) else max(settings.imgsz)
    size = imgsz
    if settings.multi_scale:
        # The sizes are drawn; of a few hundred draws the largest is the end of the range.
        draws = (
            multi_scale_size(imgsz, settings.multi_scale, stride, seed=0, epoch=0, iteration=i) for i in range(500)
        )
        size = max(imgsz, *draws)
    # Rectangular validation batches have a border of half a stride, rounded up.
    return Worst(size=size, objects=objects, validation_size=imgsz + stride)


def largest(probe: Callable[[int], tuple[float, float]], budget: float, most: int) -> tuple[int, float]:
    """The most images whose step fits into a budget, and what that takes.

    Args:
        probe: images → (bytes at the peak, seconds); infinite bytes where the memory ran out.
        budget: bytes.
        most: never more images than this.

    Returns:
        0 images if not even one fits, with what one takes.
    """
    known: dict[int, tuple[float, float]] = {}

    def need(count: int) -> float:
        if count not in known:
            known[count] = probe(count)
        return known[count][0]

    if need(1) > budget:
        return 0, known[1][0]
    good, bad = 1, most + 1
    for count in (2, 4):
        if good < count <= most and count < bad:
            good, bad = (count, bad) if need(count) <= budget else (good, count)
    while bad - good > 1:
        guess = min(_on_the_line(known, budget), most)
        guess = max(min(guess, bad - 1), good + 1)
        seconds = known[good][1] / good * guess
        if seconds > PATIENCE:
            return _without_trying(known, good, min(bad - 1, guess), budget)
        if need(guess) <= budget:
            good = guess
        else:
            bad = guess
        # A tenth more or less is not worth another step.
        if good >= 8 and (bad - good <= good // 10 or known[good][0] >= 0.9 * budget):
            break
    count = good // 8 * 8 if good > 16 else good
    return count, known[good][0] * (count / good)


class _Probe:
    """Runs a step of some images and tells what it took."""

    def __init__(self, trainer: BaseTrainer, worst: Worst, meter: MemoryMeter) -> None:
        self.trainer, self.worst, self.meter = trainer, worst, meter

    def __call__(self, images: int) -> tuple[float, float]:
        began, problem = time.time(), None
        try:
            with self.meter.measure():
                self._steps(images)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            problem = error
        if problem is not None:
            release(problem)
            return float("inf"), time.time() - began
        return float(self.meter.peak), time.time() - began

    def _steps(self, images: int) -> None:
        """Two training steps (the second has all states from the start) and one validation batch, on copies."""
        trainer, device = self.trainer, self.trainer.device
        state = torch.get_rng_state()
        model: Any = copy_of(trainer.model, with_criterion=True).train()
        try:
            ema = ModelEMA(model)
            optimizer = trainer.build_optimizer(model, name=trainer.args.optimizer, lr=0.0)
            batch = _random_batch(images, self.worst.size, self.worst.objects, trainer, device)
            for _ in range(2):
                with trainer.precision.autocast():
                    loss, _ = model(dict(batch))
                    loss = loss.sum()
                trainer.scaler.scale(loss).backward()
                optimizer.step()
                optimizer.zero_grad()
                ema.update(model)
            del batch, loss
            model.criterion = None
            with torch.no_grad(), trainer.precision.autocast():
                # The loader of validation makes batches twice as large.
                seen = _random_batch(2 * images, self.worst.validation_size, 1, trainer, device)
                ema.ema(seen["img"])
        finally:
            torch.set_rng_state(state)


def _random_batch(images: int, size: int, objects: int, trainer: BaseTrainer, device: torch.device) -> dict[str, Any]:
    channels = int(trainer.data.get("channels", 3))
    pixels = torch.rand(images, channels, size, size, device=device).to(memory_format=trainer._memory_format())
    count = images * objects
    centre, side = torch.rand(count, 2) * 0.8 + 0.1, torch.rand(count, 2) * 0.15 + 0.02
    return {
        "img": pixels,
        "cls": torch.randint(int(trainer.data["nc"]), (count, 1)).float(),
        "bboxes": torch.cat([centre, side], dim=1),
        "batch_idx": torch.arange(images).repeat_interleave(objects).float(),
    }


def _for_the_rest(trainer: BaseTrainer, images: int, free: int) -> int:
    """Bytes on the host that a step does not show: two copies of the state for a rollback, and decoded images."""
    settings = trainer.args
    state = sum(value.numel() * value.element_size() for value in trainer.model.state_dict().values())
    imgsz = settings.imgsz if isinstance(settings.imgsz, int) else max(settings.imgsz)
    decoded = images * imgsz * imgsz * int(trainer.data.get("channels", 3))
    # The bounds of data/loader.py: half of the free memory, or a quarter where only mosaics ask for it.
    if settings.cache_budget_gb is not None:
        bound = settings.cache_budget_gb * GIB
    else:
        bound = free / 2 if settings.cache in (True, "ram") else free / 4 if settings.mosaic else 0
    return 2 * 4 * state + int(min(decoded, bound))  # weights, average, up to two moments


def _on_the_line(known: dict[int, tuple[float, float]], budget: float) -> int:
    """Where the line through the two largest probes that worked meets the budget."""
    fine = sorted((count, taken) for count, (taken, _) in known.items() if taken != float("inf"))
    if len(fine) < 2:
        return 2 * fine[-1][0]
    (few, less), (many, more) = fine[-2], fine[-1]
    slope = (more - less) / (many - few)
    return 2 * many if slope <= 0 else int(many + (budget - more) / slope)


def _without_trying(known: dict[int, tuple[float, float]], good: int, guess: int, budget: float) -> tuple[int, float]:
    """A step of the size that comes out would take minutes, so the line has to do; nine tenths of what it promises."""
    count = max(good, int(0.9 * guess))
    count = count // 8 * 8 if count > 16 else count
    taken = min(known[good][0] / good * count, budget)
    LOGGER.info(f"a step of {count} images takes too long to be tried here; its memory is reckoned from {good} images")
    return count, taken
