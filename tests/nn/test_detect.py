"""The detection head: raw layout, decoding, the two branches."""

from __future__ import annotations

import math

import pytest
import torch

from sightline.nn.heads.detect import DFL, Detect, join_levels

WIDTHS, SIZES, STRIDES = (16, 32), ((4, 6), (2, 3)), (8.0, 16.0)
ANCHORS = 4 * 6 + 2 * 3


def make_head(**options) -> Detect:
    torch.manual_seed(0)
    head = Detect(WIDTHS, **{"nc": 5, "reg_max": 1, "end2end": True, **options})
    head.stride = torch.tensor(STRIDES)
    head.init_biases()
    return head.eval()


def maps(batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, width, *size, generator=generator) for width, size in zip(WIDTHS, SIZES, strict=True)]


def decoded_by_hand(raw: dict, reg_max: int) -> torch.Tensor:
    """(B, A, 4) xyxy, one anchor at a time."""
    boxes = torch.zeros(raw["boxes"].shape[0], ANCHORS, 4)
    anchor = 0
    for (height, width), stride in zip(SIZES, STRIDES, strict=True):
        for row in range(height):
            for column in range(width):
                values = raw["boxes"][:, :, anchor].view(-1, 4, reg_max)
                if reg_max > 1:
                    values = (values.softmax(-1) * torch.arange(reg_max)).sum(-1, keepdim=True)
                left, top, right, bottom = values[..., 0].unbind(1)
                x, y = column + 0.5, row + 0.5
                boxes[:, anchor] = torch.stack([x - left, y - top, x + right, y + bottom], 1) * stride
                anchor += 1
    return boxes


