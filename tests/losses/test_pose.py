"""The pose losses beside the recorded cases: pieces, ranks, what is not labelled, what is asked wrongly."""

from __future__ import annotations

import pytest
import torch

from golden.loss_inputs import relative_error, stand_in_model
from sightline.errors import DataError, ModelError
from sightline.losses import pose
from sightline.losses.assign import candidates, keypoint_aligned, task_aligned
from sightline.losses.end_to_end import E2ELoss
from sightline.losses.normalise import WholeBatch, of_whole
from sightline.losses.pose import PoseLoss26, v8PoseLoss
from sightline.nn.flow import RealNVP

LEVELS = ((8, 12), (4, 6), (2, 3))  # of an image of 64 × 96 pixels
ANCHORS = sum(height * width for height, width in LEVELS)
KINDS = [v8PoseLoss, PoseLoss26]


def loss_model(kpt_shape=(5, 3), **args) -> torch.nn.Module:
    model = stand_in_model(nc=2, reg_max=1, **args)
    torch.manual_seed(3)
    model.model[0].kpt_shape, model.model[0].flow_model = kpt_shape, RealNVP()
    return model


def raw(images: int = 3, kpt_shape=(5, 3)) -> dict:
    generator = torch.Generator().manual_seed(0)
    points = kpt_shape[0]
    made = {
        "boxes": torch.rand(images, 4, ANCHORS, generator=generator) * 3 + 0.5,
        "scores": torch.randn(images, 2, ANCHORS, generator=generator),
        "kpts": torch.randn(images, points * kpt_shape[1], ANCHORS, generator=generator),
        "kpts_sigma": torch.randn(images, 2 * points, ANCHORS, generator=generator),
    }
    maps = [torch.zeros(images, 1, *level) for level in LEVELS]
    return {**{name: value.requires_grad_() for name, value in made.items()}, "feats": maps}


def batch(numbers: int = 3) -> dict:
    """Two objects in the first image, none in the second, one in the third."""
    generator = torch.Generator().manual_seed(1)
    boxes = torch.tensor([[0.3, 0.4, 0.4, 0.5], [0.7, 0.5, 0.3, 0.6], [0.5, 0.5, 0.5, 0.7]])
    spread = torch.rand(3, 5, 2, generator=generator) - 0.5
    keypoints = boxes[:, None, :2] + spread * boxes[:, None, 2:]
    visibility = torch.tensor([[2.0, 2, 1, 0, 2], [2, 0, 0, 2, 2], [2, 2, 2, 2, 1]])[..., None]
    keypoints = torch.cat([keypoints, visibility], -1)[..., :numbers]
    return {
        "batch_idx": torch.tensor([0.0, 0, 2]),
        "cls": torch.tensor([0.0, 1, 0]),
        "bboxes": boxes,
        "keypoints": keypoints,
    }


def terms(kind: type[v8PoseLoss], preds: dict, targets: dict, **args) -> tuple[torch.Tensor, dict]:
    return kind(loss_model(**args))(preds, targets)


