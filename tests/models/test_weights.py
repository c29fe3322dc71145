"""What is taken over from other weights, and what is not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from golden.fill import fill
from sightline.errors import CheckpointError, ModelError
from sightline.models.build import build_from_state, build_model
from sightline.models.weights import is_placeholder, transfer

SOURCE_NAMES = ["person", "Car ", "dog", "tree", "ship"]


def small(name: str = "yolo26n", **options) -> nn.Module:
    torch.manual_seed(7)
    return build_model(name, **options)


def source(name: str = "yolo26n", **options) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    model = small(name, **options)
    model.load_state_dict({key: fill(key, value) for key, value in model.state_dict().items()})
    return model, {key: value.clone() for key, value in model.state_dict().items()}


def class_convs(model: nn.Module) -> list[nn.Conv2d]:
    return [levels[-1] for branch in (model.head.cv3, model.head.one2one_cv3) for levels in branch]


def test_the_same_network_takes_everything_and_the_names():
    _, state = source(nc=3)
    target = small(nc=3)
    report = transfer(target, state, source_names={0: "a", 1: "b", 2: "c"})
    assert report.transferred == report.total == len(state)
    assert all(torch.equal(value, state[key]) for key, value in target.state_dict().items())
    assert target.names == {0: "a", 1: "b", 2: "c"}
    assert report.summary() == f"transferred {len(state)}/{len(state)} tensors"


def test_names_of_the_target_stay():
    _, state = source(nc=2)
    target = small(names=["x", "y"])
    transfer(target, state, source_names=["a", "b"], cls_remap=False)
    assert target.names == {0: "x", 1: "y"}


def test_half_precision_weights_become_float32():
    _, state = source(nc=3)
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    target = small(nc=3)
    transfer(target, half)
    assert target.model[0].conv.weight.dtype == torch.float32
    torch.testing.assert_close(target.model[0].conv.weight, half["model.0.conv.weight"].float())


def test_another_class_count_keeps_the_inner_width_of_the_source():
    _, state = source(nc=80)  # inner width 80, a fresh network of 3 classes has 64
    target = small(nc=3)
    assert target.head.cv3[0][-1].in_channels == 64
    report = transfer(target, state)
    assert report.class_width == 80
    assert {conv.in_channels for conv in class_convs(target)} == {80}
    missing = {key for key in state if ".2." in key and "cv3" in key and key.count(".") == 5}
    assert len(missing) == 2 * 3 * 2
    assert set(report.missing) == missing
    assert report.transferred + len(report.missing) == report.total == len(state)
    assert torch.equal(target.head.cv3[1][0][0].conv.weight, state["model.23.cv3.1.0.0.conv.weight"])
    for conv, stride in zip(class_convs(target), [8, 16, 32] * 2, strict=True):
        assert conv.bias.tolist() == pytest.approx([math.log(5 / 3 / (640 / stride) ** 2)] * 3)
    assert target.train()(torch.rand(1, 3, 64, 64))["one2one"]["scores"].shape == (1, 3, 84)


def test_a_narrower_source_is_adopted_too():
    _, state = source(nc=3)
    target = small(nc=80)
    assert transfer(target, state).class_width == 64


def test_heads_of_another_size_are_not_adopted():
    _, state = source("yolo26n", nc=80)
    target = small("yolo26s", nc=3)
    report = transfer(target, state)
    assert report.class_width is None
    assert target.head.cv3[0][-1].in_channels == 128


def test_class_rows_follow_their_names():
    _, state = source(names=SOURCE_NAMES)
    target = small(names=["boat", "CAR", "person"])
    fresh = [conv.weight.detach().clone() for conv in class_convs(target)]
    report = transfer(target, state, source_names=SOURCE_NAMES)
    assert report.remapped_rows == {"CAR": 1, "person": 0}
    assert not report.missing
    assert "class rows taken by name: CAR, person" in report.summary()
    keys = [f"model.23.{branch}.{level}.2" for branch in ("cv3", "one2one_cv3") for level in range(3)]
    for conv, key, before, stride in zip(class_convs(target), keys, fresh, [8, 16, 32] * 2, strict=True):
        assert torch.equal(conv.weight[1], state[f"{key}.weight"][1])
        assert torch.equal(conv.weight[2], state[f"{key}.weight"][0])
        assert torch.equal(conv.weight[0], before[0])  # no such class before
        assert torch.equal(conv.bias[1:], state[f"{key}.bias"][[1, 0]])
        assert float(conv.bias.detach()[0]) == pytest.approx(math.log(5 / 3 / (640 / stride) ** 2))


def test_class_rows_follow_their_names_through_another_width():
    names = [f"class {index}" for index in range(80)]
    _, state = source(names=names)
    target = small(names=["class 79", "new"])
    report = transfer(target, state, source_names=names)
    assert report.class_width == 80
    assert report.remapped_rows == {"class 79": 79}
    assert torch.equal(target.head.cv3[2][-1].weight[0], state["model.23.cv3.2.2.weight"][79])


@pytest.mark.parametrize(
    ("names", "target_names", "options"),
    [
        (SOURCE_NAMES, ["dog", "Car", "person", "tree", "ship"], {"cls_remap": False}),
        (None, ["dog", "Car", "person", "tree", "ship"], {}),  # nobody knows
        (["0", "1", "2", "3", "4"], ["4", "3", "2", "1", "dog"], {}),  # names that are numbers mean nothing
        (SOURCE_NAMES, ["0", "1", "2", "3", "4"], {}),
        (SOURCE_NAMES, ["a", "b", "c", "d", "e"], {}),  # no name in common
        (SOURCE_NAMES, [name.upper() for name in SOURCE_NAMES], {}),  # agree already
    ],
)
def test_without_names_that_tell_rows_keep_their_place(names, target_names, options):
    _, state = source(nc=5)
    target = small(names=target_names)
    report = transfer(target, state, source_names=names, **options)
    assert not report.remapped_rows
    assert all(torch.equal(value, state[key]) for key, value in target.state_dict().items())


def test_another_size_takes_what_has_the_same_shape():
    _, state = source("yolo26n", nc=3)
    target = small("yolo26s", nc=3)
    fresh = {key: value.clone() for key, value in target.state_dict().items()}
    report = transfer(target, state)
    for key, value in target.state_dict().items():
        if key == "model.0.conv.weight":
            continue
        same = state[key].shape == value.shape
        assert torch.equal(value, state[key] if same else fresh[key]), key
    assert 0 < report.transferred < report.total
    assert torch.equal(target.model[0].conv.weight[:16], state["model.0.conv.weight"])  # the filters that overlap
    assert torch.equal(target.model[0].conv.weight[16:], fresh["model.0.conv.weight"][16:])
    assert "16 filters on 3 of 3 input channels" in report.first_conv


def test_grey_images_take_the_sum_of_the_colours():
    _, state = source(nc=3)
    target = small(nc=3, ch=1)
    report = transfer(target, state)
    expected = state["model.0.conv.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(target.model[0].conv.weight.detach(), expected)
    assert report.missing == ["model.0.conv.weight"]
    assert "3 input channels summed" in report.summary()


def test_more_channels_take_the_first_three():
    _, state = source(nc=3)
    target = small(nc=3, ch=4)
    fresh = target.model[0].conv.weight.detach().clone()
    transfer(target, state)
    assert torch.equal(target.model[0].conv.weight[:, :3], state["model.0.conv.weight"])
    assert torch.equal(target.model[0].conv.weight[:, 3:], fresh[:, 3:])


def test_nothing_in_common_transfers_nothing():
    target = small(nc=3)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    report = transfer(target, {"backbone.stem.weight": torch.zeros(3)})
    assert report.transferred == 0
    assert report.unused == ["backbone.stem.weight"]
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_a_user_of_the_network_loads_by_method():
    model, state = source(names=["a", "b"])
    target = small(nc=2)
    assert target.load(model).transferred == len(state)
    assert target.names == {0: "a", 1: "b"}
    assert small(nc=2).load(state).transferred == len(state)


@pytest.mark.parametrize(("names", "expected"), [({0: "0", 1: "1"}, True), (["0", "2"], False), (["a"], False)])
def test_placeholder_names(names, expected: bool):
    assert is_placeholder(names) is expected


# ------------------------------------------------------------------ rebuilding from a checkpoint


def test_a_network_is_rebuilt_with_the_width_its_tensors_have():
    """Fine-tuned on 3 classes from 80: a fresh network of 3 classes would have other class branches."""
    tuned = small(names=["a", "b", "c"])
    transfer(tuned, source(nc=80)[1])
    state = tuned.state_dict()
    again = build_from_state(tuned.yaml, names=tuned.names, state=state)
    assert not again.training
    assert again.names == {0: "a", 1: "b", 2: "c"}
    assert again.nc == again.yaml["nc"] == 3
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(again(image)[0], tuned.eval()(image)[0])


def test_the_class_count_comes_from_the_tensors():
    model, state = source(nc=6)
    assert build_from_state({**model.yaml, "nc": 80}, nc=None, state=state).nc == 6


@pytest.mark.parametrize("end2end", [False, True])
def test_a_folded_network_is_rebuilt_folded(end2end: bool):
    model, _ = source(nc=3)
    model.eval().use_end2end(end2end)
    model.fuse()
    again = build_from_state(model.yaml, state=model.state_dict())
    assert again.is_fused()
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(again(image)[0], model(image)[0])


def test_errors_name_the_file_and_stay_short():
    model, state = source(nc=3)
    with pytest.raises(ModelError, match=r"^runs/best\.pt: 1 class names were given for nc=3 classes"):
        build_from_state(model.yaml, names={0: "a"}, state=state, file="runs/best.pt")
    bad = {**model.yaml, "backbone": [[-1, 1, "Con\nv" * 1000, [64]]]}
    with pytest.raises(ModelError, match=r"^best\.pt: yolo26n\.yaml: backbone row 1 ") as caught:
        build_from_state(bad, state=state, file="best.pt")
    assert len(str(caught.value)) < 520
    with pytest.raises(CheckpointError, match=r"^best\.pt: The weights do not fit yolo26n\.yaml"):
        build_from_state(model.yaml, state={**state, "model.0.bn.bias": torch.zeros(3)}, file="best.pt")


@pytest.mark.parametrize("nc", [None, 10**8])
def test_a_description_cannot_build_much_more_than_its_tensors_fill(nc: int | None):
    model, state = source(nc=3)
    del state["model.23.cv3.0.2.bias"], state["model.23.one2one_cv3.0.2.bias"]  # so that they do not tell nc
    wide = {"scales": {"n": [0.5, 50.0, 1024]}} if nc is None else {}
    with pytest.raises(ModelError, match=r"(Conv|Detect) cannot be made .* far larger than the weights"):
        build_from_state({**model.yaml, **wide}, nc=nc, state=state)


def test_weights_of_another_network_are_an_error_that_counts():
    _, state = source("yolo26n", nc=3)
    with pytest.raises(
        CheckpointError, match=r"do not fit yolo26s\.yaml.* of another shape; model\.0\.conv\.weight is \(16"
    ):
        build_from_state(small("yolo26s", nc=3).yaml, state=state)
    state.pop("model.0.bn.bias")
    with pytest.raises(CheckpointError, match=r"1 tensors are missing.*model\.0\.bn\.bias is missing"):
        build_from_state(small(nc=3).yaml, state=state)
