"""What keeping a run alive costs: guards, diagnosis and a save every epoch, beside a run without any of them.

    python benchmarks/overhead.py --data ../shared/data/bccd/bccd.yaml

A B A B, each in a process of its own; an epoch counts from its start to the start of the next one, so the save is in
it. Validation is left out: it is the same on both sides and would make the share smaller. The goal is below 3%.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time

import side_by_side as bench

BARE = {"nan_patience": 0, "spike_factor": 0, "diagnosis": False, "save": False, "empty_cache_period": 0}


def worker(options: argparse.Namespace) -> None:
    """One run; its last line is the images per second of each epoch but the first, which warms caches up."""
    model = bench.load_yolo("ours")(options.model)
    starts: list[float] = []
    images: list[int] = []
    model.add_callback("on_train_epoch_start", lambda trainer: starts.append(time.perf_counter()))
    model.add_callback("on_train_start", lambda trainer: images.append(len(trainer.train_loader.dataset)))
    with tempfile.TemporaryDirectory() as folder:
        model.train(
            data=options.data, epochs=options.epochs + 1, imgsz=options.imgsz, batch=options.batch, project=folder,
            name="run", plots=False, val=False, close_mosaic=0, device="cpu", seed=0, **(BARE if options.bare else {}),
        )  # fmt: skip
    seconds = [after - before for before, after in itertools.pairwise(starts)]
    print(json.dumps({"rates": [images[0] / value for value in seconds[1:]], **bench.versions("ours")}))


def main() -> None:
    parser = bench.parser(__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--model", default="yolo26n.yaml")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer_python:
        parser.error("this compares a run of ours with a bare one of ours; there is no peer in it")
    if options.worker:
        return worker(options)
    passed = [f"--{name}={getattr(options, name)}" for name in ("data", "model", "imgsz", "batch", "epochs")]
    _, interpreter = bench.interpreters(options)
    rates: dict[str, list[float]] = {"guarded": [], "bare": []}
    for number in range(options.rounds):
        order = ("guarded", "bare") if number % 2 == 0 else ("bare", "guarded")  # who is first has the cooler machine
        for name in order:
            result = bench.run_worker(__file__, "ours", interpreter, [*passed, *(["--bare"] if name == "bare" else [])])
            rates[name].append(statistics.median(result["rates"]))
            print(name, result, flush=True)
    print(f"{bench.machine()}; {' '.join(passed)}")
    bench.print_table([(name, values, "img/s") for name, values in rates.items()])
    costs = [1 - guarded / bare for guarded, bare in zip(rates["guarded"], rates["bare"], strict=True)]
    print(f"ours: the overhead is {statistics.median(costs):.1%} (median of {len(costs)} pairs)")
    return None


if __name__ == "__main__":
    main()