@pytest.mark.parametrize("kind", KINDS)
def test_gains(kind: type[v8PoseLoss]):
    _, usual = terms(kind, raw(), batch())
    _, raised = terms(kind, raw(), batch(), pose=24.0, kobj=3.0, rle=0.5)
    factors = {"pose_loss": 2, "kobj_loss": 3, "rle_loss": 0.5}
    for name, value in usual.items():
        assert float(value) > 0
        assert float(raised[name]) == pytest.approx(float(value) * factors.get(name, 1), rel=1e-5), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_that_is_not_labelled_teaches_nothing(kind: type[v8PoseLoss]):
    def gradient(targets: dict) -> torch.Tensor:
        preds = raw()
        loss, _ = terms(kind, preds, targets, kobj=0.0)
        loss.sum().backward()
        return preds["kpts"].grad

    elsewhere = batch()
    elsewhere["keypoints"][0, 3, :2] = 0.99  # it has visibility 0
    torch.testing.assert_close(gradient(batch()), gradient(elsewhere))
    labelled = batch()
    labelled["keypoints"][0, 3, 2] = 2
    assert not torch.equal(gradient(batch()), gradient(labelled))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_batch_may_come_in_any_order(kind: type[v8PoseLoss]):
    shuffled = {name: value[[2, 1, 0]] for name, value in batch().items()}
    first, second = terms(kind, raw(), batch())[0], terms(kind, raw(), shuffled)[0]
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_without_lists_of_their_own_length_the_result_is_the_same(kind: type[v8PoseLoss], monkeypatch):
    """On a GPU lists are as long as they can get, with a mask; here they are made so on the CPU."""

    def run() -> tuple[torch.Tensor, dict]:
        preds = raw()
        loss = terms(kind, preds, batch())[0]
        loss.sum().backward()
        return loss, {name: value.grad for name, value in preds.items() if name != "feats"}

    loss, gradients = run()
    for module in (candidates, task_aligned, keypoint_aligned, pose):
        monkeypatch.setattr(module, "lengths_are_free", lambda _: False, raising=False)
    other, others = run()
    assert relative_error(other, loss.detach().numpy()) < 1e-5
    for name, gradient in gradients.items():
        if gradient is not None:
            assert relative_error(others[name], gradient.numpy()) < 1e-5, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_in_pieces_has_the_loss_of_the_whole(kind: type[v8PoseLoss]):
    criterion = E2ELoss(loss_model(), kind)

    def run(first: int, last: int) -> torch.Tensor:
        preds = {name: value[first:last] for name, value in raw().items() if name != "feats"}
        preds["feats"] = [each[first:last] for each in raw()["feats"]]
        targets = batch()
        mine = (targets["batch_idx"] >= first) & (targets["batch_idx"] < last)
        targets = {name: value[mine] for name, value in targets.items()}
        targets["batch_idx"] = targets["batch_idx"] - first
        return criterion({"one2many": preds, "one2one": preds}, targets)[0].detach()

    pieces, whole = [(0, 1), (1, 2), (2, 3)], WholeBatch()
    with of_whole(whole):
        whole.begin_counting()
        for piece in pieces:
            whole.begin_piece()
            run(*piece)
        whole.counting = False
        total = torch.zeros(6 if kind is PoseLoss26 else 5)
        for piece in pieces:
            whole.begin_piece()
            total += run(*piece)
    torch.testing.assert_close(total, run(0, 3), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("numbers", [2, 3])
def test_two_numbers_a_keypoint(kind: type[v8PoseLoss], numbers: int):
    """Labels without visibility count as seen; a head without it has no loss for it."""
    seen = batch()
    seen["keypoints"][..., 2] = 1
    preds = raw(kpt_shape=(5, numbers))
    with_, without = (terms(kind, preds, targets, kpt_shape=(5, numbers))[1] for targets in (seen, batch(numbers=2)))
    assert {name: float(value) for name, value in with_.items()} == {
        name: float(value) for name, value in without.items()
    }
    assert (float(with_["kobj_loss"]) > 0) == (numbers == 3)


def test_sigmas_of_the_data_set_count():
    def pose_term(sigmas) -> float:
        model = loss_model()
        model.kpt_oks_sigmas = sigmas
        return float(v8PoseLoss(model)(raw(), batch())[1]["pose_loss"])

    assert pose_term(None) == pose_term([0.2] * 5)  # 1/K is the usual one
    assert pose_term([0.05] * 5) > pose_term(None) > pose_term([1.0] * 5)


def test_an_error_that_is_no_number_is_left_out_of_the_likelihood():
    preds = raw()
    with torch.no_grad():
        preds["kpts"][0, 0] = float("nan")
    _, items = terms(PoseLoss26, preds, batch(), pose=0.0)
    assert items["rle_loss"].isfinite()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda model, targets: targets.pop("keypoints"), DataError, ["no keypoints", "kpt_shape"]),
        (
            lambda model, targets: targets.update(keypoints=targets["keypoints"][:, :4]),
            DataError,
            ["(3, 4, 3)", "kpt_shape [5, 3]"],
        ),
        (lambda model, targets: delattr(model.model[0], "kpt_shape"), ModelError, ["pose head", "yolo26n-pose.yaml"]),
    ],
)
def test_what_cannot_be_is_explained(change, error, words: list[str]):
    model, targets = loss_model(), batch()
    change(model, targets)
    with pytest.raises(error) as caught:
        PoseLoss26(model)(raw(), targets)
    for word in words:
        assert word in str(caught.value)
