"""Event files, read back with TensorBoard's own reader."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from callbacks.loggers.runs import crashed, few_pictures, make, rows
from sightline.callbacks.loggers import EVENT_FILES
from sightline.train.detect import DetectionTrainer

pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util


def read(run: Path) -> EventAccumulator:
    everything = dict.fromkeys(("scalars", "images", "tensors"), 0)
    events = EventAccumulator(str(run), size_guidance=everything)
    events.Reload()
    return events


def scalars(events: EventAccumulator) -> dict[str, list[tuple[int, float]]]:
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_is_the_table(events: EventAccumulator, run: Path) -> None:
    """Every value of results.csv once, in order, and no other curve but those of best.pt."""
    found = {tag: points for tag, points in scalars(events).items() if not tag.startswith("best/")}
    table = {name: sorted(values.items()) for name, values in rows(run).items()}
    assert found.keys() == table.keys()
    for name, points in found.items():
        assert [step for step, _ in points] == [epoch for epoch, _ in table[name]]
        assert [value for _, value in points] == pytest.approx([value for _, value in table[name]], rel=1e-4, abs=1e-6)


@pytest.fixture(scope="module")
def run(tiny_data: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> DetectionTrainer:
    with pytest.MonkeyPatch.context() as patch:
        few_pictures(patch)
        trainer = make(
            tiny_data, tiny_model, tmp_path_factory.mktemp("tb"), plots=True, loggers=["tensorboard"], lr0=0.0123
        )
        trainer.train()
    return trainer


def test_curves_are_those_of_the_table(run: DetectionTrainer):
    events = read(run.save_dir)
    assert_is_the_table(events, run.save_dir)
    best = {tag: points for tag, points in scalars(events).items() if tag.startswith("best/")}
    assert best["best/metrics/mAP50(B)"] == [(3, pytest.approx(run.metrics["metrics/mAP50(B)"]))]
    assert set(best) == {f"best/{name}" for name in run.validator.metrics.keys}


def test_pictures_are_the_files(run: DetectionTrainer):
    events = read(run.save_dir)
    (image,) = events.Images("pictures/best/val_batch0_pred")
    file = (run.save_dir / "val_batch0_pred.jpg").read_bytes()
    assert image.encoded_image_string == file
    assert (image.width, image.height) == Image.open(io.BytesIO(file)).size
    assert [e.step for e in events.Images("pictures/train_batch0")] == [1]
    assert [e.step for e in events.Images("pictures/train_batch2")] == [2]  # the third batch of 2 an epoch


def test_precision_recall_curves_are_those_of_the_validator(run: DetectionTrainer):
    events = read(run.save_dir)
    assert [e.step for e in events.Tensors("precision-recall/Box")] == [1, 2, 3]
    (event,) = events.Tensors("precision-recall/best/Box/blue")
    hits, _, _, missed, precision, recall = tensor_util.make_ndarray(event.tensor_proto)  # (6, 127)
    box = run.validator.metrics.box
    row = list(box.ap_class_index).index(1)
    places = [round(999 * i / 126) for i in range(127)]
    np.testing.assert_allclose(precision, box.p_curve[row][places], atol=1e-6)
    np.testing.assert_allclose(recall, box.r_curve[row][places], atol=1e-6)
    np.testing.assert_allclose(hits + missed, 4)  # four validation images with a blue rectangle each


def test_settings_are_hyperparameters(run: DetectionTrainer):
    found: dict[str, Any] = {}
    for file in run.save_dir.glob(EVENT_FILES):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == metadata.PLUGIN_NAME:
                    found[value.tag] = value.metadata.plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(found[metadata.SESSION_START_INFO_TAG])
    assert start.hparams["lr0"].number_value == 0.0123
    assert start.hparams["loggers"].string_value == "['tensorboard']"
    experiment = metadata.parse_experiment_plugin_data(found[metadata.EXPERIMENT_TAG])
    assert "best/metrics/mAP50(B)" in [info.name.tag for info in experiment.metric_infos]
    assert metadata.SESSION_END_INFO_TAG in found


def test_a_run_that_goes_on_has_no_point_twice(tiny_data: Path, tiny_model: str, tmp_path: Path):
    last = crashed(tiny_data, tiny_model, tmp_path, loggers=["tensorboard"])
    trainer = DetectionTrainer(overrides={"resume": str(last)})
    trainer.train()
    files = sorted(trainer.save_dir.glob(EVENT_FILES))
    written = [event.step for file in files for event in EventFileLoader(str(file)).Load()
               if any(value.tag == "train/box_loss" for value in event.summary.value)]  # fmt: skip
    assert sorted(written) == [1, 2, 3, 3, 4]  # the third came twice; the reader drops what the crash left
    assert_is_the_table(read(trainer.save_dir), trainer.save_dir)


def test_a_new_run_in_an_old_folder_begins_anew(tiny_data: Path, tiny_model: str, tmp_path: Path):
    make(tiny_data, tiny_model, tmp_path, loggers=["tensorboard"], epochs=2).train()
    foreign = tmp_path / "run" / "events.out.tfevents.1.host.1.0"  # of a writer of the user's own
    foreign.write_bytes(b"")
    trainer = make(tiny_data, tiny_model, tmp_path, loggers=["tensorboard"], epochs=1, exist_ok=True)
    trainer.train()
    assert foreign.exists()
    assert_is_the_table(read(trainer.save_dir), trainer.save_dir)


def test_a_run_that_comes_to_nothing_leaves_nothing(tiny_data: Path, tiny_model: str, tmp_path: Path):
    def fail(trainer: Any) -> None:
        raise ValueError("a user's own")

    trainer = make(tiny_data, tiny_model, tmp_path / "runs", [("on_train_batch_end", fail)], loggers=["tensorboard"])
    with pytest.raises(ValueError, match="a user's own"):
        trainer.train()
    assert not (tmp_path / "runs").exists()


def test_without_trackers_nothing_is_written(tiny_data: Path, tiny_model: str, tmp_path: Path):
    trainer = make(tiny_data, tiny_model, tmp_path, epochs=1)
    trainer.train()
    assert not list(trainer.save_dir.glob("events.out*"))
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_by_itself_it_is_on(tiny_data: Path, tiny_model: str, tmp_path: Path):
    trainer = make(tiny_data, tiny_model, tmp_path, epochs=1, loggers=None)
    trainer.train()
    assert_is_the_table(read(trainer.save_dir), trainer.save_dir)


@pytest.mark.slow
def test_one_of_several_processes_writes(tiny_data: Path, tiny_model: str, tmp_path: Path):
    trainer = make(tiny_data, tiny_model, tmp_path, epochs=2, nproc=2, loggers=["tensorboard"])
    trainer.train()
    assert len(list(trainer.save_dir.glob(EVENT_FILES))) == 1
    assert_is_the_table(read(trainer.save_dir), trainer.save_dir)
