"""A run that is hit by every fault, beside the same run left alone: scores, memory, and a picture of both.

    python benchmarks/long_run.py --data ../shared/data/bccd/bccd.yaml --picture docs/pictures/long-run.png

Both runs are processes of their own; one that is killed or told to end is started again with `resume=`. Run the same
command again after an interruption: it goes on. `--faults` says what happens in which epoch (from 1):

    image     a file of the training data is overwritten      weight    a weight becomes NaN
    input     a batch has NaN in its pixels                   gradient  no gradient is finite for --patience steps
    loss      the loss of a batch is 10,000 times larger      disk      the disk is full until the epoch is over
    memory    the memory holds half a batch from now on       kill      kill -9, in the middle of the epoch
    val       validation finds too little memory              term      SIGTERM
"""

from __future__ import annotations

import argparse
import csv
import errno
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import side_by_side as bench
import yaml

EVERY = "6:image 10:input 14:loss 18:memory 22:kill 26:disk 30:weight 36:term 42:val 48:gradient"
ENDED = (-signal.SIGKILL, 128 + signal.SIGTERM)  # how a run may end that is gone on with
REFERENCE = 50  # the epoch whose memory the end is compared with, or the middle of a shorter run


# ---------------------------------------------------------------------- one run


def worker(options: argparse.Namespace) -> None:
    """Train, or go on with what is there, with the faults of `--faults` that have not come yet."""
    import psutil
    import torch

    from sightline import YOLO, Callback, DetectionTrainer, unwrap_model

    folder = options.out / options.run
    done_file, memory_file = folder.with_suffix(".faults"), folder.with_suffix(".memory")

    class Hit(DetectionTrainer):
        """Training whose memory and input can go bad."""

        room = math.inf  # images that fit into the memory at once
        poisoned = False

        def set_model_attributes(self) -> None:
            super().set_model_attributes()
            self.model.register_forward_pre_hook(Hit.no_room)  # a plain function: the network is copied with it

        @staticmethod
        def no_room(module: Any, inputs: tuple[Any, ...]) -> None:
            images = inputs[0]["img"] if isinstance(inputs[0], dict) else inputs[0]
            if len(images) > Hit.room:
                raise torch.OutOfMemoryError(f"no memory for {len(images)} images, an injected fault")

        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch = super().preprocess_batch(batch)
            if Hit.poisoned:
                batch["img"][0, :, 3:9, 3:9] = math.nan
                Hit.poisoned = False
            return batch

    class Faults(Callback):
        """Each fault once, in its epoch; what has happened is on the disk before it happens."""

        def __init__(self) -> None:
            self.plan = {int(epoch): name for epoch, name in (word.split(":") for word in options.faults.split())}
            self.gradients = self.losses = 0
            self.fsync, self.full_since = os.fsync, math.inf

        def state_dict(self) -> dict[str, Any]:
            return {}  # what has come is in a file: a resumed state must not bring a fault back

        def load_state_dict(self, state: dict[str, Any]) -> None:
            pass

        def on_train_batch_start(self, trainer: Any) -> None:
            # After a resume within the epoch, its first batch is a later one.
            fault = self.plan.get(trainer.epoch + 1)
            come = done_file.read_text().split() if done_file.exists() else []
            if fault is None or f"{trainer.epoch + 1}:{fault}" in come or trainer.batch_index < self.batch(trainer):
                return
            done_file.write_text("\n".join([*come, f"{trainer.epoch + 1}:{fault}"]))
            getattr(self, fault)(trainer)

        @staticmethod
        def batch(trainer: Any) -> int:
            return min(1, len(trainer.train_loader) - 1)

        def on_before_backward(self, trainer: Any) -> None:
            if self.losses:
                self.losses -= 1
                trainer.loss = trainer.loss * 1e4

        def on_before_optimizer_step(self, trainer: Any) -> None:
            if self.gradients:
                self.gradients -= 1
                for parameter in unwrap_model(trainer.model).parameters():
                    if parameter.grad is not None:
                        parameter.grad.fill_(math.inf)

        def on_fit_epoch_end(self, trainer: Any) -> None:
            Hit.room = max(Hit.room, options.batch // 2)  # validation's fault is over, training's stays
            with memory_file.open("a") as file:
                file.write(f"{trainer.epoch + 1} {psutil.Process().memory_info().rss}\n")

        def on_train_epoch_end(self, trainer: Any) -> None:
            if trainer.epoch > self.full_since:  # the save of an epoch is written during the next one
                os.fsync, self.full_since = self.fsync, math.inf

        def image(self, trainer: Any) -> None:
            Path(trainer.train_loader.dataset.index.paths[0]).write_bytes(b"no image")

        def input(self, trainer: Any) -> None:
            Hit.poisoned = True

        def loss(self, trainer: Any) -> None:
            self.losses = 1

        def gradient(self, trainer: Any) -> None:
            self.gradients = trainer.args.nan_patience

        def weight(self, trainer: Any) -> None:
            with torch.no_grad():
                next(unwrap_model(trainer.model).parameters())[0, 0, 0, 0] = math.nan

        def memory(self, trainer: Any) -> None:
            Hit.room = options.batch // 2

        def val(self, trainer: Any) -> None:
            trainer.add_callback("on_val_start", lambda validator: setattr(Hit, "room", 4))

        def disk(self, trainer: Any) -> None:
            def full(file: int) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            os.fsync, self.full_since = full, trainer.epoch

        def kill(self, trainer: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def term(self, trainer: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    last, data = folder / "weights" / "last.pt", options.out / f"data-{options.run}" / "data.yaml"
    begin = {
        "data": str(data), "epochs": options.epochs, "imgsz": options.imgsz,
        "batch": options.batch, "save_dir": str(folder), "exist_ok": True, "plots": False, "device": "cpu",
        "nan_patience": options.patience, "patience": 0, "cache_budget_gb": 1e-6,
    }  # fmt: skip
    settings = {"resume": str(last)} if last.exists() or last.with_name("last.prev.pt").exists() else begin
    YOLO(options.model).train(trainer=Hit, callbacks=[Faults()], **settings)


# ---------------------------------------------------------------------- both


def own_data(options: argparse.Namespace, run: str) -> None:
    """A copy of the data for this run, since one of the faults destroys a file."""
    from sightline.data.spec import load_dataset_spec

    folder = options.out / f"data-{run}"
    if (folder / "data.yaml").exists():
        return
    spec = load_dataset_spec(options.data)
    for split in ("train", "val"):
        for path in map(Path, spec.images(split)):
            images, labels = folder / "images" / split, folder / "labels" / split
            images.mkdir(parents=True, exist_ok=True)
            labels.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, images)
            parts = ["labels" if part == "images" else part for part in path.parts]
            label = Path(*parts).with_suffix(".txt")
            if label.exists():
                shutil.copy(label, labels)
    content = {"path": ".", "train": "images/train", "val": "images/val", "names": dict(spec.names)}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))


