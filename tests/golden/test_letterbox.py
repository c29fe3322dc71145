"""Letterbox, first resize and rectangular batches against `data_metrics/a_letterbox*`."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from golden.golden import golden_files
from sightline.data.images import resized_shape
from sightline.data.transforms.letterbox import letterbox, letterbox_image
from sightline.ops.boxes import scale_boxes
from sightline.ops.letterbox import letterbox_geometry, rect_batches
from sightline.structures.sample import Sample

MODES = {
    "pad": {},
    "auto": {"auto": True},
    "noscaleup": {"scaleup": False},
    "topleft": {"center": False},
    "fill": {"scale_fill": True},
}
KNOWN_KEYS = {"letterbox", "load_resize", "rect_batches"}
FILES = golden_files("data_metrics/a_letterbox.json")


@pytest.fixture(scope="module")
def recorded(request) -> dict:
    return json.loads(request.param.read_text())


def _geometry(case):
    target = case["target"]
    target = (target, target) if isinstance(target, int) else tuple(target)
    return letterbox_geometry(tuple(case["image_hw"]), target, **MODES[case["mode"]])


def _close(actual, expected, side):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3 * max(1, side / 100))


@pytest.mark.parametrize("recorded", FILES, indirect=True)
def test_every_part_is_read(recorded):
    assert set(recorded) == KNOWN_KEYS


@pytest.mark.parametrize("recorded", FILES, indirect=True)
def test_geometry(recorded):
    for case in recorded["letterbox"]:
        geometry = _geometry(case)
        assert list(geometry.new_wh) == case["new_unpad_wh"], case
        assert list(geometry.pad) == [case[side] for side in ("left", "top", "right", "bottom")], case
        assert list(geometry.out_hw) == case["out_hw"], case
        np.testing.assert_allclose(geometry.ratio, case["ratio_wh"], rtol=1e-6)
        gains, pads = case["ratio_pad_out"]
        np.testing.assert_allclose(geometry.ratio_pad()[0], gains, rtol=1e-6)
        assert list(geometry.ratio_pad()[1]) == pads


@pytest.mark.parametrize("recorded", FILES, indirect=True)
def test_boxes_there_and_back(recorded):
    for case in recorded["letterbox"]:
        geometry, side = _geometry(case), max(case["image_hw"])
        boxes = np.array(case["boxes_xyxy"], np.float32)
        _close(geometry.boxes(boxes), case["boxes_letterboxed"], side)
        framed, shape = np.array(case["boxes_letterboxed"], np.float32), tuple(case["image_hw"])
        _close(scale_boxes(geometry.out_hw, framed, shape), case["scale_boxes_auto"], side)
        back = scale_boxes(geometry.out_hw, framed, shape, ratio_pad=geometry.ratio_pad())
        _close(back, case["scale_boxes_ratio_pad"], side)
        probe = np.array(case["probe"], np.float32)
        _close(scale_boxes(geometry.out_hw, probe, shape), case["probe_scale_boxes_auto"], side)
        _close(scale_boxes(geometry.out_hw, probe, shape, xywh=True), case["probe_scale_boxes_xywh"], side)


@pytest.mark.parametrize("recorded", FILES, indirect=True)
def test_first_resize_and_letterbox_of_validation(recorded):
    for case in recorded["load_resize"]:
        original, imgsz = tuple(case["image_hw"]), case["imgsz"]
        resized = resized_shape(*original, imgsz)
        assert list(resized) == case["resized"], case
        assert list(original) == case["ori"]
        assert case["stretched"] == [imgsz, imgsz]
        sample = Sample(
            np.zeros((*resized, 1), np.uint8),
            ratio_pad=((resized[0] / original[0], resized[1] / original[1]), (0.0, 0.0)),
        )
        framed = letterbox(sample, (imgsz, imgsz))
        assert list(framed.image.shape[:2]) == case["final_hw"]
        gains, pads = case["final_ratio_pad"]
        np.testing.assert_allclose(framed.ratio_pad[0], gains, rtol=1e-6)
        assert list(framed.ratio_pad[1]) == pads
        assert math.isclose(max(resized), imgsz)


@pytest.mark.parametrize("recorded", FILES, indirect=True)
def test_rectangular_batches(recorded):
    for case in recorded["rect_batches"]:
        plan = rect_batches(
            case["shapes_hw"], batch=case["batch"], imgsz=case["imgsz"], stride=case["stride"], pad=case["pad"]
        )
        assert plan.order.tolist() == case["order"]
        assert plan.batch.tolist() == case["batch_index"]
        assert plan.shapes.tolist() == case["batch_shapes_hw"]


@pytest.mark.parametrize("path", golden_files("data_metrics/a_letterbox_pixels.npz"))
def test_pixels(path):
    with np.load(path) as file:
        f = {name: file[name] for name in file.files}
    cases = [("image", "up", {}), ("image", "down", {}), ("image", "auto", {"auto": True}), ("gray", "gray", {})]
    names = {"gray": "gray_out"}
    read = {"image", "gray"}
    for source, target, options in cases:
        expected = f[names.get(target, target)]
        read |= {names.get(target, target), f"target_{target}"}
        height, width = f[f"target_{target}"].tolist()
        geometry = letterbox_geometry(f[source].shape[:2], (height, width), **options)
        actual = letterbox_image(f[source], geometry)
        assert actual.shape == expected.shape
        # Another build of OpenCV may round the last bit of its fixed-point resize differently.
        assert np.abs(actual.astype(int) - expected).max() <= 1, target
    assert read == set(f)
