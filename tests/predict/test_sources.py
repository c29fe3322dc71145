"""What `source=` may be: which pictures come out, in which order, and what is said when none do."""

from __future__ import annotations

import functools
import http.server
import logging
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sightline.errors import (
    MissingExtraError,
    MissingSourceError,
    SettingTypeError,
    SettingValueError,
    UsageError,
)
from sightline.predict.frames import Frame, Source
from sightline.predict.sources import open_source

Draw = Callable[..., np.ndarray]


def frames(source: Source) -> list[Frame]:
    return [frame for batch in source for frame in batch]


def names(source: Source) -> list[str]:
    return [Path(frame.path).name for frame in frames(source)]


# ---- files -----------------------------------------------------------------------------------------------------------


def test_one_file(folder: Path, draw: Draw):
    (frame,) = frames(open_source(folder / "a.png"))
    assert (frame.image == draw()).all()
    assert (frame.kind, frame.path, frame.title) == ("image", str(folder / "a.png"), f"image 1/1 {folder / 'a.png'}")


def test_a_folder_is_not_searched_deeper_and_bad_files_are_counted(folder: Path, caplog: pytest.LogCaptureFixture):
    source = open_source(str(folder))
    with caplog.at_level(logging.WARNING, "sightline"):
        assert names(source) == ["a.png", "d.png"]
    assert source.seen == 2
    assert [Path(path).name for path, _ in source.skipped] == ["b.jpg", "c.jpg"]
    assert len(caplog.records) == 2
    assert "c.jpg" in caplog.records[1].message
    assert "0 bytes" in caplog.records[1].message


def test_patterns(folder: Path):
    assert names(open_source(f"{folder}/*.png")) == ["a.png", "d.png"]
    assert names(open_source(f"{folder}/**/*.png")) == ["a.png", "d.png", "e.png"]


def test_a_name_with_brackets_is_no_pattern(tmp_path: Path, draw: Draw):
    cv2.imwrite(str(tmp_path / "shot[1] ä.png"), draw())
    assert names(open_source(tmp_path / "shot[1] ä.png")) == ["shot[1] ä.png"]


def test_images_come_before_videos(folder: Path, video: Path):
    video.rename(folder / "a-film.avi")
    found = frames(open_source(folder, batch=16))
    assert [frame.kind for frame in found] == ["image"] * 2 + ["video"] * 7
    assert found[0].title.startswith("image 1/5 ")
    assert found[2].title == f"video 5/5 (frame 1/7) {folder / 'a-film.avi'}"


def test_list_files(folder: Path, tmp_path: Path):
    (folder / "list.txt").write_text(f"# chosen\n{folder / 'd.png'}\n\na.png\ndeeper/e.png\n")
    assert names(open_source(folder / "list.txt")) == ["d.png", "a.png", "e.png"]
    (tmp_path / "list.csv").write_text('path,label\npictures/a.png,3\n"pictures/d.png",4\n')
    assert names(open_source(tmp_path / "list.csv")) == ["a.png", "d.png"]


def test_python_lists(folder: Path, draw: Draw):
    assert names(open_source([folder / "d.png", str(folder / "a.png")])) == ["d.png", "a.png"]
    source = open_source([str(folder / "missing.png"), str(folder / "a.png")])
    assert names(source) == ["a.png"]
    assert len(source.skipped) == 1
    mixed = frames(open_source([draw(10, 20, (0, 0, 5, 5)), folder / "a.png"]))
    assert [frame.image.shape[:2] for frame in mixed] == [(10, 20), (60, 100)]
    assert [frame.path for frame in mixed] == ["image0.jpg", str(folder / "a.png")]


def test_batches_of_images(folder: Path):
    for name in "fgh":
        (folder / f"{name}.png").write_bytes((folder / "a.png").read_bytes())
    assert [len(batch) for batch in open_source(f"{folder}/*.png", batch=2)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: "no/such/file.jpg", "no such file"),
        (lambda place: str(place / "*.gif"), "pattern"),
        (lambda place: str(place / "*.md"), "1 other files"),
        (lambda place: str(place / "empty"), "no image or video in this folder"),
        (lambda place: str(place.parent), r"pattern .*\*\*"),
        (lambda place: str(place / "empty.txt"), "list is empty"),
        (lambda place: [], "empty list"),
        (lambda place: "a\0b", "cannot be looked up|no such file"),
        (lambda place: "x" * 5000, "cannot be looked up|no such file"),
    ],
)
def test_nothing_there(folder: Path, make: Callable[[Path], Any], message: str):
    (folder / "empty").mkdir()
    (folder / "empty.txt").write_text("\n")
    with pytest.raises(MissingSourceError, match=message) as caught:
        open_source(make(folder))
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("value", [3.5, True, {"a": 1}, object(), b"photo.jpg"])
def test_other_types(value: object):
    with pytest.raises(SettingTypeError, match=type(value).__name__):
        open_source(value)
    with pytest.raises(TypeError):
        open_source(value)


