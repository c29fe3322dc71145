"""`train(dry_run=True)`: the whole run in two optimizer steps and one validation batch, to see that everything works.

All processes are started, loaders are built, weights move, a checkpoint is written and read back, and the final
validation runs. Every callback and every method that a subclass overrides is counted; what was never called is named,
because a method that nobody calls is the quietest mistake there is. Nothing stays: the run folder is a temporary one,
label caches made on the way are removed, and the network that the training was called on is as before.
"""

from __future__ import annotations

import functools
import inspect
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sightline.backends import ranks
from sightline.callbacks.base import EXPORT_EVENTS, PREDICT_EVENTS, Callback, name_of
from sightline.data.formats.yolo import label_path
from sightline.files import cache_folder
from sightline.log import LOGGER
from sightline.train.live_settings import LiveSettings

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

STEPS = 2
ELSEWHERE = frozenset(PREDICT_EVENTS + EXPORT_EVENTS)  # events that no training fires
IN_CONSTRUCTOR = frozenset({"get_dataset", "check_resume"})  # called before there is anything to count with


class Row(NamedTuple):
    """One callback or overridden method: what it is, its name, and how often each rank called it."""

    kind: str  # the event of a callback, or "trainer" or "validator" for a method
    name: str
    calls: tuple[int, ...]


class DryRun:
    """What a dry run found.

    Attributes:
        rows: every callback and overridden method.
        never: those of them that no rank called.
        seconds: how long it took.
    """

    def __init__(self, rows: list[Row], seconds: float) -> None:
        self.rows = rows
        self.never = [row for row in rows if not any(row.calls)]
        self.seconds = seconds

    def __str__(self) -> str:
        lines = [
            f"dry run: {STEPS} steps, one validation batch, a checkpoint and the final stages in {self.seconds:.0f} s"
        ]
        for row in self.rows:
            calls = ", ".join(f"rank {rank}: {count}" for rank, count in enumerate(row.calls))
            lines.append(f"  {row.kind:<26} {row.name:<40} called {calls if len(row.calls) > 1 else row.calls[0]}")
        if self.never:
            lines.append(
                f"Never called with these settings: {', '.join(f'{row.name} ({row.kind})' for row in self.never)}"
            )
        return "\n".join(lines)


def rehearse(trainer: BaseTrainer) -> DryRun:
    """Run the trainer as a dry run; what `BaseTrainer.train` does with `dry_run=True`. The trainer is used up by it."""
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="sightline-dry-run-") as name:
        folder = Path(name)
        rehearsal = Rehearsal(folder, began)
        trainer.rehearsal = rehearsal
        trainer.args.assign("save_dir", str(folder / "run"), origin="auto")
        trainer.args.assign("accumulate", None, origin="auto")
        if trainer.args.batch >= 1:  # else when it is known
            trainer.args.assign("nbs", trainer.batch_size, origin="auto")  # a step for every batch
        if trainer.args.cache == "disk":
            trainer.args.assign("cache", False, origin="auto")
        trainer.live = LiveSettings(trainer)  # these are no changes of the user's
        rehearsal.count_callbacks(trainer)
        trainer.add_callback(rehearsal)
        try:
            trainer.train()
            ranks.barrier()  # under torchrun the others have written their counts, too
            report = DryRun(rehearsal.rows(), time.time() - began)
        finally:
            rehearsal.remove_caches()
    LOGGER.info(str(report))
    if report.never:
        names = ", ".join(f"{row.name} ({row.kind})" for row in report.never)
        LOGGER.warning(f"dry run: with these settings nothing calls {names}.")
    return report


class Counted:
    """A callback that counts its calls; named like the one inside."""

    def __init__(self, func: Callable[[Any], Any], kind: str) -> None:
        self.func = func
        self.kind = kind
        self.name = name_of(func)
        self.calls = 0

    def __call__(self, argument: Any) -> Any:
        self.calls += 1
        return self.func(argument)


