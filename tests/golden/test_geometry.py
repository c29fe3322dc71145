"""Polygons, flips and clipping of samples: the part of `data_metrics/h_conversions.npz` that transforms answer for."""

from __future__ import annotations

import re

import numpy as np
import pytest

from golden.golden import golden_files
from sightline.data.transforms.affine import hide_outside
from sightline.data.transforms.flip import FlipLeftRight, FlipUpDown
from sightline.data.transforms.polygons import polygon_boxes, polygon_boxes_in_frame, resample_polygon
from sightline.ops.boxes import xyxy_to_xywh
from sightline.structures.sample import Labels

FILES = golden_files("data_metrics/h_conversions.npz")


@pytest.fixture(scope="module", params=FILES)
def arrays(request) -> dict[str, np.ndarray]:
    with np.load(request.param) as file:
        return {name: file[name] for name in file.files}


def _polygons(f):
    return [f[f"seg{i}"] for i in range(len(f["segments2boxes"]))]


def test_boxes_of_polygons(arrays):
    boxes = xyxy_to_xywh(polygon_boxes(_polygons(arrays)))
    np.testing.assert_allclose(boxes, arrays["segments2boxes"], rtol=0, atol=1e-3)


def test_boxes_of_polygons_in_a_frame(arrays):
    polygons = _polygons(arrays)
    whole = float(max(polygon.max() for polygon in polygons)) + 1
    # The recording does not say how wide the frame was; where it cut a box, that side lies on the border.
    sides = [arrays[f"seg{i}_segment2box_cut"] for i in range(len(polygons))]
    cut_x, cut_y = (max(box[axis] for box in sides) for axis in (2, 3))
    for i, polygon in enumerate(polygons):
        inside = polygon_boxes_in_frame([polygon], whole, whole)[0]
        np.testing.assert_allclose(inside, arrays[f"seg{i}_segment2box_in"], rtol=0, atol=1e-3)
        cut = polygon_boxes_in_frame([polygon], cut_x, cut_y)[0]
        np.testing.assert_allclose(cut, sides[i], rtol=0, atol=1e-3)


def test_resampled_polygons(arrays):
    names = [name for name in arrays if name.startswith("resample_")]
    assert names
    for name in names:
        count = int(name.removeprefix("resample_"))
        actual = np.stack([resample_polygon(polygon, count) for polygon in _polygons(arrays)])
        np.testing.assert_allclose(actual, arrays[name], rtol=0, atol=1e-3)


def _flipped(f, name: str) -> Labels:
    """Boxes and keypoints before a flip. The visibility of `kpts` itself was changed by the clipping recorded last; an
    upside-down flip leaves it alone, so it is taken from there."""
    keypoints = np.concatenate([f["kpts"][..., :2], f["flipud_kpts"][..., 2:]], axis=-1)
    count = len(f[f"{name}_boxes"])
    return Labels(f["xyxy"][:count], np.zeros(count, np.float32), keypoints=keypoints)


def _check(labels: Labels, f, name: str) -> None:
    np.testing.assert_allclose(labels.boxes, f[f"{name}_boxes"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(labels.keypoints, f[f"{name}_kpts"], rtol=0, atol=1e-3)


def test_flips(arrays):
    # The image size follows from where the first box went.
    width = round(float(arrays["xyxy"][0, 0] + arrays["fliplr_boxes"][0, 2]))
    height = round(float(arrays["xyxy"][0, 1] + arrays["flipud_boxes"][0, 3]))
    left_right = FlipLeftRight(width, tuple(arrays["flip_idx"].tolist()))
    _check(left_right.labels(_flipped(arrays, "fliplr")), arrays, "fliplr")
    _check(FlipUpDown(height).labels(_flipped(arrays, "flipud")), arrays, "flipud")


def test_clipping(arrays):
    names = [match for name in arrays if (match := re.fullmatch(r"(clip(\d+)x(\d+))_boxes", name))]
    assert names
    for match in names:
        name, width, height = match[1], int(match[2]), int(match[3])
        count = len(arrays[f"{name}_boxes"])
        keypoints = hide_outside(arrays["kpts"], width, height)
        labels = Labels(arrays["oob_xyxy"][:count], np.zeros(count, np.float32), keypoints=keypoints)
        _check(labels.clipped(width, height), arrays, name)
