"""One call becomes two processes, from scripts, cells and classes that no import finds; and what comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch

from sightline import YOLO
from sightline.callbacks.base import Callback
from sightline.errors import SettingValueError, TrainingError
from sightline.train import launch, travel
from sightline.train.detect import DetectionTrainer

SOURCE = Path(__file__).resolve().parents[2] / "src"
FAST: dict[str, Any] = {
    "imgsz": 64,
    "batch": 4,
    "epochs": 1,
    "workers": 0,
    "plots": False,
    "amp": False,
    "verbose": False,
    "device": "cpu",
    "nproc": 2,
}


def run_script(text: str, folder: Path, *words: object, timeout: int = 200) -> subprocess.CompletedProcess[str]:
    """A script of its own, in a process of its own."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *map(str, words)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=timeout)


class Notes(Callback):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_train_batch_end(self, trainer: Any) -> None:
        self.seen.append(f"rank {trainer.rank}")

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


# ------------------------------------------------------------------ from everywhere


@pytest.mark.slow
def test_an_unguarded_script_with_its_own_trainer_callbacks_loss_and_fitness(tiny_data: Path, tmp_path: Path):
    done = run_script(
        """
        import sys
        import torch
        from sightline import YOLO
        from sightline.callbacks.base import Callback
        from sightline.losses.detect import v8DetectionLoss
        from sightline.train.detect import DetectionTrainer

        print("the script runs")
        FACTOR = 2.0

        class Loss(v8DetectionLoss):
            def loss(self, preds, batch):
                loss, items = super().loss(preds, batch)
                return loss * FACTOR, {**items, "cls_loss": items["cls_loss"] * 0 + 7}

        class Trainer(DetectionTrainer):
            def validate(self):
                metrics, fitness = super().validate()
                self.mine = getattr(self, "mine", 0) + 1
                return metrics, fitness

        class Notes(Callback):
            seen = 0
            def on_train_batch_end(self, trainer):
                self.seen += 1
            def state_dict(self):
                return {"seen": self.seen}
            def load_state_dict(self, state):
                self.seen = state["seen"]

        def fitness(metrics):
            return 0.25

        def report(trainer):
            print(f"rank {trainer.rank} of {trainer.world_size}, epoch {trainer.epoch}", flush=True)

        notes = Notes()
        model = YOLO("yolo26n.yaml")
        before = {n: p.clone() for n, p in model.model.named_parameters()}
        model.add_callback("on_train_epoch_end", report)
        metrics = model.train(
            trainer=Trainer, data=sys.argv[1], project=sys.argv[2], callbacks=[notes], loss=Loss, fitness=fitness,
            imgsz=64, batch=4, epochs=2, workers=0, plots=False, amp=False, verbose=False, device="cpu", nproc=2,
        )
        trainer = model.trainer
        assert type(trainer) is Trainer and trainer.mine == 2
        assert notes.seen == 4
        assert trainer.history["train/cls_loss"] == [7.0, 7.0]
        assert trainer.fitness == 0.25 and trainer.best_fitness == 0.25
        assert trainer.epoch == 1 and trainer.best.exists() and trainer.last.exists() and trainer.csv.exists()
        assert metrics is trainer.validator.metrics
        assert metrics.box.image_metrics.keys() == {f"{i}.png" for i in range(4)}
        assert trainer.metrics["metrics/mAP50(B)"] == metrics.results_dict["metrics/mAP50(B)"]
        assert trainer.args.optimizer != "auto"
        assert any(not torch.equal(before[n], p) for n, p in model.model.named_parameters() if n in before)
        print("all came back")
        """,
        tmp_path,
        tiny_data,
        tmp_path / "runs",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the script runs") == 1
    assert done.stdout.count("all came back") == 1
    for rank in (0, 1):
        assert f"rank {rank} of 2, epoch 1" in done.stdout
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["train"]


@pytest.mark.slow
def test_a_cell_of_a_notebook(tiny_data: Path, tmp_path: Path):
    """A kernel runs cells with exec in a `__main__` that has no file."""
    done = run_script(
        """
        import sys, types
        cell = '''
        from sightline import YOLO
        from sightline.train.detect import DetectionTrainer
        class Trainer(DetectionTrainer):
            def preprocess_batch(self, batch):
                self.images = getattr(self, "images", 0) + len(batch["img"])
                return super().preprocess_batch(batch)
        model = YOLO("yolo26n.yaml")
        model.train(trainer=Trainer, data=DATA, project=OUT, imgsz=64, batch=4, epochs=1, workers=0, plots=False,
                    amp=False, verbose=False, device="cpu", nproc=2)
        assert model.trainer.images == 4, model.trainer.images
        print("cell done")
        '''
        main = types.ModuleType("__main__")
        main.DATA, main.OUT = sys.argv[1:]
        sys.modules["__main__"] = main
        import textwrap
        exec(compile(textwrap.dedent(cell), "<ipython-input-1>", "exec"), main.__dict__)
        """,
        tmp_path,
        tiny_data,
        tmp_path / "runs",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cell done" in done.stdout


@pytest.mark.slow
def test_a_script_under_torchrun(tiny_data: Path, tmp_path: Path):
    done = run_script(
        """
        import subprocess, sys
        from pathlib import Path
        Path("inner.py").write_text('''
        import sys
        from sightline import YOLO
        model = YOLO("yolo26n.yaml")
        for _ in range(2):  # a second training finds the same ranks
            model.train(data=sys.argv[1], project=sys.argv[2], imgsz=64, batch=4, epochs=1, workers=0, plots=False,
                        amp=False, verbose=False, device="cpu")
        trainer = model.trainer
        print(trainer.rank, trainer.world_size, model.metrics.box.image_metrics.keys(), flush=True)
        '''.replace("\\n        ", "\\n"))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
        raise SystemExit(subprocess.call([*torchrun, "inner.py", *sys.argv[1:]]))
        """,
        tmp_path,
        tiny_data,
        tmp_path / "runs",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in (0, 1):
        assert f"{rank} 2 dict_keys(['0.png', '1.png', '2.png', '3.png'])" in done.stdout
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["train", "train-2"]


# ------------------------------------------------------------------ what goes wrong


def fail_on_rank_1(trainer: Any) -> None:
    if trainer.rank == 1:
        raise ValueError("the reason")


def refuse_on_rank_1(trainer: Any) -> None:
    if trainer.rank == 1:
        raise SettingValueError("lr0=3 is wrong.")


@pytest.mark.slow
def test_an_exception_on_one_rank_ends_the_run_with_its_traceback(
    tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    environment = dict(os.environ)
    model = YOLO("yolo26n.yaml")
    model.add_callback("on_train_batch_end", fail_on_rank_1)
    began = time.monotonic()
    with pytest.raises(TrainingError, match="rank 1 of 2 failed with ValueError: the reason"):
        model.train(data=str(tiny_data), project=str(tmp_path / "runs"), **FAST)
    assert time.monotonic() - began < 90
    error = capfd.readouterr().err
    assert error.count("Traceback") == 1
    assert "fail_on_rank_1" in error
    assert Path(__file__).name in error  # the file and line of what travelled by value
    assert not (tmp_path / "runs").exists()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert dict(os.environ) == environment


@pytest.mark.slow
def test_a_users_mistake_found_on_a_rank_is_one_line(
    tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    model = YOLO("yolo26n.yaml")
    model.add_callback("on_train_start", refuse_on_rank_1)
    with pytest.raises(SettingValueError, match=r"lr0=3 is wrong. \(rank 1 of 2\)"):
        model.train(data=str(tiny_data), project=str(tmp_path / "runs"), **FAST)
    assert "Traceback" not in capfd.readouterr().err


def test_mistakes_that_can_be_seen_before_start_no_process(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(launch, "train", lambda trainer: pytest.fail("ranks were started"))
    model = YOLO("yolo26n.yaml")
    with pytest.raises(SettingValueError, match="batch=4 or batch=6"):
        model.train(data=str(tiny_data), **{**FAST, "batch": 5})
    with pytest.raises(SettingValueError, match="device=cpu nproc=2"):
        model.train(data=str(tiny_data), **{**FAST, "device": [0, 1], "nproc": None})
    with pytest.raises(FileNotFoundError):
        model.train(data="nowhere.yaml", **FAST)


def make(data: Path) -> DetectionTrainer:
    return DetectionTrainer(overrides={"model": "yolo26n.yaml", "data": str(data), **FAST})


def test_what_cannot_travel_is_named(tiny_data: Path):
    trainer = make(tiny_data)
    lock = threading.Lock()

    def with_lock(trainer: Any) -> None:
        with lock:
            pass

    trainer.add_callback("on_train_end", with_lock)
    with pytest.raises(TrainingError, match=r"The callback .*with_lock .*on_train_end cannot be sent"):
        travel.pack(trainer)
    other = make(tiny_data)
    other.connection = lock
    with pytest.raises(TrainingError, match="attribute `connection`"):
        travel.pack(other)


def test_a_trainer_travels_with_what_was_set_on_it(tiny_data: Path):
    trainer = DetectionTrainer(overrides={"model": "yolo26n.yaml", "data": str(tiny_data), **FAST, "loggers": []})
    trainer.mine = {"a": torch.ones(2)}
    notes = Notes()
    trainer.add_callback(notes)
    twin = cloudpickle.loads(travel.pack(trainer))
    assert torch.equal(twin.mine["a"], torch.ones(2))
    assert twin.args.origins() == trainer.args.origins()
    assert twin.args.to_dict() == trainer.args.to_dict()
    assert [type(found).__name__ for found in twin.objects] == ["Console", "Diagnose", "WriteReport", "Notes"]
    assert twin.callbacks["on_train_batch_end"][-1].__self__ is twin.objects[-1]


def test_the_traceback_of_what_travelled_by_value_has_its_file():
    def fails() -> None:
        raise KeyError

    fails.__module__ = "__main__"  # as a function of a script
    back = cloudpickle.loads(travel.dumps(fails))
    assert back.__code__.co_filename == __file__


def test_the_processes_share_the_cores_and_read_only_a_private_folder(tiny_data: Path, monkeypatch: pytest.MonkeyPatch):
    seen: dict[str, Any] = {}

    def start(config: Any, entrypoint: str) -> Any:
        def call(*words: str) -> None:
            folder = Path(words[-1])
            seen.update(mode=folder.stat().st_mode & 0o777, threads=os.environ["OMP_NUM_THREADS"], config=config)
            (folder / "result.pickle").write_bytes(
                cloudpickle.dumps({"values": {}, "validator": None, "model": None, "callbacks": states})
            )
            seen["folder"] = folder

        return call

    monkeypatch.setattr(launch, "elastic_launch", start)
    monkeypatch.setattr(launch, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    trainer = make(tiny_data)
    states = [callback.state_dict() for callback in trainer.objects]
    launch.train(trainer)
    assert seen["mode"] == 0o700
    assert seen["threads"] == "4"
    assert seen["config"].nproc_per_node == 2
    assert not seen["folder"].exists()
    assert "OMP_NUM_THREADS" not in os.environ
