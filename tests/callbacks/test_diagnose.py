"""The diagnosis in real runs: what is recorded, said once, kept over a resume, and done about a plateau."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.artifacts.events import NAME, read_events
from sightline.callbacks.diagnose import Diagnose
from sightline.callbacks.run_facts import same_files
from sightline.config.load import make_settings
from sightline.diagnosis.history import history_from
from sightline.diagnosis.rules import replay
from sightline.doctor.settings import examine
from sightline.train.detect import DetectionTrainer
from train.test_trainer import make

STILL = {"mosaic": 0.0, "nbs": 4}
AT_ONCE = {"stagnation_epochs": 1, "stagnation_gain": 1.0, "stagnation_countdown": 1, "plateau_epochs": 99}


def watcher(trainer: Any) -> Diagnose:
    return next(each for each in trainer.objects if isinstance(each, Diagnose))


def events(trainer: Any, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(trainer.save_dir / NAME) if event["event"] == kind]


def findings(trainer: Any) -> list[dict[str, Any]]:
    """What was found in the run; before it, settings for so short a run are noted."""
    return [event for event in events(trainer, "finding") if event["epoch"]]


def test_every_epoch_is_recorded_as_it_was(tiny_data: Path, tmp_path: Path):
    norms: list[list[float]] = []
    trainer = make(tiny_data, tmp_path, epochs=2, **STILL)
    trainer.add_callback("on_train_epoch_start", lambda t: norms.append([]))
    trainer.add_callback("on_after_optimizer_step", lambda t: norms[-1].append(float(t.grad_norm)))
    trainer.train()
    (setup,) = events(trainer, "setup")
    assert (setup["epochs"], setup["batches"], setup["train_images"], setup["objects"]) == (2, 2, 8, 16)
    assert setup["class_counts"] == [8, 8]
    assert setup["trainable"] == setup["parameters"] == sum(p.numel() for p in trainer.model.parameters())
    recorded = events(trainer, "epoch")
    assert [epoch["epoch"] for epoch in recorded] == [1, 2]
    for epoch, seen in zip(recorded, norms, strict=True):
        assert (epoch["steps"], epoch["images"], epoch["objects"]) == (2, 8, 16)
        assert epoch["grad_norm"] == pytest.approx(statistics.median_low(seen), rel=1e-5)
        assert epoch["grad_norm_max"] == pytest.approx(max(seen), rel=1e-5)
        assert 0 < epoch["update"] < 1
    assert recorded[-1]["train_loss"]["box"] == pytest.approx(trainer.history["train/box_loss"][-1], rel=1e-5)
    assert recorded[-1]["val_loss"]["cls"] == pytest.approx(trainer.history["val/cls_loss"][-1], rel=1e-5)
    assert recorded[-1]["labelled_of_class"] == [4, 4]
    assert findings(trainer) == []  # a run of a second is no reason to worry


def test_objects_are_counted_where_the_network_gets_them(tiny_data: Path, tmp_path: Path):
    class LosesLabels(DetectionTrainer):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch = super().preprocess_batch(batch)
            return {**batch, **{name: batch[name][:0] for name in ("cls", "bboxes", "batch_idx")}}

    trainer = make(tiny_data, tmp_path, LosesLabels, epochs=1, **STILL)
    trainer.train()
    assert events(trainer, "epoch")[0]["objects"] == 0
    (finding,) = findings(trainer)
    assert (finding["rule"], "although the data set has 16" in finding["evidence"]) == ("labels_missing", True)


def test_what_was_written_is_judged_as_the_run_was(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=3, **STILL)
    trainer.add_callback("on_before_backward", lambda t: setattr(t, "loss", t.loss * float("nan")))
    trainer.train()
    history = history_from(events(trainer, "setup")[0], events(trainer, "epoch"))
    found = [(finding["rule"], finding["epoch"]) for finding in findings(trainer)]
    assert found == [("not_finite", 1)]
    assert [(finding.rule, finding.epoch) for finding in replay(history)] == found


def test_a_finding_is_said_once_with_evidence_and_remedy(
    tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    trainer = make(tiny_data, tmp_path, epochs=3, **STILL)
    trainer.add_callback("on_train_start", lambda t: t.network.model[-1].requires_grad_(True))
    trainer.add_callback(
        "on_train_start",
        lambda t: [p.register_hook(torch.zeros_like) for p in t.network.model[-1].parameters()],
    )
    with caplog.at_level("WARNING", logger="sightline"):
        trainer.train()
    lines = [record.message for record in caplog.records if record.message.startswith("dead head")]
    assert len(lines) == 1
    assert "epoch 1" in lines[0]
    assert "no gradient reaches the head's weights, with 16 objects" in lines[0]
    assert "Check what your callback" in lines[0]


def test_a_network_that_cannot_move_is_named_before_its_first_step_fails(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, **STILL)
    trainer.add_callback("on_train_start", lambda t: t.network.requires_grad_(False))
    with pytest.raises(RuntimeError, match="does not require grad"):
        trainer.train()
    assert watcher(trainer).findings[-1].rule == "everything_frozen"


def test_diagnosis_off_does_and_writes_nothing(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=1, diagnosis=False, **STILL)
    trainer.train()
    assert not (trainer.save_dir / NAME).exists()
    assert len(watcher(trainer).history) == 0


def test_a_resumed_run_goes_on_with_what_it_knew(tiny_data: Path, tmp_path: Path):
    def stop(trainer: Any) -> None:
        trainer.stop_training |= trainer.epoch == 1

    # Named in the first epoch, so the second run has no reason to say it again.
    spoil = ("on_before_backward", lambda t: setattr(t, "loss", t.loss * float("nan")))
    first = make(tiny_data, tmp_path, epochs=4, **STILL)
    first.add_callback(*spoil)
    first.add_callback("on_train_epoch_start", stop)
    first.train()
    second = make(tiny_data, tmp_path, resume=str(first.last), epochs=4)
    second.add_callback(*spoil)
    second.train()
    assert [epoch.epoch for epoch in watcher(second).history.epochs] == [1, 2, 3, 4]
    assert [event["epoch"] for event in events(second, "epoch")] == [1, 2, 3, 4]
    assert [event["rule"] for event in findings(second)] == ["not_finite"]
    kept = torch.load(second.last, weights_only=True)["run"]["ranks"][0]["callbacks"]
    state = next(entry["state"] for entry in kept if entry["class"].endswith("Diagnose"))
    json.dumps({name: value for name, value in state.items() if name != "start"})  # plain values


def test_on_plateau_stop_ends_the_run_whole(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    trainer = make(tiny_data, tmp_path, epochs=8, on_plateau="stop", diagnosis_limits=AT_ONCE, **STILL)
    with caplog.at_level("WARNING", logger="sightline"):
        trainer.train()
    # Nothing gained over one epoch is known after 2 epochs; one more is allowed; the one after that is the last.
    assert trainer.epoch + 1 == 4
    assert "on_plateau=stop when 1 more epochs bring nothing" in caplog.text
    assert "epoch 4 is the last" in caplog.text
    assert trainer.last.exists()
    assert len(trainer.history["metrics/mAP50(B)"]) == 4


def test_on_plateau_restart_lifts_the_learning_rate_and_counts_anew(tiny_data: Path, tmp_path: Path):
    rates: list[float] = []
    trainer = make(
        tiny_data, tmp_path, epochs=6, on_plateau="restart", diagnosis_limits=AT_ONCE, warmup_epochs=0, optimizer="SGD",
        lr0=0.01, **STILL,
    )  # fmt: skip
    trainer.add_callback("on_train_batch_start", lambda t: rates.append(t.optimizer.param_groups[0]["lr"]))
    trainer.train()
    by_epoch = rates[::2]
    line = [0.01 * (1 - epoch / 6 * 0.99) for epoch in range(6)]
    assert by_epoch[:3] == pytest.approx(line[:3])
    # 0.00505 by the line: twice that would be more than lr0, to which it is lifted; from there along the same line.
    assert by_epoch[3:] == pytest.approx([0.01 / line[3] * rate for rate in line[3:]])
    assert "on_plateau=restart" in events(trainer, "plateau")[1]["text"]


def test_equal_files_are_found_whatever_their_names(tmp_path: Path):
    for name, content in {"a": b"one", "b": b"two", "c": b"one", "d": b"six", "e": b"", "f": b""}.items():
        (tmp_path / name).write_bytes(content)
    path = {name: str(tmp_path / name) for name in "abcdef"}
    assert same_files([path["a"], path["b"], path["e"]], [path["c"], path["d"], path["f"]]) == [path["c"]]
    assert same_files([path["a"], str(tmp_path / "gone")], [path["d"]]) == []


def test_what_doctor_settings_says_comes_at_the_start(
    tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    trainer = make(tiny_data, tmp_path, epochs=1, optimizer="SGD", lr0=0.5, **STILL)
    with caplog.at_level("INFO", logger="sightline"):
        trainer.train()
    settings = {name: value for name, value in trainer.args.items() if trainer.args.is_user_set(name)}
    _, *expected = examine(make_settings("train", settings)).lines()
    assert len(expected) > 1
    for line in expected:
        name, text = line[2:].split(": ", 1)
        assert f"{name} (before the first epoch): {text}" in caplog.text


def test_the_number_format_is_that_of_the_epoch(tiny_data: Path, tmp_path: Path):
    trainer = make(tiny_data, tmp_path, epochs=1, amp="bf16", **{**STILL, "nan_patience": 1})

    def overflow(trainer: DetectionTrainer) -> None:
        if trainer.batch_index == 0:
            trainer.loss = trainer.loss * float("nan")

    trainer.add_callback("on_before_backward", overflow)
    trainer.train()
    assert trainer.precision.name == "fp32"  # went back, to a safer one
    assert watcher(trainer).history.setup.precision == "fp32"


def test_a_step_of_the_users_own_that_measures_nothing_is_no_bad_step(tiny_data: Path, tmp_path: Path):
    class Own(DetectionTrainer):
        def optimizer_step(self) -> None:
            self.optimizer.step()
            self.optimizer.zero_grad()

    trainer = make(tiny_data, tmp_path, Own, epochs=2, **STILL)
    trainer.train()
    assert [event for event in events(trainer, "finding") if event["rule"] == "not_finite"] == []
    assert watcher(trainer).history.epochs[-1].not_finite == 0
