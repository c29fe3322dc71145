"""Two branches: what is shared, what is saved. Values are in tests/golden/test_end_to_end_loss.py."""

from __future__ import annotations

import pytest
import torch

from golden.loss_inputs import feature_maps, stand_in_model
from sightline.losses.assign import task_aligned
from sightline.losses.detect import v8DetectionLoss
from sightline.losses.end_to_end import E2EDetectLoss, E2ELoss

ANCHORS = 64 + 16 + 4


def _preds() -> dict:
    generator = torch.Generator().manual_seed(0)
    maps = feature_maps((64, 64), (8, 16, 32))
    return {
        branch: {
            "boxes": (torch.rand(2, 4, ANCHORS, generator=generator) * 3).requires_grad_(),
            "scores": torch.randn(2, 3, ANCHORS, generator=generator).requires_grad_(),
            "feats": maps,
        }
        for branch in ("one2many", "one2one")
    }


def _batch() -> dict:
    return {
        "batch_idx": torch.tensor([1.0, 0.0, 1.0]),
        "cls": torch.tensor([[0.0], [1.0], [2.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.3, 0.3], [0.3, 0.4, 0.5, 0.2], [0.7, 0.6, 0.1, 0.1]]),
    }


def _model(**settings):
    return stand_in_model(nc=3, reg_max=1, **{"epochs": 11, **settings})


@pytest.mark.parametrize("kind", [E2ELoss, E2EDetectLoss])
def test_sharing_targets_changes_nothing_and_lists_candidates_once(kind, monkeypatch):
    loss, preds, batch = kind(_model()), _preds(), _batch()
    calls = []
    listing = task_aligned.list_on_grid
    monkeypatch.setattr(task_aligned, "list_on_grid", lambda *args: calls.append(1) or listing(*args))
    shared, _ = loss(preds, batch)
    assert len(calls) == 1
    assert set(batch) == {"batch_idx", "cls", "bboxes"}  # nothing is left in the caller's batch
    many, _ = loss.one2many.loss(preds["one2many"], batch)
    one, _ = loss.one2one.loss(preds["one2one"], batch)
    weights = (0.8, 0.2) if kind is E2ELoss else (1.0, 1.0)
    torch.testing.assert_close(shared, many * weights[0] + one * weights[1])


def test_branches_that_prepare_targets_differently_do_not_share():
    class NoTargets(v8DetectionLoss):
        def preprocess(self, targets, batch_size, scale_tensor):
            return super().preprocess(targets[:0], batch_size, scale_tensor)

    loss = E2ELoss(_model())
    loss.one2one = NoTargets(_model())
    _, items = loss(_preds(), _batch())
    assert items["box_loss"] == 0


def test_a_subclass_is_the_loss_of_both_branches_and_its_parts_are_used():
    class Weighted(v8DetectionLoss):
        def __init__(self, model, tal_topk=10, tal_topk2=None):
            super().__init__(model, tal_topk, tal_topk2)
            self.bce = torch.nn.BCEWithLogitsLoss(reduction="none", pos_weight=torch.tensor([1.0, 5.0, 20.0]))

    loss, preds, batch = E2ELoss(_model(), loss_fn=Weighted), _preds(), _batch()
    assert [type(branch) for branch in (loss.one2many, loss.one2one)] == [Weighted, Weighted]
    assert (loss.one2many.assigner.topk, loss.one2one.assigner.topk, loss.one2one.assigner.topk2) == (10, 7, 1)
    vector, items = loss(preds, batch)
    plain, plain_items = E2ELoss(_model())(preds, batch)
    assert items["cls_loss"] > plain_items["cls_loss"]
    assert vector[1] > plain[1]
    torch.testing.assert_close(vector[[0, 2]], plain[[0, 2]])


def test_settings_of_the_class_loss_are_in_force_in_both_branches():
    preds, batch = _preds(), _batch()
    plain = E2ELoss(_model())
    changed = E2ELoss(_model(focal_gamma=2.0, label_smoothing=0.1))
    for branch in ("one2many", "one2one"):
        before, _ = getattr(plain, branch).loss(preds[branch], batch)
        after, _ = getattr(changed, branch).loss(preds[branch], batch)
        assert after[1] < before[1]


def test_items_are_those_of_the_one_to_one_branch():
    loss, preds, batch = E2ELoss(_model()), _preds(), _batch()
    _, items = loss(preds, batch)
    _, expected = loss.one2one.loss(preds["one2one"], batch)
    assert items == expected


def test_weights_move_with_the_epochs_and_follow_a_changed_number():
    loss = E2ELoss(_model(epochs=11))
    assert (loss.o2m, loss.o2o) == pytest.approx((0.8, 0.2))
    loss.update()
    assert (loss.o2m, loss.o2o) == pytest.approx((0.73, 0.27))
    loss.one2one.hyp.epochs = 3
    loss.update()
    assert (loss.o2m, loss.o2o) == pytest.approx((0.1, 0.9))


def test_state_goes_into_another_instance():
    loss = E2ELoss(_model())
    for _ in range(4):
        loss.update()
    other = E2ELoss(_model())
    other.load_state_dict(loss.state_dict())
    assert (other.updates, other.o2m, other.o2o) == (4, loss.o2m, loss.o2o)
    other.update()
    loss.update()
    assert other.o2m == loss.o2m


def test_any_loss_with_the_three_names_can_be_a_branch():
    class Constant:
        def __init__(self, model, tal_topk, tal_topk2=None):
            self.hyp, self.value = model.args, float(tal_topk)

        def parse_output(self, preds):
            return preds

        def loss(self, preds, batch):
            return torch.full((3,), self.value), {"constant": torch.tensor(self.value)}

    vector, items = E2ELoss(_model(), loss_fn=Constant)({"one2many": {}, "one2one": {}}, {})
    assert vector.tolist() == pytest.approx([10 * 0.8 + 7 * 0.2] * 3)
    assert items["constant"] == 7
