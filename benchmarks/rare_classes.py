"""Recall of each class without and with `class_weights=auto`, several seeds. Resumable: what is done in --out is kept.

    python benchmarks/rare_classes.py --data ../shared/data/bccd/bccd.yaml

Per seed one run of each recipe, from scratch, alike in everything but `class_weights`; one thread each, `--jobs`
of them side by side. A run that was cut off goes on from its last.pt; a finished one is a JSON file that is read again.

What is compared: the EMA weights of the last epoch (not of the best one, so that nothing is chosen on the images that
are measured), validated NMS-free, at IoU 0.5:

* recall at confidence 0.25, which is what `predict` shows by default. Heavier objects push scores up, so part of a
  gain here is bought with precision, which therefore stands beside it;
* recall at the confidence where the mean F1 over all classes is highest, found for each run by itself: there higher
  scores alone gain nothing;
* AP50-95, which depends on no confidence.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import side_by_side as bench

RECIPES = {"plain": {}, "weighted": {"class_weights": "auto"}}
MEASURES = {
    "recall_at_0.25": "recall at confidence 0.25",
    "precision_at_0.25": "precision at confidence 0.25",
    "recall_at_best_f1": "recall at the confidence of the best mean F1",
    "ap": "AP50-95",
}
CONFIDENCE = 0.25


def worker(options: argparse.Namespace) -> None:
    """One run: train (or go on), validate, write the numbers."""
    import torch

    torch.set_num_threads(1)
    yolo = bench.load_yolo("ours")
    folder = options.out / f"{options.recipe}-seed{options.seed}"
    last, table = folder / "weights" / "last.pt", folder / "results.csv"
    done = len(table.read_text().splitlines()) - 1 if table.exists() and last.exists() else 0
    start = time.perf_counter()
    if 0 < done < options.epochs:
        yolo(str(last)).train(resume=True)
    elif done == 0:
        yolo(options.model).train(
            data=options.data, epochs=options.epochs, imgsz=options.imgsz, batch=options.batch, seed=options.seed,
            project=str(options.out.absolute()), name=folder.name, exist_ok=True, device="cpu", amp=False,
            deterministic=True, plots=False, **RECIPES[options.recipe],
        )  # fmt: skip
    seconds = time.perf_counter() - start
    metrics = yolo(str(last)).val(
        data=options.data, imgsz=options.imgsz, split=options.split, plots=False, device="cpu",
        project=str(options.out.absolute()), name=f"{folder.name}-val", exist_ok=True,
    )  # fmt: skip
    result = {
        "recipe": options.recipe,
        "seed": options.seed,
        "seconds": round(seconds),
        "best_f1_confidence": metrics.box.best_conf,
        "classes": measured(metrics),
        **bench.versions("ours"),
    }
    unfinished = options.out / f"{folder.name}.json.part"
    unfinished.write_text(json.dumps(result))
    unfinished.replace(options.out / f"{folder.name}.json")
    print(json.dumps(result))


def measured(metrics) -> dict[str, dict[str, float]]:
    """Class name → measure → value, of the classes that have objects."""
    import numpy as np

    box, found = metrics.box, {}
    for row, number in enumerate(box.ap_class_index):
        found[metrics.names[int(number)]] = {
            "objects": int(metrics.nt_per_class[number]),
            "recall_at_0.25": float(np.interp(CONFIDENCE, box.px, box.r_curve[row])),
            "precision_at_0.25": float(np.interp(CONFIDENCE, box.px, box.p_curve[row])),
            "recall_at_best_f1": float(box.r[row]),
            "ap": float(box.ap[row]),
        }
    return found


def run(options: argparse.Namespace, recipe: str, seed: int) -> dict:
    """The numbers of one run, made now unless they are there."""
    file = options.out / f"{recipe}-seed{seed}.json"
    if not file.exists():
        names = ("data", "model", "imgsz", "batch", "epochs", "out", "split")
        passed = [f"--{name}={getattr(options, name)}" for name in names]
        _, interpreter = bench.interpreters(options)
        bench.run_worker(__file__, "ours", interpreter, [*passed, f"--seed={seed}", f"--recipe={recipe}"])
    result = json.loads(file.read_text())
    print(result, flush=True)
    return result


def print_tables(results: dict[str, list[dict]]) -> None:
    """A table a measure, a row a class, rarest first: mean ± standard deviation over the seeds, ratio of the means."""
    objects = {name: values["objects"] for name, values in results["plain"][0]["classes"].items()}
    for measure, title in MEASURES.items():
        print(f"\n{title}\n{'class':<14} {'objects':>8} {'plain':>16} {'weighted':>16} {'ratio':>7}")
        for name in sorted(objects, key=objects.__getitem__):
            values = {recipe: [one["classes"][name][measure] for one in results[recipe]] for recipe in RECIPES}
            means = {recipe: statistics.mean(numbers) for recipe, numbers in values.items()}
            cells = [f"{means[recipe]:.3f} ± {deviation(values[recipe]):.3f}" for recipe in RECIPES]
            ratio = f"{means['weighted'] / means['plain']:.3f}" if means["plain"] else "–"
            print(f"{name:<14} {objects[name]:>8} {cells[0]:>16} {cells[1]:>16} {ratio:>7}")


def deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    parser = bench.parser(__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--model", default="yolo26n.yaml")
    parser.add_argument("--imgsz", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="val")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/rare_classes"))
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--recipe", choices=RECIPES, default="plain", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer_python:
        parser.error("this compares two recipes of ours; there is no peer in it")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.worker:
        return worker(options)
    wanted = [(recipe, seed) for seed in options.seeds for recipe in RECIPES]
    with ThreadPoolExecutor(options.jobs) as pool:
        done = list(pool.map(lambda each: run(options, *each), wanted))
    results = {recipe: [one for one in done if one["recipe"] == recipe] for recipe in RECIPES}
    print(
        f"{bench.machine()}; seeds {options.seeds}; {options.model} {options.imgsz} px, batch {options.batch}, "
        f"{options.epochs} epochs, split {options.split}"
    )
    print_tables(results)
    return None


if __name__ == "__main__":
    main()
