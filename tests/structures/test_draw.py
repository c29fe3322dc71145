"""Drawing: what is painted where, and that labels never leave the picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sightline.errors import MissingExtraError, MissingFileError, OutputError
from sightline.structures import lettering, pictures
from sightline.structures.draw import (
    PALETTE,
    class_colour,
    default_line_width,
    default_text_size,
    draw_boxes,
    draw_text,
    readable_on,
)
from sightline.structures.lettering import fitting_letters, letters_of

GREY, RED = (128, 128, 128), (0, 0, 255)


def canvas(height: int = 100, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def painted(picture: np.ndarray) -> np.ndarray:
    return (picture != 128).any(axis=2)


@pytest.mark.parametrize(
    ("shape", "expected"),
    # (h + w + 3) / 2 · 0.003 = 1.68, 4.50 (rounds to even), 9.00, 0.10
    [((480, 640, 3), 2), ((1080, 1917, 3), 4), ((2160, 3840, 3), 9), ((32, 32, 3), 2)],
)
def test_line_width_rule(shape: tuple[int, int, int], expected: int):
    assert default_line_width(shape) == expected


def test_text_is_readable_at_every_size():
    for side in (16, 64, 320, 1280, 5000):
        shape = (side, side, 3)
        assert 9 <= default_text_size(shape, default_line_width(shape)) <= 100


def test_colours_are_distinct_and_stable():
    assert len(set(PALETTE)) == len(PALETTE) >= 20
    assert class_colour(0) == (0x00, 0x9F, 0xE6)  # #e69f00 as BGR
    assert class_colour(len(PALETTE) + 3) == class_colour(3)


def test_letters_stand_out_on_every_palette_colour():
    def luminance(colour: tuple[int, int, int]) -> float:
        linear = [v / 12.92 if (v := c / 255) <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]

    for index in range(len(PALETTE)):
        background = class_colour(index)
        pair = sorted([luminance(background), luminance(readable_on(background))])
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.0  # WCAG asks 3 for large and 4.5 for small text


def test_a_box_is_a_frame_of_the_line_width():
    picture = canvas()
    draw_boxes(picture, [[50, 20, 150, 80]], [""], [RED], line_width=3, text_size=12)
    assert painted(picture)[50].nonzero()[0].tolist() == [49, 50, 51, 149, 150, 151]
    assert tuple(picture[50, 50]) == RED


@pytest.mark.parametrize(
    "box",
    [
        (-40, -30, 40, 30),
        (180, -10, 260, 40),
        (150, 60, 260, 140),
        (-50, 90, 20, 130),
        (0, 0, 200, 100),
        (400, 400, 500, 500),
        (-1e12, -1e12, 1e12, 1e12),
        (float("nan"), 10, 50, 50),
        (60, 60, 60, 60),
    ],
)
@pytest.mark.parametrize("label", ["cat 0.87", "a name that is far wider than the picture itself and then some 0.99"])
def test_labels_lie_inside_the_picture(box: tuple[float, ...], label: str):
    seen: list[tuple[int, int, int, int]] = []
    original = cv2.rectangle

    def recording(image, start, end, colour, thickness, *rest):
        if thickness == -1:  # only labels are filled
            seen.append((*start, *end))
        return original(image, start, end, colour, thickness, *rest)

    picture = canvas()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.structures.draw.cv2.rectangle", recording)
        draw_boxes(picture, [box], [label], [RED], line_width=2, text_size=14)
    ((x1, y1, x2, y2),) = seen
    assert 0 <= x1 < x2 < 200
    assert 0 <= y1 < y2 < 100


def test_the_label_sits_on_the_box_or_inside_at_the_top():
    high, low = canvas(), canvas()
    draw_boxes(high, [[50, 0, 150, 80]], ["cat"], [RED], line_width=2, text_size=12)
    draw_boxes(low, [[50, 40, 150, 80]], ["cat"], [RED], line_width=2, text_size=12)
    assert tuple(high[4, 52]) == RED  # below the upper edge
    assert painted(low)[:38, 40:].any()  # above it


def test_nothing_to_draw_changes_nothing():
    picture = canvas()
    draw_boxes(picture, np.zeros((0, 4)), [], [], line_width=2, text_size=12)
    assert not painted(picture).any()


def test_text_on_a_picture_of_a_few_pixels():
    picture = canvas(4, 3)
    draw_text(picture, "label", (0, 0), text_size=12, background=RED)
    assert painted(picture).any()


def test_long_text_shrinks_then_is_cut():
    full = letters_of("platelets 0.87", 20)
    smaller = fitting_letters("platelets 0.87", 20, room=full.shape[1] - 10)
    assert smaller.shape[1] <= full.shape[1] - 10
    assert smaller.shape[0] < full.shape[0]
    assert fitting_letters("platelets 0.87", 20, room=25).shape[1] <= 25


@pytest.mark.parametrize("name", ["Größe", "кошка", "γάτα", "红细胞", "고양이", "two\nlines"])
def test_names_of_many_languages_have_shapes_of_their_own(name: str):
    letters = letters_of(name, 20)
    empty_boxes = letters_of("\U0010ffff" * len(name), 20)
    assert letters.any()
    assert letters.shape != empty_boxes.shape or (letters != empty_boxes).any()


def test_a_name_no_font_shows_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    monkeypatch.setattr(lettering, "_WIDE_FONTS", ("no-such-font.ttf",))
    lettering._say_no_font.cache_clear()
    letters_of("红细胞 one", 17)
    letters_of("红细胞 two", 17)
    assert sum("Noto Sans CJK" in record.message for record in caplog.records) == 1
    lettering._say_no_font.cache_clear()
    letters_of.cache_clear()


def test_a_font_that_does_not_exist_is_named():
    with pytest.raises(MissingFileError, match=r"nowhere\.ttf"):
        letters_of("cat", 12, "nowhere.ttf")


@pytest.mark.parametrize(
    ("name", "written"), [("a.png", "a.png"), ("b.JPG", "b.JPG"), ("c.mp4", "c.mp4.jpg"), ("d", "d.jpg")]
)
def test_write_picture_chooses_a_format(tmp_path: Path, name: str, written: str):
    assert pictures.write_picture(tmp_path / "sub" / name, canvas()) == tmp_path / "sub" / written
    assert [path.name for path in (tmp_path / "sub").iterdir()] == [written]
    assert cv2.imread(str(tmp_path / "sub" / written)).shape == (100, 200, 3)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space left"):
        pictures.write_picture(tmp_path / "a.png", canvas())
    assert list(tmp_path.iterdir()) == []


def test_a_headless_opencv_is_said_before_anything_is_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pictures, "has_windows", lambda: False)
    with pytest.raises(MissingExtraError, match="headless"):
        pictures.show_picture(canvas(), "title")
