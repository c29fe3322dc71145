"""The loss of RT-DETR and its denoising queries against `training/loss_rtdetr.npz` and `rtdetr_denoising.npz`."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from golden.golden import golden_files
from golden.loss_inputs import cases, load, relative_error
from sightline.losses.denoising import make_denoising
from sightline.losses.rtdetr import RTDETRDetectionLoss
from sightline.losses.targets import TargetRows, target_rows
from sightline.nn.heads.rtdetr import embed_labels
from sightline.structures.denoising import DenoisingQueries


def targets_of(case: dict[str, np.ndarray], nc: int) -> TargetRows:
    batch = {"batch_idx": case["batch_idx"], "cls": case["gt_cls"], "bboxes": case["gt_bboxes"]}
    rows = target_rows({name: torch.from_numpy(value) for name, value in batch.items()}, len(case["gt_groups"]), nc)
    assert rows.counts == case["gt_groups"].tolist()
    return rows


def recorded_queries(case: dict[str, np.ndarray]) -> DenoisingQueries:
    """What the loss reads of them."""
    groups, images = int(case["dn_num_group"]), range(len(case["gt_groups"]))
    image = [np.full(len(case[f"dn_pos_idx{each}"]), each) for each in images]
    query = [case[f"dn_pos_idx{each}"] for each in images]
    target = [np.tile(case[f"dn_gt_idx{each}"], groups) for each in images]
    parts = (torch.from_numpy(np.concatenate(each)) for each in (image, query, target))
    nothing = torch.zeros(0)
    return DenoisingQueries(nothing, nothing, groups, 0, *parts)


@pytest.mark.parametrize("path", golden_files("training/loss_rtdetr.npz"))
def test_every_case(path):
    arrays = load(path)
    criterion = RTDETRDetectionLoss(SimpleNamespace(model=[SimpleNamespace(nc=int(arrays["nc"]))]))
    found = cases(arrays)
    assert set(found) == {"plain", "dn", "nogt"}
    for name, case in found.items():
        targets = targets_of(case, criterion.nc)
        boxes, scores = (torch.from_numpy(case[f"pred_{each}"]).requires_grad_() for each in ("bboxes", "scores"))
        noisy = None
        if "dn_bboxes" in case:
            said = (torch.from_numpy(case[f"dn_{each}"]) for each in ("bboxes", "scores"))
            noisy = (*said, recorded_queries(case))
        matches = criterion.matcher(boxes, scores, targets)
        for layer in range(len(boxes)):
            for image in range(boxes.shape[1]):
                here = (matches.layer == layer) & (matches.image == image)
                mine = torch.stack([matches.query[here], matches.target[here]]).numpy()
                assert (mine == case[f"match_l{layer}_img{image}"]).all(), f"{name} layer {layer} image {image}"
        parts = criterion.of_layers(boxes, scores, targets, noisy)
        recorded = dict(zip(case["names"].tolist(), case["values"], strict=True))
        assert set(parts) == set(recorded)
        scale = max(abs(value) for value in recorded.values())
        for part, value in recorded.items():
            assert abs(parts[part].item() - value) <= 1e-5 * max(abs(value), 1e-3 * scale), f"{name} {part}"
        total = torch.stack(list(parts.values())).sum()
        assert relative_error(total, case["total"]) <= 1e-5, name
        total.backward()
        for key, tensor in (("bboxes", boxes), ("scores", scores)):
            assert relative_error(tensor.grad, case[f"grad_{key}"]) <= 1e-4, f"{name} grad_{key}"


@pytest.mark.parametrize("path", golden_files("training/rtdetr_denoising.npz"))
def test_denoising_queries(path):
    arrays = load(path)
    shared = {name: value for name, value in arrays.items() if "." not in name}
    targets = targets_of(shared, int(arrays["nc"]))
    found = cases(arrays)
    assert set(found) == {"nonoise", "noise", "budget_below_gts"}
    for name, case in found.items():
        torch.manual_seed(int(case["torch_seed"]))
        made = make_denoising(
            targets,
            nc=int(arrays["nc"]),
            most=int(case["num_dn"]),
            device=torch.device("cpu"),
            label_noise=float(case["cls_noise"]),
            box_noise=float(case["box_noise"]),
        )
        assert made is not None
        content = embed_labels(torch.from_numpy(arrays["class_embed"]), made.labels)
        assert relative_error(content, case["padding_cls"]) <= 1e-5, name
        assert relative_error(made.boxes, case["padding_bbox"]) <= 1e-5, name
        assert (made.blocked(int(arrays["num_queries"])).numpy() == case["attn_mask"]).all(), name
        assert made.groups == case["dn_num_group"]
        assert [made.count, int(arrays["num_queries"])] == case["dn_num_split"].tolist()
        for image in range(len(shared["gt_groups"])):
            mine = made.image == image
            assert made.query[mine].tolist() == case[f"dn_pos_idx{image}"].tolist(), f"{name} image {image}"
            wanted = np.tile(case[f"dn_gt_idx{image}"], made.groups).tolist()
            assert made.target[mine].tolist() == wanted, f"{name} image {image}"
