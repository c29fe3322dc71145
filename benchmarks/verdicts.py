"""How often `sightline compare` is right: many runs of two recipes, and the verdict on many draws from them.

    python benchmarks/verdicts.py --data ../shared/data/bccd/bccd.yaml

The recipes are SGD with lr0=0.01 and with a thirtieth of it. Equal: every way to split one recipe's runs into two.
Worse: draws of --runs from each. Resumable: the same command goes on, as `sightline compare repeats=` does, which is
what it calls.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import side_by_side as bench

from sightline.diagnosis.verdict import BETTER, SAME, UNKNOWN, WORSE, judge

RECIPES = {"base": 0.01, "thirtieth": 0.000333}
DRAWS = 5000


def main() -> None:
    parser = bench.parser(__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--model", default="yolo26n.yaml")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=10, help="seeds of each recipe")
    parser.add_argument("--runs", type=int, default=5, help="runs a side in a draw")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/verdicts"))
    options = parser.parse_args()
    if options.repeats < 2 * options.runs:
        parser.error("--repeats must be at least twice --runs, so that two sides share no run")
    options.out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, rate in RECIPES.items():
        files.append(options.out / f"{name}.yaml")
        files[-1].write_text(f"model: {options.model}\noptimizer: SGD\nlr0: {rate}\n")
    subprocess.run(
        [
            sys.executable, "-m", "sightline", "compare", f"repeats={options.repeats}", *map(str, files),
            f"data={options.data}", f"imgsz={options.imgsz}", f"epochs={options.epochs}", "plots=False", "loggers=[]",
            f"save_dir={options.out / 'out'}",
        ],
        check=True,
    )  # fmt: skip
    found = json.loads((options.out / "out" / "comparison.json").read_text())
    scores = {recipe["name"]: np.array(recipe["end"][found["metric"]]) for recipe in found["recipes"]}
    print(f"{bench.machine()}; {found['metric']} at the end, {options.epochs} epochs, {options.imgsz} px")
    for name, values in scores.items():
        print(
            f"{name}: {values.mean():.4f} ± {values.std(ddof=1):.4f}: {', '.join(f'{v:.4f}' for v in sorted(values))}"
        )
    for name, values in scores.items():
        show(f"{name} against itself", splits(values, options.runs), SAME)
    show("thirtieth against base", draws(scores["base"], scores["thirtieth"], options.runs), WORSE)


def splits(values: np.ndarray, runs: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every two sides that share no run, once."""
    for left in itertools.combinations(range(len(values)), runs):
        others = [index for index in range(len(values)) if index not in left]
        for right in itertools.combinations(others, runs):
            if left < right:
                yield values[list(left)], values[list(right)]


def draws(a: np.ndarray, b: np.ndarray, runs: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random sides, without repeating a run within one."""
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        yield rng.choice(a, runs, replace=False), rng.choice(b, runs, replace=False)


def show(name: str, sides: Iterator[tuple[np.ndarray, np.ndarray]], right: str) -> None:
    counts = Counter(judge(a, b).outcome for a, b in sides)
    total = sum(counts.values())
    shares = ", ".join(f"{kind} {100 * counts[kind] / total:.1f}%" for kind in (SAME, BETTER, WORSE, UNKNOWN))
    print(f"{name}: {100 * counts[right] / total:.1f}% called {right} ({shares}; {total} comparisons)")


if __name__ == "__main__":
    main()
