"""Suppression and NMS-free selection against `data_metrics/f_nms*`: rows, their order and where they came from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from golden.golden import golden_files, golden_path
from sightline.ops.nms import greedy_keep, non_max_suppression_with_anchors, select_end_to_end

META, ARRAYS = "data_metrics/f_nms_meta.json", "data_metrics/f_nms.npz"
LATER = {"rotated": "oriented boxes"}  # settings whose subject is not built yet
SETTINGS = {"conf_thres": "conf", "iou_thres": "iou"}  # the recording's names → ours; the rest are equal


def _settings() -> list:
    [param] = golden_files(META)
    if param.values[0] is None:
        return [pytest.param(None, None, id=param.id, marks=param.marks)]
    cases = []
    for name, settings in json.loads(param.values[0].read_text(encoding="utf-8"))["settings"].items():
        why = next((why for setting, why in LATER.items() if settings.get(setting)), None)
        marks = [pytest.mark.xfail(strict=True, reason=f"not built yet: {why}")] if why else []
        cases.append(pytest.param(name, settings, id=name, marks=marks))
    return cases


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(golden_path(ARRAYS)) as file:
        return {name: file[name] for name in file.files}


def _assert_rows(actual: torch.Tensor, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual[:, :4].numpy(), expected[:, :4], rtol=0, atol=1e-3)
    np.testing.assert_allclose(actual[:, 4].numpy(), expected[:, 4], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(actual[:, 5].numpy(), expected[:, 5])
    np.testing.assert_allclose(actual[:, 6:].numpy(), expected[:, 6:], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "settings"), _settings())
def test_rows(name, settings, arrays):
    nc = json.loads(golden_path(META).read_text(encoding="utf-8"))["nc"]
    arguments = {SETTINGS.get(key, key): value for key, value in settings.items()}
    source, counts = torch.from_numpy(arrays[arguments.pop("input")]), arguments.pop("counts")
    if source.shape[-1] == 6:
        rows, anchors = select_end_to_end(source, **arguments), None
    else:
        rows, anchors = non_max_suppression_with_anchors(source, **{"nc": nc, **arguments})
    assert [len(image) for image in rows] == counts
    for image in range(len(rows)):
        _assert_rows(rows[image], arrays[f"{name}_out{image}"])
        if anchors is not None:
            np.testing.assert_array_equal(anchors[image].numpy(), arrays[f"{name}_idx{image}"])


@pytest.mark.parametrize("path", golden_files(ARRAYS))
def test_plain_boxes(path, arrays):
    boxes, scores = torch.from_numpy(arrays["plain_boxes"]), torch.from_numpy(arrays["plain_scores"])
    np.testing.assert_array_equal(greedy_keep(boxes, scores, 0.5).numpy(), arrays["plain_keep"])


@pytest.mark.parametrize("path", golden_files(ARRAYS))
def test_every_array_belongs_to_a_setting(path, arrays):
    names = json.loads(golden_path(META).read_text(encoding="utf-8"))["settings"]
    inputs = {setting["input"] for setting in names.values()} | {"plain_boxes", "plain_scores", "plain_keep"}
    unknown = [array for array in arrays if array not in inputs and array.rsplit("_", 1)[0] not in names]
    assert not unknown