class Rehearsal(Callback):
    """Shortens the run and counts, on every rank.

    Args:
        folder: exists on all ranks of the machine for as long as the dry run lasts.
        began: when it began; what is newer in the places of label caches was made by it.
    """

    def __init__(self, folder: Path, began: float) -> None:
        self.folder = folder
        self.began = began
        self.callbacks: list[Counted] = []
        self.methods: Counter[tuple[str, str]] = Counter()
        self.batches = 0

    def count_callbacks(self, trainer: BaseTrainer) -> None:
        """Put a counter around every callback of the user's."""
        for event, functions in trainer.callbacks.items():
            for place, function in enumerate(functions):
                if event not in ELSEWHERE and not _is_ours(function):
                    functions[place] = Counted(function, event)
                    self.callbacks.append(functions[place])

    def count_methods(self, owner: Any, kind: str) -> None:
        """Put a counter around every method that a user's class overrides."""
        for name in overridden(type(owner)):
            self.methods[kind, name] += 0
            setattr(owner, name, self._counted(getattr(owner, name), (kind, name)))

    def _counted(self, method: Callable[..., Any], key: tuple[str, str]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.methods[key] += 1
            return method(*args, **kwargs)

        return call

    # ------------------------------------------------------------------ during the run

    def on_pretrain_routine_end(self, trainer: BaseTrainer) -> None:
        validator = trainer.validator
        self.count_methods(validator, "validator")
        for owner, name in ((trainer, "test_loader"), (validator, "dataloader")):
            if getattr(owner, name, None) is not None:
                setattr(owner, name, FirstBatch(getattr(owner, name)))
        if trainer.rank == 0:
            (self.folder / "places.json").write_text(json.dumps(list(_cache_places(trainer))), encoding="utf-8")

    def on_train_batch_end(self, trainer: BaseTrainer) -> None:
        self.batches += 1
        trainer.stop |= self.batches >= STEPS

    def teardown(self, trainer: BaseTrainer) -> None:
        counts = [[counted.kind, counted.name, counted.calls] for counted in self.callbacks]
        counts += [[kind, f"{name}()", calls] for (kind, name), calls in self.methods.items()]
        (self.folder / f"rank{trainer.rank}.json").write_text(json.dumps(counts), encoding="utf-8")

    # ------------------------------------------------------------------ after it

    def rows(self) -> list[Row]:
        """The counts of all ranks side by side."""
        files = sorted(self.folder.glob("rank*.json"), key=lambda file: int(file.stem.removeprefix("rank")))
        tables = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        return [Row(kind, name, tuple(table[i][2] for table in tables)) for i, (kind, name, _) in enumerate(tables[0])]

    def remove_caches(self) -> None:
        """Label caches that were not there before."""
        places = self.folder / "places.json"
        for place in json.loads(places.read_text(encoding="utf-8")) if places.exists() else []:
            for file in Path(place).glob("*.sightline.*"):
                if file.suffix in (".cache", ".txt") and file.stat().st_mtime >= self.began:
                    file.unlink(missing_ok=True)


class FirstBatch:
    """A loader cut to its first batch; everything else is as the loader has it."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return min(len(self.loader), 1)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            yield batch
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def overridden(kind: type) -> list[str]:
    """The methods of the library that a user's class, or one between it and ours, replaces."""
    users = [each for each in kind.__mro__ if not each.__module__.startswith("sightline.") and each is not object]
    ours = [each for each in kind.__mro__ if each.__module__.startswith("sightline.")]
    names = {name for each in users for name, value in vars(each).items() if inspect.isfunction(value)}
    known = {name for each in ours for name in vars(each)}
    return sorted(name for name in names & known if not name.startswith("__") and name not in IN_CONSTRUCTOR)


def _is_ours(function: Any) -> bool:
    """Whether a callback came with the library (the console's)."""
    owner = getattr(function, "__self__", function)
    module = type(owner).__module__ if isinstance(owner, Callback) else getattr(function, "__module__", None)
    return (module or "").startswith("sightline.")


def _cache_places(trainer: BaseTrainer) -> Iterator[str]:
    yield str(cache_folder("labels"))
    for loader in (trainer.train_loader, trainer.test_loader):
        paths = getattr(getattr(loader.dataset, "index", None), "paths", None)
        if paths is not None and len(paths):
            yield str(Path(label_path(paths[0])).absolute().parent.parent)