def test_no_source_at_all():
    with pytest.raises(UsageError, match="needs a source"):
        open_source(None)


# ---- videos ----------------------------------------------------------------------------------------------------------


def test_every_frame_of_a_video(video: Path):
    found = frames(open_source(video))
    assert [frame.number for frame in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [round(float(frame.image.mean()), -1) for frame in found] == [0, 30, 60, 90, 120, 150, 180]
    assert found[2].title == f"video 1/1 (frame 3/7) {video}"
    assert found[0].fps == pytest.approx(10)


def test_vid_stride_takes_every_nth_frame(video: Path):
    assert [frame.number for frame in frames(open_source(video, vid_stride=3))] == [1, 4, 7]


def test_two_videos_do_not_share_a_batch(video: Path):
    other = video.with_name("other.avi")
    other.write_bytes(video.read_bytes())
    batches = list(open_source([video, other], batch=5))
    assert [len(batch) for batch in batches] == [5, 2, 5, 2]
    assert all(len({frame.path for frame in batch}) == 1 for batch in batches)


def test_a_damaged_video_is_skipped(tmp_path: Path):
    (tmp_path / "broken.mp4").write_bytes(b"not a film")
    source = open_source(tmp_path / "broken.mp4")
    assert frames(source) == []
    ((path, reason),) = source.skipped
    assert path == str(tmp_path / "broken.mp4")
    assert reason == f"Cannot decode video {path}: OpenCV finds no frame in it."


def test_a_network_of_other_channels_takes_no_video(video: Path):
    with pytest.raises(SettingValueError, match="3 channels"):
        open_source(video, channels=1)


# ---- addresses -------------------------------------------------------------------------------------------------------


@pytest.fixture
def address(folder: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder and the video, served on this machine."""
    video.rename(folder / "film.avi")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_an_image_and_a_video_by_address(address: str, draw: Draw):
    (frame,) = frames(open_source(f"{address}/a.png?size=large"))
    assert (frame.image == draw()).all()
    assert frame.path == f"{address}/a.png?size=large"
    assert len(frames(open_source(f"{address}/film.avi"))) == 7


def test_an_address_that_has_nothing_is_skipped(address: str):
    source = open_source([f"{address}/nothing.jpg", f"{address}/a.png"])
    assert names(source) == ["a.png"]
    assert "nothing.jpg" in source.skipped[0][1]


def test_a_video_page_is_not_a_video():
    with pytest.raises(UsageError, match="web page"):
        open_source("https://www.youtube.com/watch?v=x")


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_arrays(draw: Draw):
    image = draw()
    (frame,) = frames(open_source(image))
    assert (frame.image == image).all()
    assert (frame.path, frame.title) == ("image0.jpg", "image 1/1 image0.jpg")
    assert [frame.path for frame in frames(open_source([image, image, image]))] == [
        "image0.jpg",
        "image1.jpg",
        "image2.jpg",
    ]


@pytest.mark.parametrize(
    "array",
    [np.full((6, 8), 50, np.uint8), np.full((6, 8, 1), 50, np.uint8), np.full((6, 8), 50 << 8, np.uint16)],
    ids=["grey", "one channel", "16 bit"],
)
def test_grey_arrays_become_colour(array: np.ndarray):
    (frame,) = frames(open_source(array))
    assert frame.image.shape == (6, 8, 3)
    assert frame.image.dtype == np.uint8
    assert (frame.image == 50).all()


def test_alpha_is_dropped_and_one_channel_networks_get_one():
    array = np.dstack([np.full((6, 8, 3), 7, np.uint8), np.zeros((6, 8), np.uint8)])
    assert frames(open_source(array))[0].image.shape == (6, 8, 3)
    assert frames(open_source(np.zeros((6, 8), np.uint8), channels=1))[0].image.shape == (6, 8, 1)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros((2, 6, 8, 3), np.uint8), SettingValueError, r"\(2, 6, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), SettingValueError, r"\(0, 8, 3\)"),
        (np.zeros((6, 8, 5), np.uint8), SettingValueError, "3 channels"),
        (np.zeros((6, 8, 3), np.float32), SettingTypeError, "float32"),
        ([np.zeros((6, 8, 3), np.uint8), 5], SettingTypeError, "item 1 is a int"),
        (torch.zeros(6, 8), SettingValueError, "(6, 8)"),
        (torch.zeros(1, 4, 32, 32), SettingValueError, "(1, 4, 32, 32)"),
        (torch.zeros(0, 3, 32, 32), SettingValueError, "(0, 3, 32, 32)"),
        (torch.zeros(1, 3, 33, 32), SettingValueError, "multiples of 32"),
        ([torch.zeros(3, 32, 32), torch.zeros(3, 64, 32)], SettingValueError, "one shape"),
    ],
)
def test_arrays_and_tensors_of_wrong_kinds(value: Any, error: type[Exception], message: str):
    with pytest.raises(error) as caught:
        open_source(value)
    assert message.replace("\\", "") in str(caught.value)


def test_pil_images_are_rgb_and_turned_upright(draw: Draw):
    image = Image.fromarray(draw()[..., ::-1])
    assert (frames(open_source(image))[0].image == draw()).all()
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side: turn by 90° to see it
    turned = frames(open_source(image))[0].image
    assert (turned == np.rot90(draw(), k=-1)).all()
    assert frames(open_source(image.convert("P")))[0].image.shape[2] == 3


def test_tensors_enter_as_they_are():
    images = torch.rand(2, 3, 32, 64)
    before = images.clone()
    first, second = frames(open_source(images, batch=2))
    assert first.ready is not None
    torch.testing.assert_close(first.ready, images[0])
    assert second.image.shape == (32, 64, 3)
    assert second.image[3, 5].tolist() == (images[1, :, 3, 5].flip(0) * 255).round().int().tolist()  # BGR
    assert torch.equal(images, before)
    assert len(frames(open_source([images[0], images[1]]))) == 2


def test_tensors_in_bytes_are_said_and_divided(caplog: pytest.LogCaptureFixture):
    images = torch.full((1, 3, 32, 32), 51, dtype=torch.uint8)
    (frame,) = frames(open_source(images))
    assert frame.ready is not None
    torch.testing.assert_close(frame.ready, torch.full((3, 32, 32), 0.2))
    assert "divided by 255" in caplog.text


# ---- live ------------------------------------------------------------------------------------------------------------


def test_streams_give_a_frame_of_each_until_the_last_ends(video: Path, tmp_path: Path):
    short = tmp_path / "short.avi"
    writer = cv2.VideoWriter(str(short), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    (tmp_path / "cameras.streams").write_text(f"{video}\n{short}\n")
    source = open_source(tmp_path / "cameras.streams", stream_buffer=True)
    batches = list(source)
    assert source.live
    assert [len(batch) for batch in batches] == [2, 2, 2, 1, 1, 1, 1]
    assert [batch[0].number for batch in batches] == [1, 2, 3, 4, 5, 6, 7]
    assert batches[0][1].title == f"stream 2/2 {short} (frame 1)"


def test_without_a_buffer_a_slow_reader_gets_the_latest_frame(video: Path, tmp_path: Path):
    (tmp_path / "cameras.streams").write_text(str(video))
    source = open_source(tmp_path / "cameras.streams")
    numbers = []
    for batch in source:
        numbers.append(batch[0].number)
        for reader in source._readers:  # type: ignore[attr-defined]
            reader._thread.join(timeout=5)  # the file has been read to its end meanwhile
    assert len(numbers) <= 2
    assert numbers[-1] == 7


def test_a_reader_that_stops_ends_the_threads(video: Path, tmp_path: Path):
    (tmp_path / "cameras.streams").write_text(str(video))
    source = open_source(tmp_path / "cameras.streams", stream_buffer=True)
    for _ in source:
        break
    source.close()
    assert not any("sightline stream" in thread.name and thread.is_alive() for thread in threading.enumerate())


def test_streams_that_cannot_be_opened(tmp_path: Path, video: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "cameras.streams").write_text("/no/such/stream\n")
    with pytest.raises(MissingSourceError, match="/no/such/stream"):
        open_source(tmp_path / "cameras.streams")
    (tmp_path / "cameras.streams").write_text(f"/no/such/stream\n{video}")
    assert len(frames(open_source(tmp_path / "cameras.streams", stream_buffer=True))) == 7
    assert "/no/such/stream" in caplog.text


@pytest.mark.parametrize("value", [0, "0", 3])
def test_numbers_are_cameras(value: int | str, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []

    class NoCamera:
        def __init__(self, address: Any) -> None:
            asked.append(address)

        def isOpened(self) -> bool:
            return False

    monkeypatch.setattr(cv2, "VideoCapture", NoCamera)
    with pytest.raises(MissingSourceError, match=f"source={value}"):
        open_source(value)
    assert asked == [int(value)]


def test_the_screen_needs_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(MissingExtraError, match="mss"):
        open_source("screen 1")


def test_the_screen(monkeypatch: pytest.MonkeyPatch):
    class Grabber:
        monitors = ({"left": 0, "top": 0, "width": 40, "height": 30}, {"left": 40, "top": 0, "width": 20, "height": 10})

        def grab(self, area: dict[str, int]) -> np.ndarray:
            self.area = area
            return np.full((area["height"], area["width"], 4), 9, np.uint8)

        def close(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "mss", types.SimpleNamespace(mss=Grabber))
    (frame,) = next(iter(open_source("screen")))
    assert frame.image.shape == (30, 40, 3)
    source = open_source("screen 1 2 3 8 6")
    (frame,) = next(iter(source))
    assert frame.image.shape == (6, 8, 3)
    assert source._grabber.area == {"left": 42, "top": 3, "width": 8, "height": 6}  # type: ignore[attr-defined]
    for wrong in ("screen 7", "screen left", "screen 1 2 3"):
        with pytest.raises(SettingValueError, match="screen"):
            open_source(wrong)
