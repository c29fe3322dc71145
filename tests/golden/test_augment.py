"""Affine step, keep rule, mosaic layout, warp and colour jitter against `data_metrics/b_*`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from golden.golden import golden_files, golden_path
from sightline.data.transforms.affine import Affine, affine_matrix, survives
from sightline.data.transforms.canvas import Canvas, Tile
from sightline.data.transforms.colour import HSV
from sightline.data.transforms.mosaic import Mosaic
from sightline.structures.sample import Labels, Sample

FACTS = "data_metrics/b_affine_meta.json"
AFFINE = golden_files("data_metrics/b_affine.npz")
META = golden_files(FACTS)
PIXELS = 1e-2


@pytest.fixture(scope="module", params=AFFINE)
def affine_cases(request) -> list[tuple[dict, dict]]:
    """[(arrays without their prefix, facts)]"""
    path = request.param
    meta = json.loads(golden_path(FACTS).read_text())
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    cases = []
    for i, facts in enumerate(meta["cases"]):
        prefix = f"c{i}_"
        cases.append(({name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}, facts))
    unread = [name for name in arrays if name.split("_")[0] not in {"cand", *(f"c{i}" for i in range(len(cases)))}]
    assert not unread
    return cases


def _affine(f: dict, facts: dict) -> Affine:
    tilt_x, tilt_y, degrees, scale, shear_x, shear_y, x, y = f["draws"].tolist()
    size_wh = tuple(facts["size_wh"])
    matrix = affine_matrix(
        tuple(facts["image_hw"]),
        size_wh,
        perspective_xy=(tilt_x, tilt_y),
        degrees=degrees,
        scale=scale,
        shear_xy=(shear_x, shear_y),
        translate_xy=(x, y),
    )
    return Affine(matrix, size_wh, scale)


def test_matrix(affine_cases):
    for f, facts in affine_cases:
        np.testing.assert_allclose(_affine(f, facts).matrix, f["M"], rtol=1e-4, atol=1e-3)


def test_boxes_before_and_after_the_frame_cuts_them(affine_cases):
    for f, facts in affine_cases:
        affine = _affine(f, facts)
        corners = affine.boxes(f["boxes"])
        np.testing.assert_allclose(corners, f["boxes_unclipped"], rtol=0, atol=PIXELS)
        if not facts["segments"]:
            width, height = facts["size_wh"]
            clipped = Labels(corners, f["cls"].ravel()).clipped(width, height).boxes
            np.testing.assert_allclose(clipped, f["boxes_clipped"], rtol=0, atol=PIXELS)
            keep = survives(f["boxes"] * facts["scale"], clipped, min_area_ratio=facts["area_thr"])
            assert keep.tolist() == f["keep"].tolist()


def test_labels_of_a_whole_sample(affine_cases):
    for f, facts in affine_cases:
        labels = Labels(
            f["boxes"],
            f["cls"].ravel(),
            polygons=list(f["segments"]) if facts["segments"] else None,
            keypoints=f["keypoints"] if facts["keypoints"] else None,
        )
        out = _affine(f, facts).labels(labels)
        np.testing.assert_array_equal(out.classes, f["out_cls"].ravel())
        np.testing.assert_allclose(out.boxes, f["out_boxes"], rtol=0, atol=PIXELS)
        if facts["segments"]:
            np.testing.assert_allclose(np.stack(out.polygons), f["out_segments"], rtol=0, atol=PIXELS)
        if facts["keypoints"]:
            np.testing.assert_allclose(out.keypoints, f["out_keypoints"], rtol=0, atol=PIXELS)
        assert {"segments", "keypoints"} & set(f) == {name for name in ("segments", "keypoints") if facts[name]}


@pytest.mark.parametrize("path", AFFINE)
def test_keep_rule_alone(path):
    with np.load(path) as f:
        before, after = f["cand_box1"].T, f["cand_box2"].T
        for ratio, expected in ((0.1, "cand_keep_010"), (0.01, "cand_keep_001")):
            assert survives(before, after, min_area_ratio=ratio).tolist() == f[expected].tolist()


@pytest.mark.parametrize("path", META)
def test_mosaic_of_four(path):
    meta = json.loads(path.read_text())
    assert set(meta) == {"cases", "mosaic4"}
    for case in meta["mosaic4"]:
        samples = []
        for number, patch in enumerate(case["patches"]):
            boxes, classes = np.array(patch["boxes"], np.float32).reshape(-1, 4), np.array(patch["cls"], np.float32)
            image = np.full((*patch["hw"], 1), number, np.uint8)
            samples.append(Sample(image, Labels(boxes, classes.ravel())))
        y, x = (int(value) for value in case["drawn_centre_yx"])
        scene = Mosaic((1, 2, 3), (x, y), case["imgsz"]).arrange(samples)
        assert [scene.height, scene.width] == [2 * case["imgsz"]] * 2
        tiles = {int(tile.image[0, 0, 0]): tile for tile in scene.canvas.tiles}
        for number, place in enumerate(case["layout"]):
            tile = tiles[number]
            assert [tile.x, tile.y] == [place["x1a"], place["y1a"]]
            assert tile.image.shape[:2] == (place["y2a"] - place["y1a"], place["x2a"] - place["x1a"])
            # Which part of the image it is: the picture's own upper left corner lies at (padw, padh).
            assert [tile.x - place["padw"], tile.y - place["padh"]] == [place["x1b"], place["y1b"]]
        np.testing.assert_allclose(scene.labels.boxes, case["out_boxes"], rtol=0, atol=PIXELS)
        np.testing.assert_array_equal(scene.labels.classes, np.ravel(case["out_cls"]))


@pytest.mark.parametrize("path", golden_files("data_metrics/b_augment_pixels.npz"))
def test_pixels_of_warp_and_colour_jitter(path):
    with np.load(path) as file:
        f = {name: file[name] for name in file.files}
    height, width = f["warp_in"].shape[:2]
    out_height, out_width = f["warp_out"].shape[:2]
    warped = Canvas(height, width, [Tile(f["warp_in"])]).warp(f["warp_M"], (out_width, out_height))
    assert np.abs(warped.astype(int) - f["warp_out"]).max() <= 1
    hue, saturation, value = (f["hsv_unit_draws"] * f["hsv_gains"]).tolist()
    assert np.abs(HSV(hue, saturation, value).image(f["hsv_in"]).astype(int) - f["hsv_out"]).max() <= 1
    assert set(f) == {"warp_in", "warp_M", "warp_out", "hsv_in", "hsv_unit_draws", "hsv_gains", "hsv_out"}
