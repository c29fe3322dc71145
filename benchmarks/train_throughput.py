"""Images per second of whole training epochs: loader, forward, backward, optimizer and EMA; validation left out.

    python benchmarks/train_throughput.py --peer-python ../peer-env/bin/python --data ../shared/data/bccd/bccd.yaml
    python benchmarks/train_throughput.py … --model rtdetr-l --batch 2 --fraction 0.1

Sides alternate (A B A B); each process trains `--epochs` epochs; the first one, which warms caches up, does not count.
What each side does by default counts; `--set name=value` changes it on both.
"""

from __future__ import annotations

import json
import tempfile
import time

import side_by_side as bench


def worker(options, side: str) -> None:
    name = options.model if options.model.endswith((".yaml", ".pt")) else f"{options.model}.yaml"
    model = bench.load_yolo(side, name)(name)
    extra = {"fraction": options.fraction, **dict(bench.setting(item) for item in options.set)}
    starts: list[float] = []
    seconds: list[float] = []
    images: list[int] = []
    model.add_callback("on_train_epoch_start", lambda trainer: starts.append(time.perf_counter()))
    model.add_callback("on_train_epoch_end", lambda trainer: seconds.append(time.perf_counter() - starts[-1]))
    model.add_callback("on_train_start", lambda trainer: images.append(len(trainer.train_loader.dataset)))
    with tempfile.TemporaryDirectory() as folder:
        model.train(
            data=bench.absolute_data(options.data, folder), epochs=options.epochs, imgsz=options.imgsz,
            batch=options.batch,
            project=folder, name="run", plots=False, val=False, close_mosaic=0, device="cpu", seed=0, **extra,
        )  # fmt: skip
    rates = [images[0] / value for value in seconds[1:]]
    print(json.dumps({"rates": rates, **bench.versions(side)}))


def main() -> None:
    parser = bench.parser(__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--model", default="yolo26n.yaml")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the training images")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of both sides")
    options = parser.parse_args()
    if options.worker:
        return worker(options, options.worker)
    names = ("data", "model", "imgsz", "batch", "epochs", "fraction")
    return bench.alternate(__file__, options, names, unit="img/s", also=[f"--set={item}" for item in options.set])


if __name__ == "__main__":
    main()
