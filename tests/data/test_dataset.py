from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sightline.config.load import make_settings
from sightline.data.collate import collate
from sightline.data.images import ImageError
from sightline.data.loader import build_dataset
from sightline.data.sampler import SampleKey
from sightline.data.spec import load_dataset_spec
from sightline.errors import MissingFileError


def write_data(root: Path, count: int = 6, sizes=((40, 64), (64, 40), (64, 64)), polygons: bool = False) -> Path:
    """Coloured rectangles on noise, one to three an image, the last image without any."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for i in range(count):
            height, width = sizes[i % len(sizes)]
            image = rng.integers(0, 80, (height, width, 3), dtype=np.uint8)
            rows = []
            for _ in range(0 if i == count - 1 else 1 + i % 3):
                x1, y1 = rng.integers(0, width - 20), rng.integers(0, height - 20)
                x2, y2 = x1 + rng.integers(10, 20), y1 + rng.integers(10, 20)
                image[y1:y2, x1:x2] = rng.integers(150, 256, 3)
                if polygons:
                    corners = [
                        x1 / width,
                        y1 / height,
                        x2 / width,
                        y1 / height,
                        x2 / width,
                        y2 / height,
                        x1 / width,
                        y2 / height,
                    ]
                    rows.append(f"{i % 2} " + " ".join(f"{value:.6f}" for value in corners))
                else:
                    box = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
                    rows.append(f"{i % 2} " + " ".join(f"{value:.6f}" for value in box))
            cv2.imwrite(str(root / "images" / split / f"{i:02d}.png"), image)
            (root / "labels" / split / f"{i:02d}.txt").write_text("\n".join(rows))
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [a, b]\n")
    return root / "data.yaml"


def make(data: Path, mode: str = "train", batch_size: int = 4, **settings):
    rect = settings.pop("rect_batches", None)
    origin = make_settings("train", {"data": str(data), "model": "yolo26n.yaml", "imgsz": 64, **settings})
    return build_dataset(origin, load_dataset_spec(data), mode=mode, batch_size=batch_size, rect=rect)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def test_a_training_sample_has_the_keys_and_types_of_a_batch(data):
    row = make(data)[SampleKey(0, 1)]
    assert set(row) == {"img", "cls", "bboxes", "batch_idx", "im_file", "ori_shape", "resized_shape", "ratio_pad"}
    assert row["img"].shape == (3, 64, 64)
    assert row["img"].dtype == torch.uint8
    assert row["img"].is_contiguous()
    assert {row[key].dtype for key in ("cls", "bboxes", "batch_idx")} == {torch.float32}
    assert row["cls"].shape == (len(row["bboxes"]), 1)
    assert row["im_file"].endswith("01.png")
    assert row["ori_shape"] == (64, 40)


def test_the_same_key_gives_the_same_numbers_and_others_do_not(data):
    first, second = make(data), make(data)
    second[SampleKey(3, 0)]  # what was asked before does not matter
    a, b = first[SampleKey(2, 4)], second[SampleKey(2, 4)]
    assert torch.equal(a["img"], b["img"])
    assert torch.equal(a["bboxes"], b["bboxes"])
    assert not torch.equal(a["img"], first[SampleKey(3, 4)]["img"])
    assert not torch.equal(a["img"], make(data, seed=1)[SampleKey(2, 4)]["img"])
    assert torch.equal(first[4]["img"], first[SampleKey(0, 4)]["img"])


def test_without_mixing_only_the_image_itself_comes(data):
    """hsv and shift off: the image lies in the middle of grey, at its own size."""
    dataset = make(data, hsv_h=0, hsv_s=0, hsv_v=0, translate=0, scale=0, fliplr=0)
    row = dataset[SampleKey(0, 0, mixing=False)]
    original = cv2.imread(dataset.index.paths[0])  # 40 × 64
    out = row["img"].numpy()[::-1].transpose(1, 2, 0)
    np.testing.assert_array_equal(out[12:52], original)
    assert (out[:12] == 114).all()
    assert (out[52:] == 114).all()
    assert not torch.equal(row["img"], dataset[SampleKey(0, 0)]["img"])


def test_validation_is_a_letterbox_in_red_green_blue(data):
    dataset = make(data, mode="val", rect_batches=False)
    row = dataset[1]
    out = row["img"].numpy()
    original = cv2.imread(dataset.index.paths[1])  # 64 × 40
    np.testing.assert_array_equal(out[:, :, 12:52], original[..., ::-1].transpose(2, 0, 1))
    assert row["ratio_pad"] == ((1.0, 1.0), (12.0, 0.0))
    assert row["resized_shape"] == (64, 40)
    # The first box back in pixels is the bright rectangle.
    x, y, w, h = (row["bboxes"][0] * 64).tolist()
    inside = out[:, round(y - h / 2) : round(y + h / 2), round(x - w / 2) : round(x + w / 2)]
    assert inside.min() >= 150


def test_boxes_lie_on_their_rectangles_through_mosaic_and_affine(data):
    dataset = make(data, hsv_h=0, hsv_s=0, hsv_v=0, degrees=10)
    seen = 0
    for epoch in range(20):
        row = dataset[SampleKey(epoch, 1)]
        bright = row["img"].numpy().max(axis=0) >= 140
        for x, y, w, h in (row["bboxes"] * 64).tolist():
            if min(w, h) < 6:
                continue
            part = bright[round(y - h / 4) : round(y + h / 4), round(x - w / 4) : round(x + w / 4)]
            seen += 1
            assert part.mean() > 0.9  # the middle of a box shows its object
    assert seen > 30


def test_rectangular_batches_of_validation(data):
    dataset = make(data, mode="val", batch_size=2)
    plan = dataset.rect_batches
    for b in range(len(plan.shapes)):
        rows = [dataset[int(i)] for i in plan.order[plan.batch == b]]
        assert {tuple(row["img"].shape[1:]) for row in rows} == {tuple(plan.shapes[b])}
        assert collate(rows)["img"].shape[0] == len(rows)


def test_rectangular_training_mixes_nothing(data):
    dataset = make(data, rect=True, batch_size=2, hsv_h=0, hsv_s=0, hsv_v=0, translate=0, scale=0, fliplr=0, mixup=1.0)
    row = dataset[SampleKey(0, 0)]
    assert row["img"].shape == (3, 64, 64) or row["img"].shape[1] < row["img"].shape[2]
    height = row["img"].shape[1]
    top = (height - 40) // 2
    out = row["img"].numpy()[::-1].transpose(1, 2, 0)
    np.testing.assert_array_equal(out[top : top + 40], cv2.imread(dataset.index.paths[0]))


@pytest.mark.parametrize(
    "options",
    [
        {"mosaic_tiles": 9},
        {"mixup": 1.0},
        {"cutmix": 1.0},
        {"copy_paste": 1.0},
        {"copy_paste": 1.0, "copy_paste_mode": "mixup"},
        {"mosaic": 0.0, "flipud": 1.0, "bgr": 1.0},
        {"mosaic_prob": 0.0, "perspective": 0.0005, "shear": 5, "degrees": 45},
    ],
)
@pytest.mark.parametrize("polygons", [False, True])
def test_every_option_gives_sound_samples(options, polygons, tmp_path):
    dataset = make(write_data(tmp_path, polygons=polygons), **options)
    for epoch in range(3):
        batch = collate([dataset[SampleKey(epoch, i)] for i in range(len(dataset))])
        boxes = batch["bboxes"]
        assert batch["img"].shape == (6, 3, 64, 64)
        assert torch.isfinite(boxes).all()
        corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], dim=1)
        assert corners.min() >= -1e-6
        assert corners.max() <= 1 + 1e-6
        assert (boxes[:, 2:] > 0).all()


def test_outlines_and_boxes_of_rectangles_give_the_same_boxes(tmp_path):
    with_boxes, with_outlines = tmp_path / "boxes", tmp_path / "outlines"
    a = make(write_data(with_boxes), degrees=0)
    b = make(write_data(with_outlines, polygons=True), degrees=0)
    for i in range(5):
        rows = a[SampleKey(1, i)], b[SampleKey(1, i)]
        assert torch.equal(rows[0]["img"], rows[1]["img"])
        np.testing.assert_allclose(rows[0]["bboxes"], rows[1]["bboxes"], atol=1e-4)


def test_collate_numbers_the_images_and_copes_with_none():
    rows = [
        {"img": torch.zeros(3, 2, 2, dtype=torch.uint8), "cls": torch.ones(n, 1), "bboxes": torch.ones(n, 4),
         "batch_idx": torch.zeros(n), "im_file": str(n)}
        for n in (2, 0, 1)
    ]  # fmt: skip
    batch = collate(rows)
    assert batch["batch_idx"].tolist() == [0, 0, 2]
    assert batch["im_file"] == ("2", "0", "1")
    empty = collate(rows[1:2])
    assert empty["cls"].shape == (0, 1)
    assert empty["bboxes"].shape == (0, 4)


def test_settings_choose_images_and_classes(data, caplog):
    assert len(make(data, fraction=0.5)) == 3
    assert len(make(data, fraction=0.5, mode="val")) == 6  # a single number is about training
    assert len(make(data, fraction=[1.0, 0.5], mode="val")) == 3
    assert set(make(data, classes=[1]).index.classes.tolist()) == {1.0}
    assert set(make(data, single_cls=True).index.classes.tolist()) == {0.0}
    caplog.set_level("INFO", logger="sightline")
    make(data, copy_paste=0.3)
    assert "copy_paste=0.3: the labels have no outlines, so the pixels of whole boxes are pasted." in caplog.text


def test_copy_paste_says_how_many_objects_have_no_outline(tmp_path, caplog):
    data = write_data(tmp_path, polygons=True)  # 9 objects, of which the second image has 2
    (tmp_path / "labels" / "train" / "01.txt").write_text("0 .5 .5 .2 .2\n1 .2 .2 .2 .2\n")
    caplog.set_level("INFO", logger="sightline")
    make(data, copy_paste=0.5)
    assert "copy_paste=0.5: 7 objects have outlines and are cut out along them; of the 2 others the" in caplog.text
    for silent in ({"copy_paste": 0.0}, {"copy_paste": 0.5, "rect": True}, {"copy_paste": 0.5, "classes": [0]}):
        caplog.clear()
        make(data, **silent)
        assert ("outlines" in caplog.text) == ("classes" in silent)
    assert "6 objects have outlines" in caplog.text  # of those that are used


def test_a_folder_or_split_may_be_named(data):
    settings = make_settings("val", {"data": str(data), "model": "x.pt", "imgsz": 64})
    spec = load_dataset_spec(data)
    by_name = build_dataset(settings, spec, "train", mode="val", batch_size=2)
    by_folder = build_dataset(settings, spec, data.parent / "images" / "train", mode="val", batch_size=2)
    assert list(by_name.index.paths) == list(by_folder.index.paths)
    with pytest.raises(MissingFileError, match="split=test"):
        build_dataset(make_settings("val", {"data": str(data), "split": "test"}), spec, mode="val", batch_size=2)


def test_an_image_that_breaks_outside_of_a_run_is_named(tmp_path):
    dataset = make(write_data(tmp_path), mosaic=0.0)
    dataset.unreadable = "raise"  # a run replaces it: e2e/faults/test_data.py
    Path(dataset.index.paths[2]).write_bytes(b"not an image")
    with pytest.raises(ImageError, match=r"02\.png"):
        dataset[SampleKey(0, 2)]


def test_opencv_and_torch_agree_on_what_a_batch_is(data):
    """The reader may hand out shared images: nothing in the chain writes into them."""
    dataset = make(data, cache="ram", mixup=1.0, copy_paste=1.0, flipud=1.0)
    before = [dataset.reader.load(i)[0].copy() for i in range(len(dataset))]
    for i in range(len(dataset)):
        dataset[SampleKey(0, i)]
    for i, image in enumerate(before):
        np.testing.assert_array_equal(dataset.reader.load(i)[0], image)