@pytest.mark.parametrize("reg_max", [1, 16])
def test_decoding_is_the_formula(reg_max: int):
    head = make_head(reg_max=reg_max)
    decoded, raw = head(maps())
    assert set(raw) == {"one2many", "one2one"}
    corners = decoded_by_hand(raw["one2many"], reg_max)
    centre, size = (corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]
    torch.testing.assert_close(decoded[:, :4].transpose(1, 2), torch.cat([centre, size], -1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(decoded[:, 4:], raw["one2many"]["scores"].sigmoid())
    one2one = head.decode_branch(raw["one2one"], corners=True)
    torch.testing.assert_close(
        one2one[:, :4].transpose(1, 2), decoded_by_hand(raw["one2one"], reg_max), rtol=1e-5, atol=1e-4
    )


def test_the_switch_gives_rows_best_first_of_the_one_to_one_branch():
    head = make_head()
    torch.nn.init.normal_(head.one2one_cv3[0][-1].weight)
    head.end2end, head.max_det = True, 7
    rows, raw = head(maps())
    assert rows.shape == (2, 7, 6)
    scores = raw["one2one"]["scores"].sigmoid()
    for image in range(2):
        assert torch.equal(rows[image, :, 4], scores[image].flatten().sort(descending=True).values[:7])
        boxes = decoded_by_hand(raw["one2one"], 1)[image]
        for row in rows[image]:
            anchor = (scores[image, int(row[5])] == row[4]).nonzero()[0]
            torch.testing.assert_close(row[:4], boxes[anchor[0]])


def test_fewer_anchors_than_rows():
    head = make_head()
    head.end2end = True
    assert head(maps())[0].shape == (2, ANCHORS, 6)


def test_training_gives_raw_predictions_and_detaches_the_second_branch():
    head = make_head().train()
    inputs = [each.requires_grad_() for each in maps()]
    raw = head(inputs)
    assert raw["one2many"]["boxes"].shape == (2, 4, ANCHORS)
    assert raw["one2many"]["scores"].shape == (2, 5, ANCHORS)
    assert [tuple(each.shape[2:]) for each in raw["one2one"]["feats"]] == list(SIZES)
    (raw["one2one"]["boxes"].sum() + raw["one2one"]["scores"].sum()).backward()
    assert all(each.grad is None for each in inputs)
    assert head.one2one_cv2[0][0].conv.weight.grad is not None
    raw["one2many"]["scores"].sum().backward()
    assert all(each.grad is not None for each in inputs)


def test_a_head_with_one_branch_gives_a_plain_dict():
    head = make_head(end2end=False)
    decoded, raw = head(maps())
    assert set(raw) == {"boxes", "scores", "feats"}
    assert decoded.shape == (2, 9, ANCHORS)
    assert set(head.train()(maps())) == {"boxes", "scores", "feats"}


def test_both_branches_start_equal_and_are_apart():
    head = make_head()
    for name, value in head.cv3.state_dict().items():
        copied = head.one2one_cv3.state_dict()[name]
        assert torch.equal(value, copied)
        assert value.data_ptr() != copied.data_ptr()


@pytest.mark.parametrize("reg_max", [1, 16])
def test_first_biases(reg_max: int):
    head = make_head(reg_max=reg_max)
    for boxes, classes in ((head.cv2, head.cv3), (head.one2one_cv2, head.one2one_cv3)):
        for box, score, stride in zip(boxes, classes, STRIDES, strict=True):
            assert (box[-1].bias == 2).all()
            torch.testing.assert_close(score[-1].bias, torch.full((5,), math.log(5 / 5 / (640 / stride) ** 2)))


def test_anchors_follow_the_size_of_the_image():
    head = make_head()
    points, strides = head.anchors_for(maps(), torch.float32)
    assert head.anchors_for(maps(), torch.float32)[0] is points  # kept
    assert len(points) == len(strides) == ANCHORS
    other = [torch.zeros(1, width, 2, 2) for width in WIDTHS]
    assert len(head.anchors_for(other, torch.float32)[0]) == 8
    assert head.anchors_for(maps(), torch.float64)[0].dtype == torch.float64


def test_anchors_kept_from_inference_serve_a_pass_with_gradients():
    head = make_head()
    with torch.inference_mode():
        head(maps())
    head(maps())[0].sum().backward()
    assert head.cv2[0][-1].weight.grad is not None


def test_half_precision_features_do_not_blur_the_boxes():
    """A box far from the corner needs more digits than bfloat16 has; the last convolution runs in float32 then."""
    head = make_head()
    wide = [torch.randn(1, 16, 80, 80), torch.randn(1, 32, 40, 40)]
    with torch.no_grad():
        exact = head(wide)[0]
        with torch.autocast("cpu", torch.bfloat16):
            decoded, raw = head(wide)
    assert decoded.dtype == torch.float32
    assert raw["one2one"]["scores"].dtype == torch.float32
    assert (decoded[:, :2] - exact[:, :2]).abs().max() < 0.5  # pixels; rounding a coordinate of 640 moves it by 2


def test_joined_levels_are_row_major_and_classes_lie_side_by_side():
    first, second = torch.arange(24.0).view(1, 2, 3, 4), 100 + torch.arange(4.0).view(1, 2, 1, 2)
    joined = join_levels([first, second])
    assert torch.equal(joined, torch.cat([first.flatten(2), second.flatten(2)], 2))
    assert joined.transpose(1, 2).is_contiguous()


def test_dfl_is_the_mean_of_the_distribution():
    logits = torch.full((1, 1, 4, 16), -50.0)
    logits[0, 0, 0, 3] = 50  # surely 3
    logits[0, 0, 1, [4, 7]] = 50  # 4 or 7
    dfl = DFL(16)
    torch.testing.assert_close(dfl(logits)[0, 0, :2], torch.tensor([3.0, 5.5]))
    assert not dfl.conv.weight.requires_grad


@pytest.mark.parametrize(("on", "left"), [(True, {"one2one_cv2", "one2one_cv3"}), (False, {"cv2", "cv3"})])
def test_folding_drops_what_the_switch_does_not_use(on: bool, left: set[str]):
    head = make_head()
    head.end2end = on
    expected = head(maps())[0]
    head.fold()
    assert {name for name, _ in head.named_children()} - {"dfl"} == left
    assert torch.equal(head(maps())[0], expected)


@pytest.mark.parametrize(("nc", "width"), [(1, 16), (80, 80), (200, 100)])
def test_width_of_the_class_branch(nc: int, width: int):
    assert make_head(nc=nc).cv3[0][-1].in_channels == width


def test_old_style_class_branch_has_full_convolutions():
    keys = make_head(old_style=True, end2end=False).state_dict()
    assert keys["cv3.0.0.conv.weight"].shape == (16, 16, 3, 3)
    assert "cv3.0.0.0.conv.weight" not in keys
