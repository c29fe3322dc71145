"""The pose heads: raw layout, decoding, what folding drops."""

from __future__ import annotations

import pytest
import torch

from sightline.nn.heads.pose import Pose, Pose26

WIDTHS, SIZES, STRIDES = (16, 32), ((4, 6), (2, 3)), (8.0, 16.0)
ANCHORS = 4 * 6 + 2 * 3
HEADS = [Pose, Pose26]


def make_head(kind: type[Pose], **options) -> Pose:
    torch.manual_seed(0)
    head = kind(WIDTHS, **{"kpt_shape": (4, 3), "nc": 2, "reg_max": 1, "end2end": True, **options})
    head.stride = torch.tensor(STRIDES)
    head.init_biases()
    return head.eval()


def maps(batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, width, *size, generator=generator) for width, size in zip(WIDTHS, SIZES, strict=True)]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("numbers", [2, 3])
@torch.no_grad()
def test_decoded_keypoints_are_those_worked_out_by_hand(kind: type[Pose], numbers: int):
    head = make_head(kind, kpt_shape=(4, numbers))
    decoded, raw = head(maps())
    assert decoded.shape == (2, 4 + 2 + 4 * numbers, ANCHORS)
    cells = [(x, y, s) for (h, w), s in zip(SIZES, STRIDES, strict=True) for y in range(h) for x in range(w)]
    for anchor, (column, row, stride) in enumerate(cells):
        for point in range(4):
            said = raw["one2many"]["kpts"][0, point * numbers : (point + 1) * numbers, anchor].tolist()
            found = decoded[0, 6 + point * numbers : 6 + (point + 1) * numbers, anchor].tolist()
            if kind is Pose:  # from the corner of the cell, twice as fast
                expected = [(2 * said[0] + column) * stride, (2 * said[1] + row) * stride]
            else:  # from its middle
                expected = [(said[0] + column + 0.5) * stride, (said[1] + row + 0.5) * stride]
            assert found[:2] == pytest.approx(expected, abs=1e-4)
            if numbers == 3:
                assert found[2] == pytest.approx(1 / (1 + torch.tensor(-said[2]).exp().item()), abs=1e-6)


def test_the_spread_is_told_in_training_only():
    head = make_head(Pose26)
    assert "kpts_sigma" not in head(maps())[1]["one2many"]
    raw = head.train()(maps())
    assert raw["one2many"]["kpts_sigma"].shape == raw["one2one"]["kpts_sigma"].shape == (2, 8, ANCHORS)
    assert "kpts_sigma" not in make_head(Pose).train()(maps())["one2many"]


def test_the_second_pair_does_not_reach_what_is_below():
    head, seen = make_head(Pose26).train(), [each.requires_grad_() for each in maps()]
    head(seen)["one2one"]["kpts"].sum().backward()
    assert all(each.grad is None for each in seen)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("on", [False, True])
@torch.no_grad()
def test_folding_keeps_what_is_found_and_drops_the_rest(kind: type[Pose], on: bool):
    head = make_head(kind)
    head.end2end = on
    before = head(maps())[0]
    head.fold()
    torch.testing.assert_close(head(maps())[0], before)
    names = {name.partition(".")[0] for name in head.state_dict()}
    assert names == ({"one2one_cv2", "one2one_cv3", "one2one_cv4"} if on else {"cv2", "cv3", "cv4"}) | (
        ({"one2one_cv4_kpts"} if on else {"cv4_kpts"}) if kind is Pose26 else set()
    )
    assert not head.foldable


@torch.no_grad()
def test_half_precision_leaves_the_last_convolution_alone():
    head = make_head(Pose26)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(maps())[1]["one2many"]["kpts"].dtype == torch.float32
