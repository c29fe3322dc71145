"""Conversions against `data_metrics/h_conversions.npz`: box formats, clipping, overlaps, scaling of keypoints."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from golden.golden import golden_files, import_subject
from sightline.ops import boxes, iou
from sightline.ops.keypoints import scale_keypoints

Arrays = dict[str, np.ndarray]

# The recording clips normalised boxes a thousandth of a pixel inside the right and bottom border.
MARGIN = 1e-3


# The file holds numbers only; the image sizes behind them follow from pairs of arrays, as whole pixels.
def _image_hw(f: Arrays) -> tuple[int, int]:
    width, height = np.median(f["xywh"][:, :2] / f["xywhn"][:, :2], axis=0).round().astype(int)
    return int(height), int(width)


def _pad_xy(f: Arrays) -> tuple[float, float]:
    x, y = np.median(f["xywhn_to_xyxy_pad"][:, :2] - f["xyxy"][:, :2], axis=0).round()
    return float(x), float(y)


def _keypoint_shapes(f: Arrays) -> tuple[tuple[int, int], tuple[int, int]]:
    """(from, to): the original size from the normalised form, the square it came from by the scale along its side."""
    scaled, normalized = f["kpts_scaled"][..., :2], f["kpts_scaled_norm"][..., :2]
    ratios = np.where(normalized > 0, scaled / np.maximum(normalized, 1e-9), np.nan)
    width, height = np.nanmedian(ratios, axis=(0, 1)).round().astype(int).tolist()
    axis, side = (0, width) if width >= height else (1, height)
    inside = (scaled[..., axis] > 0) & (scaled[..., axis] < side)
    gain = np.polyfit(scaled[..., axis][inside], f["kpts"][..., axis][inside], 1)[0]
    square = round(gain * side)
    return (square, square), (height, width)


def _scale_keypoints(f: Arrays, *, normalize: bool) -> np.ndarray:
    from_hw, to_hw = _keypoint_shapes(f)
    return scale_keypoints(from_hw, f["kpts"], to_hw, normalize=normalize)


CONVERSIONS: dict[str, Callable[[Arrays], np.ndarray]] = {
    "xywh": lambda f: boxes.xyxy_to_xywh(f["xyxy"]),
    "xywh_to_xyxy": lambda f: boxes.xywh_to_xyxy(f["xywh"]),
    "xywhn": lambda f: boxes.xyxy_to_xywhn(f["xyxy"], _image_hw(f)),
    "xywhn_to_xyxy_pad": lambda f: boxes.xywhn_to_xyxy(f["xywhn"], _image_hw(f), pad_xy=_pad_xy(f)),
    "oob_clipped": lambda f: boxes.clip_boxes(f["oob_xyxy"], _image_hw(f)),
    "oob_xywhn_clip": lambda f: boxes.xyxy_to_xywhn(f["oob_xyxy"], _image_hw(f), clip=True, margin=MARGIN),
    "ltwh": lambda f: boxes.xyxy_to_ltwh(f["xyxy"]),
    "xywh_to_ltwh": lambda f: boxes.xywh_to_ltwh(f["xywh"]),
    "ltwh_to_xywh": lambda f: boxes.ltwh_to_xywh(f["ltwh"]),
    "ltwh_to_xyxy": lambda f: boxes.ltwh_to_xyxy(f["ltwh"]),
    "kpts_scaled": lambda f: _scale_keypoints(f, normalize=False),
    "kpts_scaled_norm": lambda f: _scale_keypoints(f, normalize=True),
}


def _pairs(layout: str, kind: str) -> Callable[[Arrays], np.ndarray]:
    def overlap(f: Arrays) -> np.ndarray:
        first, second = torch.from_numpy(f["xyxy"]), torch.from_numpy(f["xyxy2"])
        first = first[: len(second)]
        if layout == "xywh":
            first, second = boxes.xyxy_to_xywh(first), boxes.xyxy_to_xywh(second)
        return iou.matched_iou(first, second, kind, xywh=layout == "xywh").squeeze(-1).numpy()

    return overlap


def _both(function: Callable[..., torch.Tensor], first: str, second: str) -> Callable[[Arrays], np.ndarray]:
    return lambda f: function(torch.from_numpy(f[first]), torch.from_numpy(f[second])).numpy()


OVERLAPS: dict[str, Callable[[Arrays], np.ndarray]] = {
    "box_iou": _both(iou.pairwise_iou, "xyxy", "xyxy2"),
    "bbox_ioa": _both(iou.pairwise_ioa, "xyxy", "xyxy2"),
    "bbox_ioa_iou": _both(iou.pairwise_iou, "xyxy", "xyxy2"),
    "probiou": _both(iou.matched_probabilistic_iou, "xywhr", "xywhr2"),
    "probiou_ciou": lambda f: iou.matched_probabilistic_iou(
        torch.from_numpy(f["xywhr"]), torch.from_numpy(f["xywhr2"]), ciou=True
    ).numpy(),
    "batch_probiou": _both(iou.pairwise_probabilistic_iou, "xywhr", "xywhr2"),
    **{
        f"pair_{name}_{layout}": _pairs(layout, name.lower())
        for name in ("IoU", "GIoU", "DIoU", "CIoU")
        for layout in ("xyxy", "xywh")
    },
}

INPUTS = {"xyxy", "xyxy2", "oob_xyxy", "xywhr", "xywhr2", "kpts", "flip_idx", "mask_a", "mask_b"}

# Prefixes of what test_geometry.py compares, and of what a later subject brings: (its task, where it will be). A key
# that is nowhere fails.
KEYS_ELSEWHERE = {
    "seg": "polygons: box of a polygon in an image, data/transforms",
    "segments2boxes": "polygons: data/transforms",
    "resample_": "polygons: data/transforms",
    "fliplr_": "flips: data/transforms",
    "flipud_": "flips: data/transforms",
    "clip600x400_": "clipping a sample to its image: data/transforms",
}
KEYS_OF_LATER_SUBJECTS = {
    "xyxyxyxy": ("obb", "sightline.ops.rotated"),  # corners and back
    "regularized": ("obb", "sightline.ops.rotated"),  # one form of the same box
    "mask": ("segment", "sightline.ops.masks"),  # rasterised masks, overlap masks, mask overlap
}


@pytest.fixture(scope="module")
def arrays(request) -> Arrays:
    with np.load(request.param) as file:
        return {name: file[name] for name in file.files}


FILES = golden_files("data_metrics/h_conversions.npz")


@pytest.mark.parametrize("arrays", FILES, indirect=True)
@pytest.mark.parametrize("key", CONVERSIONS)
def test_coordinates(arrays, key):
    # Normalised coordinates are a thousand times smaller than pixels, and so is what is allowed.
    tolerance = 1e-6 if key.endswith(("n", "_clip", "_norm")) else 1e-3
    actual = CONVERSIONS[key](arrays)
    np.testing.assert_allclose(actual, arrays[key], rtol=0, atol=tolerance)


@pytest.mark.parametrize("arrays", FILES, indirect=True)
@pytest.mark.parametrize("key", OVERLAPS)
def test_overlaps(arrays, key):
    np.testing.assert_allclose(OVERLAPS[key](arrays), arrays[key], rtol=0, atol=1e-4)


@pytest.mark.parametrize("arrays", FILES, indirect=True)
def test_every_key_is_compared_or_named(arrays):
    known = (*KEYS_ELSEWHERE, *KEYS_OF_LATER_SUBJECTS)
    unknown = [
        key
        for key in arrays
        if key not in CONVERSIONS and key not in OVERLAPS and key not in INPUTS and not key.startswith(known)
    ]
    assert not unknown


@pytest.mark.xfail(strict=True, reason="not built yet", raises=(ImportError, AttributeError))
@pytest.mark.parametrize("prefix", KEYS_OF_LATER_SUBJECTS)
def test_later_subject(prefix):
    """Fails as soon as the subject exists: then compare its keys and remove the row."""
    import_subject(*KEYS_OF_LATER_SUBJECTS[prefix])


@pytest.mark.parametrize("path", golden_files("data_metrics/a_letterbox.json"))
def test_boxes_go_back_to_the_original_image(path):
    """The way back is ours; the letterbox itself is compared by test_letterbox.py."""
    cases = json.loads(path.read_text(encoding="utf-8"))["letterbox"]
    assert cases
    for case in cases:
        from_hw, to_hw = tuple(case["out_hw"]), tuple(case["image_hw"])
        (gain_y, gain_x), (pad_x, pad_y) = case["ratio_pad_out"]
        ratio_pad = ((gain_y, gain_x), (pad_x, pad_y))
        shifted, probe = np.array(case["boxes_letterboxed"]), np.array(case["probe"])
        tolerance = 1e-3 * max(1.0, max(to_hw) / 100)
        for actual, name in (
            (boxes.scale_boxes(from_hw, shifted, to_hw), "scale_boxes_auto"),
            (boxes.scale_boxes(from_hw, shifted, to_hw, ratio_pad), "scale_boxes_ratio_pad"),
            (boxes.scale_boxes(from_hw, probe, to_hw), "probe_scale_boxes_auto"),
            (boxes.scale_boxes(from_hw, probe, to_hw, xywh=True), "probe_scale_boxes_xywh"),
        ):
            np.testing.assert_allclose(actual, case[name], rtol=0, atol=tolerance, err_msg=f"{case['mode']} {name}")
