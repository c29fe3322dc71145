"""Decoding every kind of image file; the first resize; the caches."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from golden.golden import golden_path
from sightline.data import images as images_module
from sightline.data.image_cache import CachePlan
from sightline.data.images import ImageError, ImageReader, read_image, resize_long_side, resized_shape


@pytest.fixture
def picture() -> np.ndarray:
    """(20, 30, 3) BGR with nothing symmetrical about it."""
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def save(path: Path, bgr: np.ndarray, **options) -> Path:
    Image.fromarray(bgr[:, :, ::-1] if bgr.ndim == 3 else bgr).save(path, **options)
    return path


# ------------------------------------------------------------------------------------------------- decode


@pytest.mark.parametrize("name", ["plain.png", "with space ä 漢字.png", "UPPER.BMP", "t.tiff", "w.webp", "j.jp2"])
def test_lossless_formats_and_names(tmp_path: Path, picture: np.ndarray, name: str):
    options = {"lossless": True} if name.endswith("webp") else {}
    image = read_image(save(tmp_path / name, picture, **options))
    assert image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(image, picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int):
    upright = np.full((24, 40, 3), 30, np.uint8)
    upright[:8, :8] = 220  # a bright corner tells how it lies
    # What is stored, so that turning it as the tag says gives the picture above (EXIF 2.3, 4.6.4).
    undo = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: x.swapaxes(0, 1)[::-1],
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: x.swapaxes(0, 1)[:, ::-1],
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", np.ascontiguousarray(undo[orientation](upright)), exif=exif, quality=100)
    image = read_image(path)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() < 12


def test_grey_and_alpha_and_palette_become_three_channels(tmp_path: Path, picture: np.ndarray):
    grey = picture[:, :, 0]
    image = read_image(save(tmp_path / "g.png", grey))
    np.testing.assert_array_equal(image, np.repeat(grey[:, :, None], 3, axis=2))
    alpha = np.dstack([picture[:, :, ::-1], np.full((20, 30), 7, np.uint8)])
    Image.fromarray(alpha, "RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)
    Image.fromarray(grey, "L").convert("P").save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").shape == (20, 30, 3)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_of_16_bits_the_high_byte_remains(tmp_path: Path, suffix: str):
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / f"d{suffix}"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / f"d{suffix}"), (deep >> 8).astype(np.uint8))


def test_other_channel_counts(tmp_path: Path, picture: np.ndarray):
    path = save(tmp_path / "c.png", picture)
    assert read_image(path, channels=1).shape == (20, 30, 1)
    with pytest.raises(ImageError, match=r"c\.png has 3 channels, but the data set says channels=4"):
        read_image(path, channels=4)
    pages = [Image.fromarray(picture[:, :, i]) for i in range(3)] * 2
    pages[0].save(tmp_path / "six.tiff", save_all=True, append_images=pages[1:])
    six = read_image(tmp_path / "six.tiff", channels=6)
    np.testing.assert_array_equal(six, np.concatenate([picture, picture], axis=2))
    np.testing.assert_array_equal(read_image(tmp_path / "six.tiff"), np.repeat(picture[:, :, :1], 3, axis=2))


def test_first_frame_of_an_animation(tmp_path: Path, picture: np.ndarray):
    frames = [Image.fromarray(picture[:, :, ::-1]), Image.fromarray(255 - picture)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp"), picture)


def test_avif(tmp_path: Path):
    from PIL import features

    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    save(tmp_path / "a.avif", np.full((20, 30, 3), 90, np.uint8))
    image = read_image(tmp_path / "a.avif")
    assert image.shape == (20, 30, 3)
    assert np.abs(image.astype(int) - 90).max() < 6


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"a\.jpg: No such file"),
        (b"", r"a\.jpg: the file is empty \(0 bytes\)"),
        (b"hello", r"a\.jpg: it is damaged or not an image format"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", r"a\.jpg: "),
        (b"\0\0\0\x18ftypheic\0\0\0\0heic", r"HEIC needs the package pillow-heif"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes | None, said: str):
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=said):
        read_image(tmp_path / "a.jpg")


def test_float_samples_are_refused(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "f.tiff"), np.zeros((20, 30, 3), np.float32))
    with pytest.raises(ImageError, match=r"f\.tiff has float32 samples; convert it to 8 or 16 bits"):
        read_image(tmp_path / "f.tiff")


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_samples_of_32_bits_are_refused(tmp_path: Path, dtype: type, channels: int):
    """OpenCV reads such a file as grey only, and Pillow would turn everything above 255 to white."""
    Image.fromarray(np.linspace(0, 60_000, 600).reshape(20, 30).astype(dtype)).save(tmp_path / "g.tiff")
    with pytest.raises(ImageError, match=rf"g\.tiff has {np.dtype(dtype)} samples; convert it to 8 or 16 bits"):
        read_image(tmp_path / "g.tiff", channels)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_of_16_grey_bits_the_high_byte_remains(tmp_path: Path, suffix: str):
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / f"d.{suffix}")
    image = read_image(tmp_path / f"d.{suffix}")
    np.testing.assert_array_equal(image, np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, axis=2))
    # The same where OpenCV gives up and Pillow reads it.
    for channels in (1, 3):
        other = images_module._decode_pillow(np.fromfile(tmp_path / f"d.{suffix}", np.uint8), "d", channels)
        np.testing.assert_array_equal(other, np.repeat(deep[:, :, None], channels, axis=2))


# ------------------------------------------------------------------------------------------------- first resize


def test_first_resize_equals_the_recorded_sizes():
    cases = json.loads(golden_path("data_metrics/a_letterbox.json").read_text())["load_resize"]
    for case in cases:
        assert list(resized_shape(*case["image_hw"], case["imgsz"])) == case["resized"], case
    case = cases[0]
    image = np.zeros((*case["image_hw"], 3), np.uint8)
    assert list(resize_long_side(image, case["imgsz"]).shape[:2]) == case["resized"]


def test_first_resize_keeps_a_single_channel():
    assert resize_long_side(np.zeros((40, 20, 1), np.uint8), 20).shape == (20, 10, 1)


# ------------------------------------------------------------------------------------------------- reader


@pytest.fixture
def images(tmp_path: Path) -> tuple[list[str], np.ndarray]:
    """Eight images of two sizes."""
    rng = np.random.default_rng(1)
    paths, shapes = [], []
    for i in range(8):
        shape = (40, 60) if i % 2 else (60, 40)
        paths.append(str(save(tmp_path / f"{i}.png", rng.integers(0, 256, (*shape, 3), dtype=np.uint8))))
        shapes.append(shape)
    return paths, np.array(shapes)


BYTES = 30 * 20 * 3  # of one image at 30 pixels


def reader(images: tuple[list[str], np.ndarray], cache: bool | str, **options) -> ImageReader:
    return ImageReader(images[0], 30, shapes=images[1], cache=cache, **options)


def pixels(reader: ImageReader) -> list[bytes]:
    return [reader.load(i)[0].tobytes() for i in range(len(reader))]


@pytest.mark.parametrize("cache", [True, "ram", "disk"])
@pytest.mark.parametrize("budget", [0, 3 * BYTES, None])
def test_a_cache_gives_the_same_pixels_within_its_budget(images, tmp_path: Path, cache, budget):
    plain = reader(images, False)
    cached = reader(images, cache, budget_bytes=budget, folder=tmp_path / "cache")
    assert cached.cached == {0: 0, 3 * BYTES: 3, None: 8}[budget]
    for _ in range(2):
        assert pixels(cached) == pixels(plain)
    assert cached.load(0)[1] == (60, 40)
    stored = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.npy"))
    assert stored <= (8 if budget is None else budget // BYTES) * (BYTES + 128)


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_the_second_read_comes_from_the_cache(images, tmp_path: Path, cache):
    cached = reader(images, cache, folder=tmp_path / "cache")
    before = pixels(cached)
    for path in images[0]:
        Path(path).unlink()
    assert pixels(cached) == before


def test_what_load_returns_belongs_to_the_caller(images):
    cached = reader(images, "ram")
    before = pixels(cached)
    cached.load(0)[0][:] = 0
    assert pixels(cached) == before


def test_a_changed_image_is_not_taken_from_the_disk_cache(images, tmp_path: Path):
    pixels(reader(images, "disk", folder=tmp_path / "cache"))
    save(Path(images[0][0]), np.full((60, 40, 3), 9, np.uint8))
    again = reader(images, "disk", folder=tmp_path / "cache")
    assert (again.load(0)[0] == 9).all()


def test_other_sizes_leave_when_the_disk_budget_is_used_up(images, tmp_path: Path):
    place = tmp_path / "cache"
    pixels(ImageReader(images[0], 24, shapes=images[1], cache="disk", folder=place))
    assert len(list(place.rglob("*.npy"))) == 8
    pixels(reader(images, "disk", folder=place, budget_bytes=8 * BYTES))
    assert sorted(np.load(path).shape[:2] for path in place.rglob("*.npy")) == [(20, 30)] * 4 + [(30, 20)] * 4


def test_a_damaged_cache_file_is_replaced(images, tmp_path: Path):
    place = tmp_path / "cache"
    before = pixels(reader(images, "disk", folder=place))
    for path in place.rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:50])
    assert pixels(reader(images, "disk", folder=place)) == before


def test_a_disk_cache_that_cannot_be_written_only_warns(images, tmp_path: Path):
    (tmp_path / "file").touch()
    cached = reader(images, "disk", folder=tmp_path / "file" / "cache", budget_bytes=1 << 20)
    assert pixels(cached) == pixels(reader(images, False))
    assert cached.cached == 0


def test_threads_share_a_reader(images):
    cached = reader(images, "ram")
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda i: cached.load(i % 8)[0].tobytes(), range(64)))
    assert loaded == pixels(reader(images, False)) * 8


def _fill(cached: ImageReader, queue) -> None:
    queue.put(pixels(cached))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_the_memory(images, method: str):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    context = multiprocessing.get_context(method)
    cached = reader(images, "ram")
    queue = context.Queue()
    process = context.Process(target=_fill, args=(cached, queue))
    process.start()
    child = queue.get(timeout=120)
    process.join(timeout=60)
    for path in images[0]:
        Path(path).unlink()
    if method == "fork" or hasattr(__import__("os"), "memfd_create"):
        assert pixels(cached) == child  # what the child decoded is here, though the files are gone


def test_a_pickled_reader_works_without_its_memory(images):
    cached = reader(images, "ram")
    assert pixels(pickle.loads(pickle.dumps(cached))) == pixels(cached)


def test_the_plan_is_spread_over_the_list():
    shapes = np.full((1000, 2), 10)
    chosen = CachePlan(shapes, shapes, 3).choose(500 * 300)
    assert chosen.sum() == 500
    assert 200 < chosen[:500].sum() < 300


def test_wrong_cache_value(images):
    with pytest.raises(ValueError, match="'ram' or 'disk'"):
        reader(images, "tape")
