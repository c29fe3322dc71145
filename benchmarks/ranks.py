"""Whether two processes are one: the loss of 2 gloo ranks beside that of 1 rank, over the same global batches.

    python benchmarks/ranks.py --data ../shared/data/bccd/bccd.yaml

For each variant one run on one rank and one on two, from the same seed, amp=False, a step for every batch. What is
compared is the loss of the whole batch in each step (the mean of `trainer.loss` over the ranks). Two runs in float32
never stay together for good: sums of another order differ in the last digit, and training multiplies that. So a third
run shows the noise: one rank again, from weights that differ by one part in 10 million. The goal is a deviation of at
most 1e-3 over 20 steps. From random weights no run in float32 meets it, not even one rank against itself
(docs/decisions/0123), so `--warm` epochs of one process come first, and all runs start from their weights. Ranks on a
CPU share its cores, so nothing about speed is measured here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import side_by_side as bench

NOISE = 1e-7  # relative; the last digit of a float32 is 6e-8
VARIANTS = {"sync_bn=true": {"sync_bn": True}, "freeze_bn=true": {"freeze_bn": True, "sync_bn": False}}


def warm_up(options: argparse.Namespace, folder: str) -> str:
    """Weights after `--warm` epochs of one process, with the settings everybody has."""
    from sightline import YOLO

    model = YOLO(options.model)
    model.train(
        data=options.data, imgsz=options.imgsz, batch=options.batch, epochs=options.warm, fraction=options.fraction,
        amp=False, device="cpu", plots=False, project=folder, name="warm",
    )  # fmt: skip
    return str(model.trainer.last)


def worker(options: argparse.Namespace) -> None:
    """One run on `--ranks` processes; its last line is the loss of every step."""
    import torch

    from sightline import YOLO, Callback, DetectionTrainer, unwrap_model

    torch.set_num_threads(1)

    class Losses(Callback):
        """Writes down the loss of every step, on every rank, and ends the run after so many steps."""

        def __init__(self, steps: int, folder: Path) -> None:
            self.steps, self.folder, self.losses = steps, folder, []

        def on_train_start(self, trainer) -> None:
            if options.noise:
                generator = torch.Generator().manual_seed(0)
                for parameter in unwrap_model(trainer.model).parameters():
                    parameter.data *= 1 + options.noise * torch.randn(parameter.shape, generator=generator)

        def on_before_backward(self, trainer) -> None:
            self.losses.append(trainer.loss.item())

        def on_train_batch_end(self, trainer) -> None:
            trainer.stop = len(self.losses) >= self.steps

        def on_train_epoch_end(self, trainer) -> None:
            (self.folder / f"{trainer.rank}.json").write_text(json.dumps(self.losses))

    class TrainOnly(DetectionTrainer):
        def validate(self) -> None:
            """Nothing of it is measured."""

        def final_eval(self) -> None:
            """Neither is this."""

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        YOLO(options.model).train(
            trainer=TrainOnly, callbacks=[Losses(options.steps, folder)], data=options.data, imgsz=options.imgsz,
            batch=options.batch, nbs=options.batch, epochs=100, amp=False, device="cpu", nproc=options.ranks,
            plots=False, project=name, name="run", optimizer=options.optimizer,
            lr0=options.lr0, warmup_epochs=0, fraction=options.fraction, **VARIANTS[options.variant],
        )  # fmt: skip
        of_ranks = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(options.ranks)]
    print(json.dumps({"losses": [statistics.mean(step) for step in zip(*of_ranks, strict=True)]}))


def compare(options: argparse.Namespace, variant: str) -> None:
    """Run a variant on one rank and on two, and print a row for each step and the largest deviation."""
    names = ("data", "model", "imgsz", "batch", "steps", "optimizer", "lr0", "fraction")
    passed = [*(f"--{name}={getattr(options, name)}" for name in names), f"--variant={variant}"]
    _, interpreter = bench.interpreters(options)
    one, two, noisy = (
        bench.run_worker(__file__, "ours", interpreter, [*passed, f"--ranks={ranks}", f"--noise={noise}"])["losses"]
        for ranks, noise in ((1, 0.0), (2, 0.0), (1, NOISE))
    )
    print(f"\n{variant}\n{'step':>4} {'1 rank':>12} {'2 ranks':>12} {'relative':>10} {'noise':>10}")
    deviations, noises = ([abs(b - a) / abs(a) for a, b in zip(one, other, strict=True)] for other in (two, noisy))
    for step, (a, b, deviation, noise) in enumerate(zip(one, two, deviations, noises, strict=True), start=1):
        print(f"{step:>4} {a:>12.4f} {b:>12.4f} {deviation:>10.1e} {noise:>10.1e}")
    print(
        f"ours {variant}: largest relative deviation {max(deviations):.1e} over {len(one)} steps, "
        f"of the noise {max(noises):.1e}",
        flush=True,
    )


def main() -> None:
    parser = bench.parser(__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--model", default="yolo26n.yaml")
    parser.add_argument("--imgsz", type=int, default=192)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--optimizer", default="SGD")
    parser.add_argument("--lr0", type=float, default=0.001)
    parser.add_argument("--warm", type=int, default=12, help="epochs of one process before; 0 starts from --model")
    parser.add_argument("--noise", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--fraction", type=float, default=192)
    parser.add_argument("--ranks", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--variant", choices=VARIANTS, default="sync_bn=true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer_python:
        parser.error("this compares one process of ours with two; there is no peer in it")
    if options.worker:
        return worker(options)
    with tempfile.TemporaryDirectory() as folder:
        if options.warm:
            options.model = warm_up(options, folder)
        for variant in VARIANTS:
            compare(options, variant)
    return None


if __name__ == "__main__":
    main()