def complete(options: argparse.Namespace, run: str) -> int:
    """Start the run, and again as often as it is ended from outside. Returns how often it was started."""
    own_data(options, run)
    passed = [f"--{name}={getattr(options, name)}" for name in ("model", "imgsz", "batch", "epochs", "patience", "out")]
    faults = options.faults if run == "hit" else ""
    command = [sys.executable, __file__, "--worker=ours", f"--run={run}", f"--faults={faults}", *passed]
    environment = {**os.environ, "PYTHONPATH": str(bench.ROOT / "src")}
    starts = 0
    while not (options.out / f"{run}.json").exists():
        starts += 1
        with (options.out / f"{run}.log").open("a") as log:
            code = subprocess.run(command, env=environment, stdout=log, stderr=log).returncode
        if code == 0:
            (options.out / f"{run}.json").write_text(json.dumps({"starts": starts}))
        elif code not in ENDED or starts > len(faults.split()) + 1:
            raise SystemExit(f"the run ended with {code}: see {options.out / run}.log")
    return starts


def table(options: argparse.Namespace, run: str) -> dict[str, list[float]]:
    """The columns of results.csv, and the resident memory of each epoch in MB."""
    with (options.out / run / "results.csv").open(newline="") as file:
        rows = [{name.strip(): float(value or "nan") for name, value in row.items()} for row in csv.DictReader(file)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    memory = dict(line.split() for line in (options.out / f"{run}.memory").read_text().splitlines())
    columns["memory"] = [int(memory[str(int(epoch))]) / 2**20 for epoch in columns["epoch"]]
    return columns


def draw(options: argparse.Namespace, columns: dict[str, dict[str, list[float]]]) -> None:
    """Loss and mAP of both runs, with a line where each fault came."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(11, 7), sharex=True, layout="constrained")
    for name, axis in (("train/box_loss", axes[0]), ("metrics/mAP50-95(B)", axes[1])):
        for run, colour in zip(columns, ("tab:blue", "tab:orange"), strict=False):
            axis.plot(columns[run]["epoch"], columns[run][name], color=colour, label=run)
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
        for word in options.faults.split():
            epoch, fault = word.split(":")
            axis.axvline(int(epoch), color="0.5", linewidth=0.8, linestyle=":")
            if axis is axes[0]:
                axis.text(int(epoch), 1.01, fault, transform=axis.get_xaxis_transform(), rotation=45, fontsize=9)
    axes[0].legend()
    axes[1].set_xlabel("epoch")
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture, dpi=110)


def main() -> None:
    parser = bench.parser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--model", default="yolo26n.yaml")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--patience", type=int, default=5, help="nan_patience of both runs")
    parser.add_argument("--faults", default=EVERY)
    parser.add_argument("--out", type=Path, default=Path("runs/long-run"))
    parser.add_argument("--only-hit", action="store_true", help="leave the clean run out")
    parser.add_argument("--picture", type=Path, help="where to draw both runs")
    parser.add_argument("--run", choices=("clean", "hit"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out = options.out.resolve()
    if options.peer_python:
        parser.error("this compares a run of ours with one that is left alone; there is no peer in it")
    if options.worker:
        return worker(options)
    options.out.mkdir(parents=True, exist_ok=True)
    columns: dict[str, dict[str, list[float]]] = {}
    for run in ("hit",) if options.only_hit else ("clean", "hit"):
        complete(options, run)
        columns[run] = table(options, run)
    if options.picture:
        draw(options, columns)
    print(f"{bench.machine()}; {options.data}, {options.imgsz} px, batch {options.batch}, {options.faults}")
    for run, found in columns.items():
        scores, memory = found["metrics/mAP50-95(B)"], found["memory"]
        middle = min(REFERENCE, len(memory) // 2)
        starts = json.loads((options.out / f"{run}.json").read_text())["starts"]
        print(
            f"ours {run}: {len(scores)} epochs in {starts} processes, mAP50-95 {scores[-1]:.3f} "
            f"(best {max(scores):.3f}), box loss {statistics.mean(found['train/box_loss'][-3:]):.3f}, "
            f"memory {memory[-1] / memory[middle - 1] - 1:+.1%} since epoch {middle}"
        )
    return None


if __name__ == "__main__":
    main()
