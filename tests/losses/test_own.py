"""`loss=`: which kind it is, what it makes, and what it may return."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from golden.loss_inputs import stand_in_model
from sightline.errors import SettingTypeError, TrainingError
from sightline.losses.detect import v8DetectionLoss
from sightline.losses.end_to_end import E2ELoss
from sightline.losses.own import BRANCH, CRITERION, FUNCTION, FunctionLoss, OwnLoss, usable


def _model(end2end: bool = False):
    model = stand_in_model(nc=3, reg_max=1)
    model.end2end = end2end
    return model


class Branch(v8DetectionLoss):
    pass


class Flexible(v8DetectionLoss):
    def __init__(self, model, *, sharpness=1.0, **topk):
        super().__init__(model, **topk)
        self.sharpness = sharpness


class Pair(E2ELoss):
    pass


class Whole:
    def __init__(self, model):
        self.model = model

    def __call__(self, preds, batch):
        return preds.sum()


class Ready(nn.Module):
    def forward(self, preds, batch):
        return preds.sum()


def plain(preds, batch, sharpness=2.0):
    return preds.sum()


def make(model):
    return Whole(model)


def make_branch(model, tal_topk=10, tal_topk2=None):
    return v8DetectionLoss(model, tal_topk, tal_topk2)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (Branch, BRANCH),
        (Flexible, BRANCH),
        (functools.partial(Flexible, sharpness=2.0), BRANCH),
        (make_branch, BRANCH),
        (Pair, CRITERION),
        (functools.partial(E2ELoss, loss_fn=Branch), CRITERION),
        (Whole, CRITERION),
        (make, CRITERION),
        (lambda model: Whole(model), CRITERION),
        (plain, FUNCTION),
        (functools.partial(plain, sharpness=1.0), FUNCTION),
        (Ready(), FUNCTION),
        (Whole(None), FUNCTION),  # an object that is called with both
    ],
)
def test_the_kinds_are_told_apart(given, kind):
    assert OwnLoss(given).kind == kind


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "cannot be called"),
        (lambda: 0, "must be given nothing"),
        (lambda *everything: 0, "must be given nothing"),
        (lambda a, b, c: 0, "must be given a, b, c"),
        (lambda model, scale: 0, "must be given model, scale"),
        (v8DetectionLoss(_model()), "Give the class itself, loss=v8DetectionLoss"),
        (E2ELoss(_model()), "Give the class itself, loss=E2ELoss"),
    ],
)
def test_what_is_no_loss_is_refused(given, message):
    with pytest.raises(SettingTypeError, match=message):
        OwnLoss(given)


def test_a_branch_becomes_a_pair_where_the_model_has_two():
    assert type(OwnLoss(Branch).make(_model())) is Branch
    both = OwnLoss(functools.partial(Flexible, sharpness=3.0)).make(_model(end2end=True))
    assert type(both) is E2ELoss
    assert (both.one2many.sharpness, both.one2one.assigner.topk) == (3.0, 7)


def test_a_branch_without_the_arguments_of_branches_says_so():
    class Narrow(v8DetectionLoss):
        def __init__(self, model):
            super().__init__(model)

    assert type(OwnLoss(Narrow).make(_model())) is Narrow
    with pytest.raises(SettingTypeError, match="tal_topk"):
        OwnLoss(Narrow).make(_model(end2end=True))


def test_a_criterion_is_made_from_the_model_and_used_as_it_is():
    model = _model(end2end=True)
    assert type(OwnLoss(Pair).make(model)) is Pair
    assert OwnLoss(make).make(model).model is model
    with pytest.raises(SettingTypeError, match="made a int"):
        OwnLoss(lambda model: 5).make(model)


def test_a_function_gets_raw_predictions_in_training_and_in_validation():
    seen = []
    criterion = OwnLoss(lambda preds, batch: seen.append(preds)).make(_model())
    assert isinstance(criterion, FunctionLoss)
    criterion({"boxes": 1}, {})
    criterion((torch.zeros(1), {"boxes": 2}), {})
    assert seen == [{"boxes": 1}, {"boxes": 2}]


def test_what_a_loss_may_return():
    x = torch.ones(2, requires_grad=True)
    loss, items = usable(x * 2, plain)
    assert loss.tolist() == [2.0, 2.0]
    assert items == {"loss": torch.tensor(4.0)}
    loss, items = usable((x.sum(), {"a": x.mean(), "b": 3, "c": torch.ones(1, 1)}), plain, learning=True)
    assert items == {"a": torch.tensor(1.0), "b": torch.tensor(3.0), "c": torch.tensor(1.0)}
    assert not any(item.requires_grad for item in items.values())
    assert all(item.shape == () for item in items.values())
    three = torch.ones(3)
    assert usable((x.sum(), three), plain)[1] is three  # the trainer names them


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, r"loss plain returned None \(NoneType\)"),
        (1.5, "returned 1.5"),
        ((torch.ones(1), "three"), "a tuple of Tensor, str"),
        ((torch.ones(1), {}, 3), "a tuple of Tensor, dict, int"),
        ({"loss": torch.ones(1)}, "returned {'loss'"),
        ((torch.ones(1), {"a": torch.ones(2)}), r"item 'a' = a tensor of \(2,\)"),
        ((torch.ones(1), {"a": "big"}), "item 'a' = 'big'"),
    ],
)
def test_what_it_may_not(result, message):
    with pytest.raises(TrainingError, match=message):
        usable(result, FunctionLoss(plain))


def test_a_tensor_without_gradient_is_refused_only_where_one_is_wanted():
    usable(torch.ones(1), plain)
    with torch.no_grad():
        usable(torch.ones(1), plain, learning=True)  # validation during training
    with pytest.raises(TrainingError, match="without a gradient"):
        usable(torch.ones(1), plain, learning=True)
