"""Rows of a description: both layouts mean the same network, and a bad row is named."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch

from sightline.errors import ModelError
from sightline.models.build import build_model
from sightline.models.find import ZOO, read_description
from sightline.models.layers import LAYERS, Scale, sized
from sightline.models.spec import read_spec

# What a user of the reference writes.
ROWS: dict[str, Any] = {
    "nc": 4,
    "scales": {"n": [0.5, 0.25, 1024], "l": [1.0, 1.0, 512]},
    "backbone": [
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 3, "C2f", [128, True]],
        [-1, 1, "Conv", [256, 3, 2]],
        [-1, 1, "SPPF", [256, 5]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 1], 1, "Concat", [1]],
        [-1, 3, "C3k2", [128, False, 0.25]],
        [[6, 3], 1, "Detect", ["nc"]],
    ],
}
# The same in our layout.
NAMED: dict[str, Any] = {
    "nc": 4,
    "scales": {
        "n": {"depth": 0.5, "width": 0.25, "max_channels": 1024},
        "l": {"depth": 1.0, "width": 1.0, "max_channels": 512},
    },
    "backbone": [
        {"block": "Conv", "channels": 64, "kernel": 3, "stride": 2},
        {"block": "C2f", "channels": 128, "repeats": 3, "shortcut": True, "name": "fine"},
        {"block": "Conv", "channels": 256, "kernel": 3, "stride": 2},
        {"block": "SPPF", "channels": 256, "kernel": 5, "name": "coarse"},
    ],
    "head": [
        {"block": "Upsample"},
        {"block": "Concat", "from": ["prev", "fine"]},
        {"block": "C3k2", "channels": 128, "repeats": 3, "c3k": False, "expansion": 0.25, "name": "joined"},
        {"block": "Detect", "from": ["joined", "coarse"]},
    ],
}


def changed(section: str, number: int, row: Any) -> dict[str, Any]:
    data = copy.deepcopy(ROWS)
    data[section][number - 1] = row
    return data


def outputs(model: torch.nn.Module) -> torch.Tensor:
    return model.eval()(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))[0]


def test_both_layouts_build_the_same_network():
    torch.manual_seed(0)
    rows = build_model(ROWS, scale="n")
    torch.manual_seed(0)
    named = build_model(NAMED, scale="n")
    assert list(rows.state_dict()) == list(named.state_dict())
    torch.testing.assert_close(outputs(rows), outputs(named))
    assert rows.stride.tolist() == [2, 4]


def test_the_head_uses_bins_and_one_branch_unless_told():
    head = build_model(ROWS, scale="n").model[-1]
    assert (head.reg_max, head.has_one2one, head.nc) == (16, False, 4)


@pytest.mark.parametrize("data", [ROWS, NAMED], ids=["rows", "named"])
@pytest.mark.parametrize("scale", ["n", "l"])
def test_what_is_stored_reads_back_as_the_same_network(data: dict, scale: str):
    spec = read_spec(data, file="mine.yaml", scale=scale)
    again = read_spec(spec.to_dict())
    assert again.to_dict() == spec.to_dict()
    assert again.scale == spec.scale
    assert [layer.row() for layer in again.layers] == [layer.row() for layer in spec.layers]


def test_the_stored_rows_are_those_of_the_reference():
    stored = read_spec(NAMED, scale="n").to_dict()
    assert stored["backbone"] == ROWS["backbone"]
    assert stored["head"] == ROWS["head"]
    assert stored["scales"] == ROWS["scales"]


def test_the_built_in_description_is_stored_as_published_files_hold_it():
    stored = read_spec(read_description(ZOO / "yolo26.yaml"), name="yolo26n.yaml", scale="n").to_dict()
    assert stored["backbone"][8:] == [
        [-1, 2, "C3k2", [1024, True]],
        [-1, 1, "SPPF", [1024, 5, 3, True]],
        [-1, 2, "C2PSA", [1024]],
    ]
    assert stored["head"][:3] == [
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 6], 1, "Concat", [1]],
        [-1, 2, "C3k2", [512, True]],
    ]
    assert stored["head"][-2:] == [[-1, 1, "C3k2", [1024, True, 0.5, True]], [[16, 19, 22], 1, "Detect", ["nc"]]]
    del stored["backbone"], stored["head"]
    sizes = {
        "n": [0.5, 0.25, 1024],
        "s": [0.5, 0.5, 1024],
        "m": [0.5, 1.0, 512],
        "l": [1.0, 1.0, 512],
        "x": [1.0, 1.5, 512],
    }
    flags = {"nc": 80, "end2end": True, "reg_max": 1, "channels": 3}
    assert stored == {**flags, "scales": sizes, "scale": "n", "yaml_file": "yolo26n.yaml"}


def test_arguments_without_a_place_in_the_row_are_stored_by_name():
    row = {"block": "SPPF", "channels": 256, "kernel": 5, "pools": 3, "activation": True}
    spec = read_spec(changed("backbone", 4, row), scale="n")
    assert spec.layers[3].row() == [-1, 1, "SPPF", [256, 5, 3, {"activation": True}]]
    assert isinstance(build_model(spec.to_dict()).model[3].cv1.act, torch.nn.SiLU)
    gap = read_spec(changed("backbone", 3, {"block": "Conv", "channels": 256, "stride": 2}), scale="n")
    assert gap.layers[2].row() == [-1, 1, "Conv", [256, "None", 2]]
    assert build_model(gap.to_dict()).model[2].conv.stride == (2, 2)


@pytest.mark.parametrize(("values", "act"), [([256, 5], torch.nn.SiLU), ([256, 5, 3], torch.nn.Identity)])
def test_a_pool_count_takes_the_activation_of_sppf(values: list, act: type):
    assert isinstance(build_model(changed("backbone", 4, [-1, 1, "SPPF", values]), scale="n").model[3].cv1.act, act)


def test_scaling():
    nano = Scale("n", 0.5, 0.25, 1024)
    assert [nano.channels(each) for each in (64, 100, 2048)] == [16, 32, 256]
    assert [nano.repeats(each) for each in (1, 2, 3, 6)] == [1, 1, 2, 3]  # 1.5 goes to the even side
    model = build_model(ROWS, scale="n")
    assert len(model.model[1].m) == 2
    assert model.model[6].hidden == 8  # a quarter of the scaled 32


def test_the_larger_sizes_use_c3k_whatever_the_row_says():
    from sightline.nn.csp import C3k

    assert isinstance(build_model(ROWS, scale="l").model[6].m[0], C3k)
    assert not isinstance(build_model(ROWS, scale="n").model[6].m[0], C3k)


def test_class_branch_is_old_style_without_the_newer_blocks():
    old = changed("head", 3, [-1, 3, "C2f", [128]])
    assert build_model(old, scale="n").model[-1].old_style
    assert not build_model(ROWS, scale="n").model[-1].old_style


def test_repeated_layer_without_an_inner_count_is_a_row_of_layers():
    model = build_model(changed("backbone", 4, [-1, 4, "Bottleneck", [128]]), scale="n")
    assert [each.cv1.conv.in_channels for each in model.model[3]] == [64, 32]  # 4 · 0.5 of them
    assert model.model[3].type == "Bottleneck"


def test_layers_of_torch():
    model = build_model(changed("backbone", 3, [-1, 1, "nn.MaxPool2d", [3, 2, 1]]), scale="n")
    assert isinstance(model.model[2], torch.nn.MaxPool2d)
    assert model.stride.tolist() == [2, 4]
    named = {"block": "nn.Conv2d", "in_channels": 32, "out_channels": 40, "kernel_size": 3, "stride": 2, "padding": 1}
    assert build_model(changed("backbone", 3, named), scale="n").model[3].cv1.conv.in_channels == 40


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("nn.ReLU()", torch.nn.ReLU),
        ("LeakyReLU", torch.nn.LeakyReLU),
        ("nn.ReLU6()", torch.nn.ReLU6),
        ("nn.Identity()", torch.nn.Identity),
        ("torch.nn.GELU('tanh')", torch.nn.GELU),
    ],
)
def test_another_activation_everywhere(text: str, kind: type):
    data = {**ROWS, "activation": text}
    model = build_model(data, scale="n")
    found = {type(module.act) for module in model.modules() if hasattr(module, "act")}
    assert found == {kind}
    assert isinstance(build_model(model.yaml).model[0].act, kind)


@pytest.mark.parametrize("text", ["torch.nn.LeakyReLU(0.3)", "nn.LeakyReLU(negative_slope=0.3)"])
def test_arguments_of_an_activation(text: str):
    model = build_model({**ROWS, "activation": text}, scale="n")
    assert model.model[0].act.negative_slope == 0.3
    assert build_model(model.yaml).model[0].act.negative_slope == 0.3


@pytest.mark.parametrize(
    "text",
    [
        *("nn.Conv2d(1, 2, 3)", "nn.Linear(1, 2)", "nn.Nothing()", "nn.modules.ReLU()", "ReLU()()", "nn.ReLU("),
        *("nn.LeakyReLU(print(1))", "nn.LeakyReLU(x=1)", "nn.LeakyReLU(*[1])", "nn.LeakyReLU(**{})", "(" * 90),
        "nn.ReLU(" + " " * 100 + ")",
    ],
)
def test_what_is_no_activation(text: str, capsys: pytest.CaptureFixture):
    with pytest.raises(ModelError, match=r"activation is .*LeakyReLU\(0\.1\)"):
        build_model({**ROWS, "activation": text}, scale="n")
    assert capsys.readouterr().out == ""


def test_multiples_of_old_files_and_no_scales_at_all():
    data = {key: value for key, value in ROWS.items() if key != "scales"}
    assert build_model(data).model[0].conv.out_channels == 64
    halved = {**data, "width_multiple": 0.5, "depth_multiple": 0.34}
    model = build_model(halved)
    assert model.model[0].conv.out_channels == 32
    assert len(model.model[1].m) == 1
    assert build_model(model.yaml).model[0].conv.out_channels == 32  # and still after a round trip


def test_no_size_takes_the_first_and_says_so(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "sightline"):
        assert build_model(ROWS).yaml["scale"] == "n"
    assert "built as 'n'" in caplog.text


def test_unknown_keys_are_named(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "sightline"):
        build_model({**ROWS, "end_to_end": True}, scale="n")
    assert "end_to_end has no effect" in caplog.text


def test_a_layer_of_the_users_own(monkeypatch: pytest.MonkeyPatch):
    class Shift(torch.nn.Module):
        def __init__(self, in_channels: int, out_channels: int, *, by: int = 1):
            super().__init__()
            self.by = by

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.roll(self.by, 1)

    monkeypatch.setitem(LAYERS, "Shift", sized(Shift, "by"))
    model = build_model(changed("backbone", 4, [-1, 1, "Shift", [256, 2]]), scale="n")
    assert model.model[3].by == 2
    assert build_model(changed("backbone", 4, {"block": "Shift", "channels": 256, "by": 3}), scale="n").model[3].by == 3


def test_a_layer_that_must_see_an_image_to_know_a_shape(monkeypatch: pytest.MonkeyPatch):
    class Gate(torch.nn.Module):
        def __init__(self, in_channels: int, out_channels: int):
            super().__init__()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(x.shape[0], x.shape[1], -1).max(-1)[0][..., None, None] * x

    monkeypatch.setitem(LAYERS, "Gate", sized(Gate))
    assert build_model(changed("backbone", 4, [-1, 1, "Gate", [256]]), scale="n").stride.tolist() == [2, 4]


def test_strides_take_no_memory_for_maps():
    """A map of 2,560,000 pixels a side."""
    large = changed("backbone", 4, [-1, 1, "nn.Upsample", ["None", 160_000]])
    with pytest.raises(ModelError, match=r"cannot take maps of shape .* pixels on one side"):
        build_model(large, scale="n")


def row(section: str, number: int, *words: str, bad: Any) -> tuple[Any, list[str]]:
    """A description with one bad row, and the words of its message."""
    return changed(section, number, bad), [f"{section} row {number} ", *words]


BAD: dict[str, tuple[Any, list[str]]] = {
    "unknown block": row("backbone", 2, "(layer 1)", "'C2ff'", "Did you mean C2f", bad=[-1, 3, "C2ff", [128]]),
    "block of a later issue": row("backbone", 2, "not in sightline yet", "YOLOv10", bad=[-1, 3, "SCDown", [128]]),
    "no torch class": row("backbone", 2, "unknown block 'nn.functional'", bad=[-1, 1, "nn.functional", []]),
    "short row": row("head", 3, "(layer 6)", "from, repeats, block, arguments", bad=[-1, 3, "C3k2"]),
    "text for a row": row("head", 3, "'C3k2'", bad="C3k2"),
    "later layer": row("head", 2, "(layer 5)", "from is 7", "0 to 4", bad=[[-1, 7], 1, "Concat", [1]]),
    "too far back": row("head", 1, "from is -9", bad=[-9, 1, "nn.Upsample", ["None", 2]]),
    "from nothing": row("head", 1, "from is None", bad=[None, 1, "nn.Upsample", ["None", 2]]),
    "unknown name": row("head", 2, "'fime'", bad={"block": "Concat", "from": ["prev", "fime"]}),
    "two inputs": row("head", 3, "Concat first", bad=[[-1, 2], 1, "C3k2", [128]]),
    "repeats": row("backbone", 2, "repeated 0 times", bad=[-1, 0, "C2f", [128]]),
    "channels a text": row("backbone", 1, "channels '64'", bad=[-1, 1, "Conv", ["64", 3, 2]]),
    "no channels": row("backbone", 1, "channels None", bad={"block": "Conv", "kernel": 3}),
    "too many arguments": row("backbone", 2, "at most 4", "groups", bad=[-1, 3, "C2f", [128, True, 1, 0.5, 9]]),
    "unknown argument": row("backbone", 1, "'kernle'", "kernel", bad={"block": "Conv", "channels": 64, "kernle": 3}),
    "kernel a text": row("backbone", 1, "cannot be made", "three", bad=[-1, 1, "Conv", [64, "three"]]),
    "attention changes width": row("backbone", 4, "keeps its width", bad=[-1, 1, "C2PSA", [512]]),
    "maps of two sizes": row("head", 2, "(layer 5)", "cannot take maps of shape", bad=[[-1, 3], 1, "Concat", [1]]),
    "no head at the end": ({**ROWS, "head": ROWS["head"][:3]}, ["head row 3 ", "must be a head"]),
    "a head in between": row("backbone", 2, "must be the last row", bad=[[-1, 0], 1, "Detect", ["nc"]]),
    "too many rows": ({**ROWS, "backbone": [[-1, 1, "Conv", [64]]] * 1001}, ["1001 rows under backbone"]),
    "a block that is a list": row("backbone", 1, "unknown block ['Conv']", bad=[-1, 1, ["Conv"], [64]]),
    "an argument that is a number": row("backbone", 1, "takes no 1", bad=[-1, 1, "Conv", [64, {1: 2}]]),
    "a size that is a list": ({**ROWS, "scale": ["n"]}, ["no size ['n']"]),
    "endless width": ({**ROWS, "scales": {"n": [1, float("inf"), float("inf")]}}, ["cannot be made", "infinity"]),
    "an assertion of torch": row("backbone", 1, "cannot be made", bad=[-1, 1, "nn.MultiheadAttention", [5, 2]]),
    "no maps": (changed("head", 3, [-1, 1, "nn.Flatten", []]), ["head row 4 ", "takes maps"]),
    "another class count": row("head", 4, "3 classes", "nc is 4", bad=[[6, 3], 1, "Detect", [3]]),
    "no rows": ({**ROWS, "head": []}, ["no rows under head"]),
    "a list": ([1, 2], ["holds a list"]),
    "nc 0": ({**ROWS, "nc": 0}, ["nc is 0"]),
    "end2end a number": ({**ROWS, "end2end": 3}, ["end2end is 3"]),
    "unknown size": ({**ROWS, "scale": "q"}, ["no size 'q'", "n, l"]),
    "bad size": ({**ROWS, "scales": {"n": [0.5, 0.25]}}, ["scale n", "depth, width and max_channels"]),
    "bad activation": ({**ROWS, "activation": "os.system('x')"}, ["activation", "SiLU, ReLU"]),
    "same name twice": (
        {**NAMED, "backbone": [*NAMED["backbone"][:3], {**NAMED["backbone"][3], "name": "fine"}]},
        ["backbone row 4 ", "'fine'", "layer 1"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_description_is_explained(case: str):
    data, words = BAD[case]
    scale = None if "size" in case else "n"
    with pytest.raises(ModelError) as caught:
        build_model(read_spec(data, file="mine.yaml", scale=scale))
    assert "mine.yaml" in str(caught.value)
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.yaml")), ids=lambda path: path.stem)
def test_built_in_descriptions_number_their_rows_right(path):
    """The comments beside the rows count the layers; a row put in between must not leave them wrong."""
    numbers = [int(line.rsplit("# ", 1)[1].split()[0]) for line in path.read_text().splitlines() if "{block:" in line]
    assert numbers == list(range(len(numbers)))
    assert len(read_spec(read_description(path), file=path.name).layers) == len(numbers)


POSE_ROWS = {**ROWS, "head": [*ROWS["head"][:-1], [[6, 3], 1, "Pose", ["nc", "kpt_shape"]]], "kpt_shape": [5, 3]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kpt_shape": None}, ["Pose needs kpt_shape", "head row 4"]),
        ({"kpt_shape": [5, 4]}, ["kpt_shape is [5, 4]", "[K, 2]", "[K, 3]"]),
        ({"kpt_shape": 17}, ["kpt_shape is 17"]),
        ({"kpt_shape": [0, 3]}, ["kpt_shape is [0, 3]"]),
        ({"head": [*ROWS["head"][:-1], [[6, 3], 1, "Pose", ["nc", [17, 3]]]]}, ["kpt_shape [17, 3]", "[5, 3]"]),
    ],
)
def test_keypoints_of_a_description(change: dict, words: list[str]):
    with pytest.raises(ModelError) as caught:
        build_model(read_spec({**POSE_ROWS, **change}, file="mine.yaml", scale="n"))
    for word in ["mine.yaml", *words]:
        assert word in str(caught.value), str(caught.value)


def test_keypoints_stand_in_the_head_or_in_the_description():
    for said in ([], ["nc"], ["nc", "kpt_shape"], ["nc", [5, 3]]):
        head = [*ROWS["head"][:-1], [[6, 3], 1, "Pose", said]]
        network = build_model(read_spec({**POSE_ROWS, "head": head}, file="mine.yaml", scale="n"))
        assert network.kpt_shape == (5, 3)
        assert network.yaml["kpt_shape"] == [5, 3]
        assert build_model(network.yaml).kpt_shape == (5, 3)
        assert build_model(network.yaml, kpt_shape=[7, 2]).yaml["kpt_shape"] == [7, 2]
