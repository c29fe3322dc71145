"""The loss of RT-DETR beyond the recorded numbers: what it reads from the device, odd batches, several layers."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch

from sightline.errors import DataError
from sightline.losses.assign.hungarian import HungarianMatcher
from sightline.losses.denoising import make_denoising
from sightline.losses.normalise import WholeBatch, of_whole
from sightline.losses.rtdetr import RTDETRDetectionLoss
from sightline.losses.targets import target_rows

NC, QUERIES, LAYERS = 4, 12, 3


def criterion(**options) -> RTDETRDetectionLoss:
    return RTDETRDetectionLoss(SimpleNamespace(model=[SimpleNamespace(nc=NC)]), **options)


def a_batch(order=(0, 1, 2, 3)) -> dict[str, torch.Tensor]:
    rows = torch.tensor(
        [[0, 1, 0.3, 0.3, 0.2, 0.3], [0, 3, 0.7, 0.6, 0.4, 0.5], [2, 0, 0.5, 0.5, 0.6, 0.4], [2, 2, 0.2, 0.8, 0.1, 0.1]]
    )[list(order)]
    return {"batch_idx": rows[:, 0], "cls": rows[:, 1:2], "bboxes": rows[:, 2:]}


def raw_output(batch=None, *, noisy: bool = False) -> dict:
    generator = torch.Generator().manual_seed(0)
    denoising = None
    if noisy:
        torch.manual_seed(0)
        rows = target_rows(a_batch() if batch is None else batch, 3, NC)
        denoising = make_denoising(rows, nc=NC, most=8, device=torch.device("cpu"))
    extra = denoising.count if noisy else 0

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "boxes": (random(LAYERS, 3, extra + QUERIES, 4) / 2).sigmoid().requires_grad_(),
        "scores": random(LAYERS, 3, extra + QUERIES, NC).requires_grad_(),
        "encoder_boxes": (random(3, QUERIES, 4) / 2).sigmoid().requires_grad_(),
        "encoder_scores": random(3, QUERIES, NC).requires_grad_(),
        "denoising": denoising,
    }


def test_terms_and_items():
    raw = raw_output(noisy=True)
    loss = criterion()
    parts, _ = loss.parts(raw, a_batch())
    terms, items = loss(raw, a_batch())
    assert len(parts) == 12
    torch.testing.assert_close(terms.sum(), torch.stack(list(parts.values())).sum())
    assert list(items) == ["giou_loss", "cls_loss", "l1_loss"]
    torch.testing.assert_close(items["l1_loss"], parts["loss_bbox"].detach())
    assert terms[0] > items["giou_loss"]
    torch.testing.assert_close(loss((None, raw), a_batch())[0], terms)  # as in evaluation


def test_gains():
    raw = raw_output(noisy=True)
    usual, _ = criterion().parts(raw, a_batch())
    other, _ = criterion(gains={"bbox": 1.0, "class": 3.0}).parts(raw, a_batch())
    for name, value in usual.items():
        factor = 0.2 if "bbox" in name else 3 if "class" in name else 1
        torch.testing.assert_close(other[name], value * factor)


def test_targets_in_any_order():
    raw = raw_output()
    torch.testing.assert_close(criterion()(raw, a_batch((3, 1, 2, 0)))[0], criterion()(raw, a_batch())[0])


def test_a_target_that_is_not_finite_is_left_out():
    raw, batch = raw_output(), a_batch((0, 1, 2))
    expected = criterion()(raw, batch)[0]
    broken = a_batch()
    broken["bboxes"] = broken["bboxes"].clone()
    broken["bboxes"][3, 2] = float("nan")
    torch.testing.assert_close(criterion()(raw, broken)[0], expected)


@pytest.mark.parametrize(
    ("column", "value", "words"), [("cls", 4.0, "knows 4 classes"), ("batch_idx", 3.0, "3 images")]
)
def test_impossible_targets(column: str, value: float, words: str):
    batch = a_batch()
    batch[column] = batch[column].clone()
    batch[column][-1] = value
    with pytest.raises(DataError, match=words):
        criterion()(raw_output(), batch)


def test_a_batch_without_targets_teaches_background():
    batch = {name: value[:0] for name, value in a_batch().items()}
    raw = raw_output()
    terms, items = criterion()(raw, batch)
    terms.sum().backward()
    assert float(items["giou_loss"]) == float(items["l1_loss"]) == 0
    for name in ("boxes", "scores", "encoder_boxes", "encoder_scores"):
        assert raw[name].grad is not None, name
    assert (raw["scores"].grad > 0).all()
    assert not raw["boxes"].grad.any()


def test_pieces_of_a_batch_make_the_loss_of_the_whole():
    """Micro-batches: a first pass counts, a second divides each piece by what all counted."""
    raw, batch = raw_output(), a_batch()
    expected = criterion()(raw, batch)[0]
    pieces = []
    for images in ([0, 1], [2]):
        mine = (batch["batch_idx"][:, None] == torch.tensor(images)).any(1)
        piece = {name: value[mine] for name, value in batch.items()}
        piece["batch_idx"] = piece["batch_idx"] - images[0]
        part = {name: value[:, images] for name, value in raw.items() if name in ("boxes", "scores")}
        part |= {name: value[images] for name, value in raw.items() if name.startswith("encoder")}
        pieces.append(({**part, "denoising": None}, piece))
    whole = WholeBatch()
    with of_whole(whole):
        whole.begin_counting()
        for piece in pieces:
            whole.begin_piece()
            criterion()(*piece)
        whole.counting = False
        terms = []
        for piece in pieces:
            whole.begin_piece()
            terms.append(criterion()(*piece)[0])
    torch.testing.assert_close(sum(terms), expected)


def test_half_precision_is_computed_in_float32():
    raw = raw_output()
    half = {name: value.detach().bfloat16() if name.endswith("scores") else value for name, value in raw.items()}
    expected = criterion()({**half, **{n: v.float() for n, v in half.items() if n.endswith("scores")}}, a_batch())[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = criterion()(half, a_batch())[0]
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected)


def test_only_the_costs_come_from_the_device(monkeypatch: pytest.MonkeyPatch):
    """Predictions lie on the meta device, from which nothing can be read: whatever would wait for a GPU fails there."""
    raw = raw_output(noisy=True)
    on_meta = {name: value.detach().to("meta").requires_grad_() for name, value in raw.items() if name != "denoising"}
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # there is none on it
    loss = criterion()
    fetched: list[torch.Size] = []

    class Matcher(HungarianMatcher):
        def costs(self, *arguments):
            made = super().costs(*arguments)
            assert made.is_meta
            fetched.append(made.shape)
            return torch.zeros(made.shape)

    loss.matcher = Matcher()
    terms, _ = loss({**on_meta, "denoising": raw["denoising"]}, a_batch())
    terms.sum().backward()
    assert fetched == [(LAYERS + 1, 3, QUERIES, 2)]  # all layers and images at once, as wide as the most crowded image
    with pytest.raises((RuntimeError, NotImplementedError)):
        terms.sum().item()
