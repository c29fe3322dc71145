"""Is the lr0 that lr-find suggests a good one? Its suggestion beside whole runs with seven values of lr0.

    D=../shared/data; python benchmarks/lr_find.py --data $D/bccd/bccd.yaml $D/glue-tubes-pose/glue-tubes-pose.yaml

For every data set and optimizer: seven runs for each seed, half a decade apart, and the range test with the same
settings. What is compared is the training loss of the last epoch (per image, all terms with their gains; mosaic is off
by then), its median over the seeds. "Best" is the lr0 for which it is lowest, and the ratio is that of the suggestion
which is furthest from it. Everything else is the default (schedule, warm-up, momentum, clipping), except that each
batch makes a step (nbs=batch), as the automatic recipe does in runs that are so short. A pose data set gives its boxes.

Resumable: finished runs are kept in --out and skipped; one (data set, optimizer) is finished before the next begins.
What is read off the curve of a range test is read again each time, by the code as it is then.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import side_by_side as bench

VALUES = (1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1)  # first runs with AdamW had their best above 0.01, too
OPTIMIZERS = ("SGD", "AdamW")
FIND = "find"


def worker(options: Any) -> None:
    from sightline import YOLO
    from sightline.errors import TrainingError

    settings = {
        "data": options.data[0], "epochs": options.epochs, "imgsz": options.imgsz, "batch": options.batch,
        "nbs": options.batch, "optimizer": options.optimizers[0], "seed": options.seed, "device": "cpu",
        "loggers": [],
    }  # fmt: skip
    model = YOLO(options.model)
    if options.lr0 == FIND:
        model.lr_find(**settings, save_dir=str(options.out))
        print(json.dumps({"curve": "lr_find.json"}))
        return
    last: list[float] = []  # of the batches of the last epoch

    def note(trainer: Any) -> None:
        if trainer.epoch + 1 == trainer.epochs:
            last.append(float(trainer.loss.detach()) / trainer.images_in_batch)

    model.add_callback("on_train_batch_end", note)
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.train(
                **settings, lr0=float(options.lr0), project=folder, val=False, save=False, plots=False, verbose=False
            )
        except TrainingError as error:  # a rate with which the run is lost
            print(json.dumps({"loss": None, "why": str(error)}))
            return
    mean = statistics.mean(last)
    print(json.dumps({"loss": mean if math.isfinite(mean) else None, **bench.versions("ours")}))


def finished(options: Any, data: str, optimizer: str, lr0: float | str, seed: int) -> dict[str, Any]:
    """The result of one run, which is made where it is not there yet."""
    folder = options.out / recipe(options) / f"{Path(data).stem}-{optimizer}" / f"{lr0}-seed{seed}"
    file = folder / "result.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        words = [f"--{name}={getattr(options, name)}" for name in ("model", "epochs", "imgsz", "batch")]
        words += ["--data", data, "--optimizers", optimizer, f"--lr0={lr0}", f"--seed={seed}", f"--out={folder}"]
        result = bench.run_worker(__file__, "ours", bench.interpreters(options)[1], words)
        file.write_text(json.dumps(result))
        print(data, optimizer, lr0, seed, result, flush=True)
    result = json.loads(file.read_text())
    return json.loads((folder / result["curve"]).read_text()) if "curve" in result else result


def recipe(options: Any) -> str:
    """What the results belong to, as the name of a folder."""
    return f"{Path(options.model).stem}-{options.imgsz}px-batch{options.batch}-{options.epochs}epochs"


def suggestion(curve: dict[str, Any]) -> float | None:
    import numpy as np

    from sightline.train.lr_curve import read

    probed = np.array([math.nan if loss is None else loss for loss in curve["probed"]])
    return read(np.array(curve["lr"]), probed, curve["beginning"]).suggestion


@dataclass(frozen=True)
class Cell:
    """One data set and optimizer: lr0 → median loss, and the suggestion of each seed."""

    name: str
    losses: dict[float, float]
    found: list[float | None]

    @property
    def best(self) -> float:
        return min(self.losses, key=lambda lr0: self.losses[lr0])

    def row(self) -> str:
        """Of the table."""
        ratios = [math.inf if lr0 is None else lr0 / self.best for lr0 in self.found]
        furthest = max(ratios, key=lambda ratio: abs(math.log(ratio)))
        shown = ", ".join("none" if lr0 is None else f"{lr0:.2g}" for lr0 in self.found)
        return f"{self.name:<28} {self.best:>8g} {shown:>20} {furthest:>8.2f}"


def cell(options: Any, data: str, optimizer: str) -> Cell:
    curves: list[dict[str, Any]] = []
    losses: dict[float, list[float]] = {lr0: [] for lr0 in VALUES}
    for seed in options.seeds:
        curves.append(finished(options, data, optimizer, FIND, seed))
        for lr0 in losses:
            loss = finished(options, data, optimizer, lr0, seed)["loss"]
            losses[lr0].append(math.inf if loss is None else loss)
    medians = {lr0: statistics.median(of_seeds) for lr0, of_seeds in losses.items()}
    found = Cell(f"{Path(data).stem}, {optimizer}", medians, [suggestion(curve) for curve in curves])
    print(f"{found.name}: " + "  ".join(f"{lr0:g}: {loss:.4f}" for lr0, loss in medians.items()), flush=True)
    return found


def draw(cells: list[Cell], file: Path) -> None:
    """Losses of the runs, what is within a factor of 3 of the best, and the suggestions."""
    from sightline.artifacts.figures.style import METRIC, TRAIN, VALIDATION, new_figure, quiet, save_figure

    figure, axes = new_figure(1, len(cells), size=(3.2 * len(cells), 3.0))
    for panel, each in zip(axes[0], cells, strict=True):
        quiet(panel, each.name, xlabel="lr0", ylabel="loss of the last epoch")
        panel.set_xscale("log")
        panel.axvspan(each.best / 3, each.best * 3, color=METRIC, alpha=0.15, linewidth=0)
        panel.plot(list(each.losses), list(each.losses.values()), color=TRAIN, marker="o", markersize=4)
        for lr0 in filter(None, each.found):
            panel.axvline(lr0, color=VALIDATION, linestyle="--", linewidth=1.2)
    save_figure(figure, file)


def main() -> None:
    parser = bench.parser(__doc__)
    parser.add_argument("--data", nargs="+", default=["shapes"])
    parser.add_argument("--model", default="yolo26n.yaml")
    parser.add_argument("--optimizers", nargs="+", default=OPTIMIZERS)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr0", default=FIND, help="of a single run")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/lr-find"))
    parser.add_argument("--picture", type=Path, help="where to draw all of it")
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    options.out = options.out.absolute()
    cells = [
        cell(options, data if data == "shapes" else str(Path(data).absolute()), optimizer)
        for data in options.data
        for optimizer in options.optimizers
    ]
    print(f"{bench.machine()}; {recipe(options)}, seeds {options.seeds}")
    print(f"\n{'':<28} {'best':>8} {'suggestion by seed':>20} {'ratio':>8}   (of the one furthest from the best)")
    print("\n".join(each.row() for each in cells))
    if options.picture:
        draw(cells, options.picture)


if __name__ == "__main__":
    main()
