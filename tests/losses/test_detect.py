"""The detection loss: properties, replaced parts, precision. Its values are in tests/golden/test_detect_loss.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from golden.loss_inputs import feature_maps, stand_in_model
from sightline.errors import DataError, TrainingError
from sightline.losses.assign import candidates, task_aligned
from sightline.losses.assign.task_aligned import TaskAlignedAssigner
from sightline.losses.detect import v8DetectionLoss

NC, IMAGE_HW, STRIDES = 3, (96, 128), (8, 16, 32)
ANCHORS = 12 * 16 + 6 * 8 + 3 * 4


def _preds(reg_max: int = 1, seed: int = 0, images: int = 3, dtype=torch.float32) -> dict:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(images, 4 * reg_max, ANCHORS, generator=generator) * 3
    scores = torch.randn(images, NC, ANCHORS, generator=generator) - 2
    return {
        "boxes": boxes.to(dtype).requires_grad_(),
        "scores": scores.to(dtype).requires_grad_(),
        "feats": feature_maps(IMAGE_HW, STRIDES),
    }


def _batch(seed: int = 0, count: int = 14) -> dict:
    generator = torch.Generator().manual_seed(seed)
    size = torch.rand(count, 2, generator=generator) * 0.4 + 0.05
    return {
        "batch_idx": torch.randint(0, 3, (count,), generator=generator).sort().values.float(),
        "cls": torch.randint(0, NC, (count, 1), generator=generator).float(),
        "bboxes": torch.cat([torch.rand(count, 2, generator=generator) * 0.6 + 0.2, size], dim=1),
    }


def _loss(reg_max: int = 1, topk2: int | None = None, **settings) -> v8DetectionLoss:
    return v8DetectionLoss(stand_in_model(nc=NC, reg_max=reg_max, strides=STRIDES, **settings), 7, topk2)


def _run(loss, preds, batch):
    vector, items = loss(preds, batch)
    gradients = torch.autograd.grad(vector.sum(), [preds["boxes"], preds["scores"]])
    return vector.detach(), items, gradients


def _assert_same(one, other, **tolerance) -> None:
    torch.testing.assert_close(one[0], other[0], **tolerance)
    for first, second in zip(one[2], other[2], strict=True):
        torch.testing.assert_close(first, second, **tolerance)


@pytest.mark.parametrize("reg_max", [1, 16])
def test_rows_need_no_order(reg_max):
    batch = _batch()
    order = torch.randperm(14, generator=torch.Generator().manual_seed(1))
    shuffled = {name: rows[order] for name, rows in batch.items()}
    one, other = (_run(_loss(reg_max), _preds(reg_max), rows) for rows in (batch, shuffled))
    _assert_same(one, other)


@pytest.mark.parametrize("reg_max", [1, 16])
def test_no_targets_teach_background_only(reg_max):
    batch = {"batch_idx": torch.zeros(0), "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}
    preds = _preds(reg_max)
    vector, _, gradients = _run(_loss(reg_max), preds, batch)
    expected = nn.functional.softplus(preds["scores"]).sum() * 0.5 * 3
    torch.testing.assert_close(vector, torch.stack([torch.tensor(0.0), expected.detach(), torch.tensor(0.0)]))
    assert not gradients[0].any()
    assert (gradients[1] > 0).all()


def test_vector_is_the_items_times_the_batch_size_and_gains_scale_them():
    batch = _batch()
    vector, items = _loss()(_preds(), batch)
    assert list(items) == ["box_loss", "cls_loss", "l1_loss"]
    torch.testing.assert_close(vector, torch.stack(list(items.values())) * 3)
    assert not any(value.requires_grad for value in items.values())
    assert list(_loss(16)(_preds(16), batch)[1]) == ["box_loss", "cls_loss", "dfl_loss"]
    doubled, _ = _loss(box=15.0, cls=1.0, dfl=3.0)(_preds(), batch)
    torch.testing.assert_close(doubled, vector * 2)


def test_gains_are_read_at_each_call_and_a_model_without_settings_gets_the_defaults():
    loss = _loss()
    expected, _ = loss(_preds(), _batch())
    loss.hyp.box = 0.0
    assert loss(_preds(), _batch())[0][0] == 0
    for args in (None, {"box": 7.5}):
        model = stand_in_model(nc=NC, reg_max=1, strides=STRIDES)
        model.args = args
        torch.testing.assert_close(v8DetectionLoss(model, 7)(_preds(), _batch())[0], expected)


def test_evaluation_form_and_flat_class_column_are_accepted():
    batch = _batch()
    expected, _ = _loss()(_preds(), batch)
    torch.testing.assert_close(_loss()((torch.zeros(1), _preds()), batch)[0], expected)
    torch.testing.assert_close(_loss()(_preds(), {**batch, "cls": batch["cls"].view(-1)})[0], expected)


@pytest.mark.parametrize("topk2", [None, 1])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0])])
def test_a_replaced_cross_entropy_gets_a_table(weights, topk2):
    """The same cross-entropy behind another type takes the dense way; both must agree."""

    class Another(nn.BCEWithLogitsLoss):
        pass

    loss = _loss(topk2=topk2, class_weights=weights)
    expected = _run(loss, _preds(), _batch())
    loss.bce = Another(reduction="none")
    _assert_same(_run(loss, _preds(), _batch()), expected, rtol=1e-4, atol=1e-6)
    loss.bce = lambda logits, target: torch.zeros_like(logits)
    assert loss(_preds(), _batch())[0][1] == 0


LIFTED = torch.tensor([1.0, 11.5, 3.0])
SETTINGS = [{"focal_gamma": 1.5}, {"label_smoothing": 0.2}, {"focal_gamma": 2.0, "label_smoothing": 0.2}, {}]


class ByTheTable(nn.BCEWithLogitsLoss):
    """The same cross-entropy; as another type it is called with a table."""


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("lifted", [None, LIFTED])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0])])
def test_every_setting_of_the_class_loss_is_the_same_with_and_without_a_table(settings, lifted, weights):
    loss = _loss(topk2=1, class_weights=weights, **settings)
    loss.bce = nn.BCEWithLogitsLoss(reduction="none", pos_weight=lifted)
    sparse = _run(loss, _preds(dtype=torch.float64), _batch())
    loss.bce = ByTheTable(reduction="none", pos_weight=lifted)
    dense = _run(loss, _preds(dtype=torch.float64), _batch())
    _assert_same(sparse, dense)
    plain = _run(_loss(topk2=1), _preds(dtype=torch.float64), _batch())
    if settings or lifted is not None or weights is not None:
        assert not torch.allclose(plain[0][1], sparse[0][1], rtol=1e-5)
    torch.testing.assert_close(plain[0][[0, 2]], sparse[0][[0, 2]])  # the other terms do not change


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_class_loss_is_the_formula_over_the_table(settings, table):
    """Written out once more over the table that the assigner of dense tables makes."""
    preds, batch, tables = _preds(dtype=torch.float64), _batch(), []

    class Keeping(TaskAlignedAssigner):
        def forward(self, *args, **extra):
            result = super().forward(*args, **extra)
            tables.append(result[2])
            return result

    loss = _loss(**settings)
    loss.bce = nn.BCEWithLogitsLoss(reduction="none", pos_weight=LIFTED)
    keeping = Keeping(topk=7, num_classes=NC, alpha=0.5, stride=STRIDES)
    if table:
        loss.assigner = keeping
    else:
        other = _loss()
        other.assigner = keeping
        other(preds, batch)
    _, items = loss(preds, batch)
    target = tables[0].double()  # (B, A, C)
    total = target.sum()
    amount, gamma = settings.get("label_smoothing", 0.0), settings.get("focal_gamma", 0.0)
    target = (1 - amount) * target + amount * target.sum(-1, keepdim=True) / NC
    p = preds["scores"].permute(0, 2, 1).sigmoid()
    costs = -(LIFTED * target * p.log() + (1 - target) * (1 - p).log()) * (target - p).abs() ** gamma
    torch.testing.assert_close(items["cls_loss"], (costs.sum() / total * 0.5).detach(), rtol=1e-6, atol=0)


def test_positive_weights_of_the_model_are_the_pos_weight_of_bce():
    model = stand_in_model(nc=NC, reg_max=1, strides=STRIDES)
    model.positive_weights = LIFTED
    loss = v8DetectionLoss(model, 7)
    assert torch.equal(loss.bce.pos_weight, LIFTED)
    expected = _loss()
    expected.bce = nn.BCEWithLogitsLoss(reduction="none", pos_weight=LIFTED.view(1, 1, -1))
    _assert_same(_run(loss, _preds(), _batch()), _run(expected, _preds(), _batch()))
    one = _loss()
    one.bce = nn.BCEWithLogitsLoss(reduction="none", pos_weight=torch.tensor(2.0))  # the same for all classes
    two = _loss()
    two.bce = nn.BCEWithLogitsLoss(reduction="none", pos_weight=torch.full((NC,), 2.0))
    _assert_same(_run(one, _preds(), _batch()), _run(two, _preds(), _batch()))


def test_weights_that_would_be_lost_are_an_error():
    model = stand_in_model(nc=NC, reg_max=1, strides=STRIDES)
    model.positive_weights = LIFTED
    loss = v8DetectionLoss(model)
    loss.bce = nn.BCEWithLogitsLoss(reduction="none")
    with pytest.raises(TrainingError, match=r"class_weights= .* would not be in force"):
        loss(_preds(), _batch())


@pytest.mark.parametrize(
    ("bce", "message"),
    [
        (nn.BCEWithLogitsLoss(), r"returned a tensor of \(\)"),
        (nn.BCEWithLogitsLoss(reduction="none", pos_weight=torch.ones(5)), "pos_weight for 5 classes"),
    ],
)
def test_a_cross_entropy_that_does_not_fit_says_so(bce, message):
    loss = _loss()
    loss.bce = bce
    with pytest.raises(TrainingError, match=message):
        loss(_preds(), _batch())


def test_a_weight_that_wants_a_gradient_is_not_quietly_left_without():
    loss = _loss()
    loss.bce = nn.BCEWithLogitsLoss(reduction="none", pos_weight=nn.Parameter(LIFTED.clone()))
    with pytest.raises(RuntimeError, match="not differentiable"):  # torch's own, by way of the table
        loss(_preds(), _batch())


def test_a_replaced_assigner_is_called_with_dense_tables():
    loss = _loss()
    expected = _run(loss, _preds(), _batch())
    calls = []

    class Own:
        def __call__(self, pd_scores, pd_bboxes, anc_points, gt_labels, gt_bboxes, mask_gt):
            calls.append(tuple(tensor.shape for tensor in (pd_scores, pd_bboxes, gt_labels, mask_gt)))
            assigner = TaskAlignedAssigner(topk=7, num_classes=NC, alpha=0.5, stride=STRIDES)
            return assigner(pd_scores, pd_bboxes, anc_points, gt_labels, gt_bboxes, mask_gt)

    loss.assigner = Own()
    _assert_same(_run(loss, _preds(), _batch()), expected, rtol=1e-4, atol=1e-6)
    assert calls[0][0] == (3, ANCHORS, NC)


def test_a_subclass_that_changes_forward_is_not_passed_by():
    class Nothing(TaskAlignedAssigner):
        def forward(self, *args, **extra):
            labels, boxes, scores, fg, rows = super().forward(*args, **extra)
            return labels, boxes, scores * 0, fg & False, rows

    loss = _loss()
    loss.assigner = Nothing(topk=7, num_classes=NC, alpha=0.5, stride=STRIDES)
    assert loss(_preds(), _batch())[0][0] == 0


def test_replaced_box_terms_and_methods_are_used():
    loss = _loss()
    loss.bbox_loss = lambda raw, predicted, *rest: (torch.ones(len(raw)), raw.sum(1) * 0)
    _, items = loss(_preds(), _batch())
    assert items["l1_loss"] == 0
    assert items["box_loss"].item() == pytest.approx(7.5, rel=1e-5)  # a weighted mean of ones

    class NoTargets(v8DetectionLoss):
        def preprocess(self, targets, batch_size, scale_tensor):
            return super().preprocess(targets[:0], batch_size, scale_tensor)

    class Still(v8DetectionLoss):
        def bbox_decode(self, anchor_points, pred_dist):
            return super().bbox_decode(anchor_points, pred_dist * 0)

    model = stand_in_model(nc=NC, reg_max=1, strides=STRIDES)
    assert NoTargets(model)(_preds(), _batch())[0][0] == 0
    assert Still(model)(_preds(), _batch())[0][0] == 0  # boxes without area overlap nothing, so nothing is assigned


def test_the_assignment_goes_on_to_other_losses():
    preds, batch = _preds(), _batch()
    (fg, rows, boxes, points, strides), terms, items = _loss().get_assigned_targets_and_loss(preds, batch)
    assert fg.shape == rows.shape == (3, ANCHORS)
    assert fg.any()
    assert points.shape == (ANCHORS, 2)
    assert strides.shape == (ANCHORS, 1)
    torch.testing.assert_close(terms.detach(), torch.stack(list(items.values())))
    inside = (points * strides)[None] - boxes[..., :2]
    assert boxes.shape == (3, ANCHORS, 4)
    assert (inside[fg] > -16).all()  # positives lie in their target, small ones enlarged


@pytest.mark.parametrize("reg_max", [1, 16])
@pytest.mark.parametrize("topk2", [None, 1])
def test_fixed_lengths_give_the_same_loss(reg_max, topk2, monkeypatch):
    """On a GPU lists keep a length known beforehand, with entries that do not count."""
    expected = _run(_loss(reg_max, topk2), _preds(reg_max), _batch())
    for module in (candidates, task_aligned):
        monkeypatch.setattr(module, "lengths_are_free", lambda tensor: False)
    _assert_same(_run(_loss(reg_max, topk2), _preds(reg_max), _batch()), expected, rtol=1e-5, atol=1e-7)
    empty = {"batch_idx": torch.zeros(0), "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}
    assert _run(_loss(reg_max, topk2), _preds(reg_max), empty)[0][0] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_predictions_are_computed_in_float32(dtype):
    half = _preds(16, dtype=dtype)
    rounded = {key: half[key].detach().float().requires_grad_() for key in ("boxes", "scores")}
    expected = _run(_loss(16), {**rounded, "feats": half["feats"]}, _batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = _run(_loss(16), half, _batch())
    assert actual[0].dtype == torch.float32
    torch.testing.assert_close(actual[0], expected[0])
    for gradient, reference in zip(actual[2], expected[2], strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient.float(), reference, rtol=1e-2, atol=1e-3)


def test_double_precision_stays_double():
    preds = _preds(dtype=torch.float64)
    vector, _, gradients = _run(_loss(), preds, _batch())
    assert vector.dtype == gradients[0].dtype == torch.float64
    torch.testing.assert_close(vector.float(), _loss()(_preds(), _batch())[0].detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reg_max", [1, 4])
def test_gradients_are_those_of_the_value(reg_max):
    """Numerically, along random directions; the trade-off of complete IoU is a constant, so its part is left out."""
    preds, batch, loss = _preds(reg_max, dtype=torch.float64), _batch(), _loss(reg_max, box=0.0)
    _, _, gradients = _run(loss, preds, batch)
    for key, gradient in zip(("boxes", "scores"), gradients, strict=True):
        direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        fixed = loss.assigner.assign
        recorded = []
        loss.assigner.assign = lambda *args, fixed=fixed, recorded=recorded, **extra: (
            recorded.append(fixed(*args, **extra)) or recorded[0]
        )
        values = []
        for step in (0.0, 1e-6, -1e-6):  # the first call fixes the assignment, which is a constant too
            moved = {**preds, key: preds[key].detach() + step * direction}
            values.append(loss(moved, batch)[0].sum().item())
        del loss.assigner.assign
        numeric = (values[1] - values[2]) / 2e-6
        assert numeric == pytest.approx((gradient * direction).sum().item(), rel=1e-4)


def test_a_class_the_model_does_not_know_is_an_error():
    batch = _batch()
    batch["cls"][3] = 7
    with pytest.raises(DataError, match=r"class \d to 7, but the model knows 3 classes"):
        _loss()(_preds(), batch)


def test_a_broken_target_is_left_out():
    batch = _batch()
    expected, _ = _loss()(_preds(), batch)
    broken = {
        "batch_idx": torch.cat([batch["batch_idx"], torch.tensor([1.0])]),
        "cls": torch.cat([batch["cls"], torch.tensor([[0.0]])]),
        "bboxes": torch.cat([batch["bboxes"], torch.tensor([[float("nan"), 0.5, 0.1, 0.1]])]),
    }
    torch.testing.assert_close(_loss()(_preds(), broken)[0], expected)


def test_one_level_uses_its_own_stride_for_small_targets():
    head = SimpleNamespace(stride=torch.tensor([8.0]), nc=NC, reg_max=1)
    model = stand_in_model(nc=NC, reg_max=1)
    model.model = [head]
    preds = {"boxes": torch.ones(1, 4, 192), "scores": torch.zeros(1, NC, 192), "feats": [torch.zeros(1, 1, 12, 16)]}
    batch = {"batch_idx": torch.zeros(1), "cls": torch.zeros(1), "bboxes": torch.tensor([[0.52, 0.52, 0.02, 0.02]])}
    (fg, *_), _, _ = v8DetectionLoss(model).get_assigned_targets_and_loss(preds, batch)
    assert 1 <= int(fg.sum()) <= 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("reg_max", [1, 16])
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"label_smoothing": 0.1, "focal_gamma": 2.0}])
def test_nothing_waits_for_the_gpu_if_targets_are_on_the_host(reg_max, settings):
    expected = _run(_loss(reg_max, 1, **settings), _preds(reg_max), _batch())
    loss = v8DetectionLoss(stand_in_model(nc=NC, reg_max=reg_max, strides=STRIDES, **settings).cuda(), 7, 1)
    preds = {key: value.detach().cuda().requires_grad_() for key, value in _preds(reg_max).items() if key != "feats"}
    preds["feats"] = feature_maps(IMAGE_HW, STRIDES)
    batch = _batch()
    loss(preds, batch)[0].sum().backward()  # the first call may load kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        vector, _ = loss(preds, batch)
        gradients = torch.autograd.grad(vector.sum(), [preds["boxes"], preds["scores"]])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(vector.cpu(), expected[0], rtol=1e-4, atol=1e-5)
    for gradient, reference in zip(gradients, expected[2], strict=True):
        torch.testing.assert_close(gradient.cpu(), reference, rtol=1e-3, atol=1e-5)
    on_gpu = {key: value.cuda() for key, value in batch.items()}
    torch.testing.assert_close(loss(preds, on_gpu)[0], vector)
