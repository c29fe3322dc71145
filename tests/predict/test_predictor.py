"""Prediction from source to results and files, with a network that finds red rectangles (conftest.py)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from sightline.errors import (
    MissingExtraError,
    MissingSourceError,
    OutputError,
    SettingValueError,
    UnreadableSourceError,
    UsageError,
)
from sightline.predict import predictor as predictor_module
from sightline.structures.results import Results

Draw = Callable[..., np.ndarray]
Make = Callable[..., Any]


def runs(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "runs")) for path in (tmp_path / "runs").rglob("*") if path.is_file())


# ---- boxes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rect", [True, False])
@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(64, 64, (16, 8, 48, 40)), (60, 100, (20, 10, 60, 50)), (200, 90, (30, 60, 80, 150)), (31, 17, (5, 6, 12, 20))],
)
def test_boxes_come_back_in_original_pixels(
    make_predictor: Make, network: Any, draw: Draw, height: int, width: int, box: tuple[int, ...], rect: bool
):
    image = draw(height, width, box)
    (result,) = make_predictor(rect=rect)(image, model=network)
    # The network sees whole pixels of the letterbox, each of which stands for this many original ones.
    pixel = max(max(height, width) / 64, 1)
    assert isinstance(result, Results)
    assert (result.orig_img == image).all()
    np.testing.assert_allclose(result.boxes.xyxy[0], box, atol=1.01 * pixel)
    assert result.names == network.names


def test_the_letterbox_by_hand(make_predictor: Make, network: Any, draw: Draw):
    """100 × 60 at 64 px becomes 64 × 38 with 26 grey rows; 64 is the next multiple of 32, so `rect` changes nothing."""
    for rect in (False, True):
        predictor = make_predictor(rect=rect)
        predictor(draw(60, 100), model=network)
        (seen,) = predictor.model.network.inputs
        assert seen.shape == (1, 3, 64, 64)
        np.testing.assert_allclose(seen[0, :, 5, 5], 114 / 255, atol=1e-6)  # border
        np.testing.assert_allclose(seen[0, :, 32, 60], 128 / 255, atol=1e-6)  # picture
        assert seen[0, :, 32, 25].tolist() == [1, 0, 0]  # red comes first
    predictor = make_predictor(rect=True)
    predictor(draw(40, 100, (20, 10, 60, 30)), model=network)  # 64 × 26, then 3 rows above and 3 below
    (seen,) = predictor.model.network.inputs
    assert seen.shape == (1, 3, 32, 64)
    assert (seen[0, 0, :, 62] * 255).round().tolist() == [114] * 3 + [128] * 26 + [114] * 3


def test_pictures_of_one_shape_share_a_smaller_frame(make_predictor: Make, network: Any, draw: Draw):
    flat = [draw(20, 100, (20, 5, 60, 15))] * 3
    predictor = make_predictor(batch=2)
    predictor(flat, model=network)
    assert [tuple(seen.shape) for seen in predictor.model.network.inputs] == [(2, 3, 32, 64), (1, 3, 32, 64)]
    predictor = make_predictor(batch=2)
    results = predictor([draw(20, 100, (20, 5, 60, 15)), draw(100, 20, (5, 20, 15, 60))], model=network)
    assert [tuple(seen.shape) for seen in predictor.model.network.inputs] == [(2, 3, 64, 64)]
    np.testing.assert_allclose(results[1].boxes.xyxy[0], (5, 20, 15, 60), atol=1.7)


def test_imgsz_of_two_sides_and_rounding(
    make_predictor: Make, network: Any, draw: Draw, caplog: pytest.LogCaptureFixture
):
    predictor = make_predictor(imgsz=[32, 90], rect=False)
    predictor(draw(), model=network)
    assert predictor.model.network.inputs[0].shape == (1, 3, 32, 96)
    assert "imgsz=[32, 90] becomes [32, 96]" in caplog.text


def test_tensors_are_not_letterboxed(make_predictor: Make, network: Any, draw: Draw):
    image = torch.from_numpy(draw(96, 160, (20, 10, 60, 50))[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    predictor = make_predictor()
    (result,) = predictor(image, model=network)
    assert predictor.model.network.inputs[0].shape == (1, 3, 96, 160)
    assert result.boxes.xyxy[0].tolist() == [20, 10, 60, 50]


# ---- choices ---------------------------------------------------------------------------------------------------------


def test_thresholds_and_filters(make_predictor: Make, network: Any, draw: Draw):
    def scores(**settings: Any) -> list[float]:
        (result,) = make_predictor(**settings)(draw(), model=network)
        return [round(score, 4) for score in result.boxes.conf.tolist()]

    assert scores() == [0.9, 0.6, 0.3]  # 0.25 when nothing is said
    assert scores(conf=0.05) == [0.9, 0.6, 0.3, 0.1]
    assert scores(conf=0.6) == [0.9]  # above, not equal
    assert scores(max_det=2) == [0.9, 0.6]
    assert scores(classes=[1]) == [0.6]
    assert scores(conf=0.95) == []


def test_the_branch_without_suppression_is_the_default(make_predictor: Make, network: Any, draw: Draw):
    def found(**settings: Any) -> list[tuple[float, int]]:
        (result,) = make_predictor(**settings)(draw(), model=network)
        return [
            (round(s, 4), int(c)) for s, c in zip(result.boxes.conf.tolist(), result.boxes.cls.tolist(), strict=True)
        ]

    everything = [(0.9, 0), (0.6, 1), (0.3, 0)]
    assert found() == found(nms=False) == everything
    assert found(nms=True) == [(0.9, 0), (0.6, 1)]  # one of each class: the boxes are all the same
    assert found(nms=True, agnostic_nms=True) == [(0.9, 0)]


def test_the_users_network_stays_as_it_was(make_predictor: Make, network: Any, draw: Draw):
    network.train()
    make_predictor(nms=False, max_det=7)(draw(), model=network)
    assert network.training
    assert network.inputs == []
    assert not network.fused
    assert (network.model[-1].end2end, network.model[-1].max_det) == (False, 300)
    assert network.weight.requires_grad


def test_the_copy_is_kept_until_the_network_changes(make_predictor: Make, network: Any, draw: Draw):
    predictor = make_predictor()
    predictor(draw(), model=network)
    first = predictor.model
    predictor(draw(), model=network)
    predictor(draw())  # the model of the last call
    assert predictor.model is first
    with torch.no_grad():
        network.weight.add_(1)
    predictor(draw(), model=network)
    assert predictor.model is not first
    assert float(predictor.model.network.weight) == 1
    second = predictor.model
    later = make_predictor()
    later.adopt(predictor)
    later(draw(), model=network)
    assert later.model is second
    predictor.args.nms = True
    predictor(draw(), model=network)
    assert predictor.model is not second


def test_results_are_ordinary_tensors(make_predictor: Make, network: Any, draw: Draw):
    for nms in (False, True):
        (result,) = make_predictor(nms=nms)(draw(), model=network)
        assert not result.boxes.data.is_inference()
        result.boxes.data[:, 0] += 1  # would raise for a tensor of inference mode
        assert torch.is_grad_enabled()


def test_mistakes_show_at_once_even_for_a_stream(make_predictor: Make, network: Any, draw: Draw):
    with pytest.raises(MissingSourceError):
        make_predictor()("no/such/file.jpg", model=network, stream=True)
    with pytest.raises(UsageError, match="needs a model"):
        make_predictor()(draw())
    with pytest.raises(SettingValueError, match="visualize"):
        make_predictor(visualize=True)(draw(), model=network)
    with pytest.raises(SettingValueError, match=r"no class 2.* 0 to 1"):
        make_predictor(classes=[1, 2])(draw(), model=network)


# ---- streams and batches ---------------------------------------------------------------------------------------------


def test_a_stream_works_as_it_is_read(make_predictor: Make, network: Any, folder: Path):
    predictor = make_predictor()
    results = predictor(f"{folder}/*.png", model=network, stream=True)
    assert predictor.seen == 0
    first = next(results)
    assert Path(first.path).name == "a.png"
    assert len(predictor.model.network.inputs) == 1
    # The reader's own code runs under no torch context of ours.
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert [Path(result.path).name for result in results] == ["d.png"]


def test_unreadable_images_are_left_out_and_counted(
    make_predictor: Make, network: Any, folder: Path, caplog: pytest.LogCaptureFixture
):
    results = make_predictor()(folder, model=network)
    assert [Path(result.path).name for result in results] == ["a.png", "d.png"]
    assert "2 of 4 pictures could not be read and were skipped." in caplog.text


def test_a_source_of_which_nothing_can_be_read(
    make_predictor: Make, network: Any, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(UnreadableSourceError, match=r"no picture could be read.*b\.jpg.*1 more") as caught:
        make_predictor(save=True)([folder / "b.jpg", folder / "c.jpg"], model=network)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "runs").exists()  # nothing half-done stays
    assert caplog.records == []  # one message, the error


def test_speed_is_given_for_each_picture(make_predictor: Make, network: Any, draw: Draw):
    predictor = make_predictor(batch=2)
    results = predictor([draw(), draw(), draw()], model=network)
    for result in results:
        assert set(result.speed) == {"preprocess", "inference", "postprocess"}
        assert all(value > 0 for value in result.speed.values())
    assert results[0].speed == results[1].speed != results[2].speed
    mean = sum(result.speed["inference"] for result in results) / 3
    assert predictor.speed["inference"] == pytest.approx(mean)


def test_lines_on_the_console(make_predictor: Make, network: Any, folder: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "sightline"):
        make_predictor(conf=0.5)([folder / "a.png", folder / "d.png"], model=network)
    lines = [record.message for record in caplog.records]
    assert len(lines) == 3
    time = r"\d+\.\d"
    path = str(folder / "a.png").replace(".", r"\.")
    assert re.fullmatch(rf"image 1/2 {path}: 64x64 1 square, 1 thing, {time}ms", lines[0])
    assert re.fullmatch(
        rf"Speed: {time}ms preprocess, {time}ms inference, {time}ms postprocess per image at shape \(1, 3, 64, 64\)",
        lines[2],
    )
    caplog.clear()
    with caplog.at_level(logging.INFO, "sightline"):
        make_predictor(verbose=False)(folder / "a.png", model=network)
    assert caplog.records == []


def test_nothing_found_is_an_ordinary_result(make_predictor: Make, network: Any, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "sightline"):
        (result,) = make_predictor()(np.zeros((50, 50, 3), np.uint8), model=network)
        (none,) = make_predictor(conf=0.99)(np.zeros((50, 50, 3), np.uint8), model=network)
    assert len(none) == 0
    assert none.boxes.xyxy.shape == (0, 4)
    assert "(no detections), " in caplog.text
    assert result.boxes is not None


# ---- callbacks -------------------------------------------------------------------------------------------------------


def test_callbacks_come_in_order_with_the_predictor(make_predictor: Make, network: Any, folder: Path):
    seen: list[tuple[str, int, list[str]]] = []
    events = ("start", "batch_start", "postprocess_end", "batch_end", "end")
    table = {
        f"on_predict_{event}": [
            lambda predictor, event=event: seen.append(
                (event, len(predictor.results), [Path(path).name for path in predictor.batch[0]])
            )
        ]
        for event in events
    }
    predictor = make_predictor(callbacks=table)
    predictor(f"{folder}/*.png", model=network)
    assert [event for event, _, _ in seen] == ["start", *("batch_start", "postprocess_end", "batch_end") * 2, "end"]
    assert seen[1][2] == ["a.png"]
    assert seen[2][1:] == (1, ["a.png"])
    assert seen[5][1:] == (1, ["d.png"])
    assert predictor.dataset is predictor.source


def test_what_callbacks_put_in_place_is_handed_out(make_predictor: Make, network: Any, draw: Draw):
    predictor = make_predictor()
    predictor.add_callback(
        "on_predict_batch_end", lambda p: setattr(p, "results", list(zip(p.results, p.batch[1], strict=True)))
    )
    ((result, image),) = predictor([draw()], model=network)
    assert isinstance(result, Results)
    assert (image == draw()).all()


# ---- files -----------------------------------------------------------------------------------------------------------


def test_nothing_is_written_unless_asked(make_predictor: Make, network: Any, draw: Draw, tmp_path: Path):
    (result,) = make_predictor()(draw(), model=network)
    assert not (tmp_path / "runs").exists()
    assert result.save_dir is None


def test_pictures_labels_and_crops(
    make_predictor: Make, network: Any, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, "sightline"):
        results = make_predictor(save=True, save_txt=True, save_conf=True, save_crop=True, conf=0.5)(
            f"{folder}/*.png", model=network
        )
    assert runs(tmp_path) == [
        "predict/a.png",
        "predict/crops/square/a.jpg",
        "predict/crops/square/d.jpg",
        "predict/crops/thing/a.jpg",
        "predict/crops/thing/d.jpg",
        "predict/d.png",
        "predict/labels/a.txt",
        "predict/labels/d.txt",
    ]
    written = cv2.imread(str(tmp_path / "runs" / "predict" / "a.png"))
    assert (written == results[0].plot()).all()
    rows = (tmp_path / "runs" / "predict" / "labels" / "a.txt").read_text().splitlines()
    assert [row.split()[0] for row in rows] == ["0", "1"]
    assert [float(row.split()[5]) for row in rows] == pytest.approx([0.9, 0.6])
    assert results[0].save_dir == tmp_path / "runs" / "predict"
    assert f"Results saved to {tmp_path / 'runs' / 'predict'}" in caplog.text
    assert "2 label files saved to" in caplog.text
    make_predictor(save=True)(folder / "a.png", model=network)
    assert "predict-2/a.png" in runs(tmp_path)


def test_equal_names_do_not_overwrite_each_other(make_predictor: Make, network: Any, tmp_path: Path, draw: Draw):
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        cv2.imwrite(str(tmp_path / place / "1.png"), draw())
    cv2.imwrite(str(tmp_path / "x" / "1.jpg"), draw())
    paths = [tmp_path / "x" / "1.png", tmp_path / "y" / "1.png", tmp_path / "x" / "1.jpg"]
    make_predictor(save=True, save_txt=True)(paths, model=network)
    assert runs(tmp_path) == [
        "predict/1-2.png",
        "predict/1-3.jpg",
        "predict/1.png",
        "predict/labels/1-2.txt",
        "predict/labels/1-3.txt",
        "predict/labels/1.txt",
    ]


def test_drawing_choices(make_predictor: Make, network: Any, draw: Draw, tmp_path: Path):
    def drawn(**settings: Any) -> np.ndarray:
        make_predictor(save=True, name="x", exist_ok=True, **settings)(draw(), model=network)
        return cv2.imread(str(tmp_path / "runs" / "x" / "image0.jpg"))

    plain = drawn(show_boxes=False)
    assert np.abs(plain.astype(int) - draw()).mean() < 4  # only what JPEG does
    assert (drawn() != drawn(show_conf=False)).any()
    assert (drawn() != drawn(show_labels=False)).any()
    assert (drawn() != drawn(line_width=5)).any()


def test_a_video_is_written_as_a_video(make_predictor: Make, network: Any, video: Path, tmp_path: Path):
    make_predictor(save=True, save_txt=True, save_frames=True, vid_stride=2, batch=3)(video, model=network)
    assert runs(tmp_path) == [
        "predict/film.mp4",
        *(f"predict/film_frames/{number}.jpg" for number in (1, 3, 5, 7)),
        *(f"predict/labels/film_{number}.txt" for number in (1, 3, 5, 7)),
    ]
    capture = cv2.VideoCapture(str(tmp_path / "runs" / "predict" / "film.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5)  # every second frame: as fast as life
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (64, 48)


def test_a_video_whose_reader_stops_can_be_played(make_predictor: Make, network: Any, video: Path, tmp_path: Path):
    results = make_predictor(save=True)(video, model=network, stream=True)
    next(results), next(results)
    results.close()
    capture = cv2.VideoCapture(str(tmp_path / "runs" / "predict" / "film.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_streams_get_names_that_are_files(make_predictor: Make, network: Any, video: Path, tmp_path: Path):
    (tmp_path / "c.streams").write_text(str(video))
    make_predictor(save=True, stream_buffer=True)(tmp_path / "c.streams", model=network)
    assert runs(tmp_path) == ["predict/film.mp4"]


def test_a_folder_that_cannot_be_made_is_said_before_any_work(
    make_predictor: Make, network: Any, draw: Draw, tmp_path: Path
):
    (tmp_path / "file").write_text("")
    predictor = make_predictor(save=True, project=str(tmp_path / "file"))
    with pytest.raises(OutputError, match="file"):
        predictor(draw(), model=network)
    assert predictor.model.network.inputs == []


# ---- windows ---------------------------------------------------------------------------------------------------------


def test_show_says_why_it_cannot(make_predictor: Make, network: Any, draw: Draw, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sightline.structures.pictures.has_windows", lambda: False)
    with pytest.raises(MissingExtraError, match="save=True"):
        make_predictor(show=True)(draw(), model=network)


def test_q_ends_the_run(make_predictor: Make, network: Any, draw: Draw, monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []

    def window(drawn: np.ndarray, title: str, *, wait_ms: int) -> int:
        shown.append(title)
        return ord("q") if len(shown) == 2 else -1

    monkeypatch.setattr(predictor_module, "check_windows", lambda: None)
    monkeypatch.setattr(predictor_module, "show_picture", window)
    results = make_predictor(show=True)([draw()] * 5, model=network)
    assert shown == ["image0.jpg", "image1.jpg"]
    assert len(results) == 2
