"""Weights of classifiers: names written down from their networks, tensors of the shapes that belong to them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from models.small_rtdetr import HGNET, RESNET
from sightline import YOLO
from sightline.errors import ModelError
from sightline.models.backbone_weights import in_names_of
from sightline.models.build import build_model


def conv(name: str, out: int, inputs: int, kernel: int, norm: str) -> dict[str, torch.Tensor]:
    """A convolution and its BatchNorm as a state dict holds them."""
    of_norm = {each: torch.rand(out) for each in ("weight", "bias", "running_mean", "running_var")}
    return {
        f"{name}.weight": torch.randn(out, inputs, kernel, kernel),
        **{f"{norm}.{each}": value for each, value in of_norm.items()},
        f"{norm}.num_batches_tracked": torch.tensor(9),
    }


def resnet50() -> dict[str, torch.Tensor]:
    """Names and shapes of torchvision's ResNet-50 (v1.5)."""
    return resnet(64, ((64, 3), (128, 4), (256, 6), (512, 3)))


def resnet(stem: int, stages: Sequence[tuple[int, int]]) -> dict[str, torch.Tensor]:
    """As torchvision names it: widths of the stem and of each stage, which has so many blocks."""
    state = conv("conv1", stem, 3, 7, "bn1")
    width_in = stem
    for stage, (width, count) in enumerate(stages, 1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            state |= conv(f"{name}.conv1", width, width_in, 1, f"{name}.bn1")
            state |= conv(f"{name}.conv2", width, width, 3, f"{name}.bn2")
            state |= conv(f"{name}.conv3", 4 * width, width, 1, f"{name}.bn3")
            if block == 0:
                state |= conv(f"{name}.downsample.0", 4 * width, width_in, 1, f"{name}.downsample.1")
            width_in = 4 * width
    return {**state, "fc.weight": torch.randn(1000, width_in), "fc.bias": torch.randn(1000)}


def hgnetv2(stages, stem=(32, 48)) -> dict[str, torch.Tensor]:
    """Names and shapes of timm's HGNetV2; a stage is (in, middle, out, blocks, halved, light, kernel)."""
    middle, out = stem
    state: dict[str, torch.Tensor] = {}
    for name, inputs, outputs, kernel in (
        ("1", 3, middle, 3),
        ("2a", middle, middle // 2, 2),
        ("2b", middle // 2, middle, 2),
        ("3", 2 * middle, middle, 3),
        ("4", middle, out, 1),
    ):
        state |= conv(f"stem.stem{name}.conv", outputs, inputs, kernel, f"stem.stem{name}.bn")
    for stage, (inputs, middle, out, blocks, halved, light, kernel) in enumerate(stages):
        if halved:
            name = f"stages.{stage}.downsample"
            state |= conv(f"{name}.conv", inputs, 1, 3, f"{name}.bn")
        for block in range(blocks):
            width = inputs if block == 0 else out
            for layer in range(6):
                name, given = f"stages.{stage}.blocks.{block}.layers.{layer}", width if layer == 0 else middle
                if light:
                    state |= conv(f"{name}.conv1.conv", middle, given, 1, f"{name}.conv1.bn")
                    state |= conv(f"{name}.conv2.conv", middle, 1, kernel, f"{name}.conv2.bn")
                else:
                    state |= conv(f"{name}.conv", middle, given, kernel, f"{name}.bn")
            name = f"stages.{stage}.blocks.{block}.aggregation"
            state |= conv(f"{name}.0.conv", out // 2, width + 6 * middle, 1, f"{name}.0.bn")
            state |= conv(f"{name}.1.conv", out, out // 2, 1, f"{name}.1.bn")
    return {**state, "head.last_conv.0.weight": torch.randn(2048, out, 1, 1), "head.fc.weight": torch.randn(9, 2048)}


LARGE = [
    (48, 48, 128, 1, False, False, 3),
    (128, 96, 512, 1, True, False, 3),
    (512, 192, 1024, 3, True, True, 5),
    (1024, 384, 2048, 1, True, True, 5),
]
LARGER = [
    (64, 64, 128, 1, False, False, 3),
    (128, 128, 512, 2, True, False, 3),
    (512, 256, 1024, 5, True, True, 5),
    (1024, 512, 2048, 2, True, True, 5),
]


@pytest.fixture
def _no_initial_values(monkeypatch: pytest.MonkeyPatch):
    for kind in (nn.Conv2d, nn.Linear):
        monkeypatch.setattr(kind, "reset_parameters", lambda self: None)


@pytest.mark.usefixtures("_no_initial_values")
@pytest.mark.parametrize(
    ("name", "make", "of_head"),
    [
        ("rtdetr-resnet50", resnet50, 2),
        ("rtdetr-l", lambda: hgnetv2(LARGE), 2),
        ("rtdetr-x", lambda: hgnetv2(LARGER, (32, 64)), 2),
    ],
)
def test_every_tensor_of_the_backbone_has_its_place(name: str, make, of_head: int):
    network, state = build_model(name, nc=2), make()
    renamed = in_names_of(network.model, state)
    assert len(renamed) == len(state) - of_head
    backbone = len(network.yaml["backbone"])
    own = {key: tuple(value.shape) for key, value in network.state_dict().items() if int(key.split(".")[1]) < backbone}
    assert {key: tuple(value.shape) for key, value in renamed.items()} == own


def test_outputs_are_those_of_the_formula():
    """A block of the file, computed by its own names, is the block of the network after loading."""
    network = build_model(RESNET)
    state = {**conv("conv1", 16, 3, 7, "bn1"), **conv("layer1.0.conv1", 8, 16, 1, "layer1.0.bn1")}
    state |= conv("layer1.0.conv2", 8, 8, 3, "layer1.0.bn2") | conv("layer1.0.conv3", 32, 8, 1, "layer1.0.bn3")
    state |= conv("layer1.0.downsample.0", 32, 16, 1, "layer1.0.downsample.1")
    network.load_state_dict(in_names_of(network.model, state), strict=False)
    network.eval()
    x = torch.randn(1, 16, 6, 6)

    def layer(x: torch.Tensor, name: str, norm: str, padding: int = 0) -> torch.Tensor:
        values = [state[f"layer1.0.{norm}.{each}"] for each in ("running_mean", "running_var", "weight", "bias")]
        x = nn.functional.conv2d(x, state[f"layer1.0.{name}.weight"], padding=padding)
        return nn.functional.batch_norm(x, *values, eps=1e-3)

    silu = nn.functional.silu
    y = silu(layer(silu(layer(x, "conv1", "bn1")), "conv2", "bn2", 1))
    expected = torch.relu(layer(y, "conv3", "bn3") + layer(x, "downsample.0", "downsample.1"))
    torch.testing.assert_close(network.model[1](x), expected, rtol=1e-4, atol=1e-4)


def test_load_takes_such_a_file(tmp_path: Path, capsys: pytest.CaptureFixture):
    """With the prefix of a wrapper, inside of a checkpoint."""
    state = {**conv("conv1", 16, 3, 7, "bn1"), **conv("layer1.0.conv1", 8, 16, 1, "layer1.0.bn1")}
    state |= {"layer1.0.conv2.weight": torch.randn(4, 4, 3, 3), "fc.weight": torch.randn(9, 64)}
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "resnet.pth")
    model = YOLO(build_model(RESNET))
    model.load(tmp_path / "resnet.pth")
    own = model.model.state_dict()
    assert torch.equal(own["model.0.layer.0.conv.weight"], state["conv1.weight"])
    assert torch.equal(own["model.1.layer.0.cv1.bn.running_var"], state["layer1.0.bn1.running_var"])
    said = capsys.readouterr().out
    assert "weights of a classifier: 13 of its 14 tensors belong to the backbone" in said
    assert "transferred 12/" in said  # not the one of another shape


def test_factors_without_a_place_are_refused():
    state = {**hgnetv2([(16, 16, 64, 1, False, False, 3)], (8, 16)), "stem.stem1.lab.scale": torch.ones(1)}
    with pytest.raises(ModelError, match=r"stem\.stem1\.lab\.scale.*hgnetv2_b4"):
        in_names_of(build_model(HGNET).model, state)


def test_others_are_left_alone():
    resnet, hgnet = build_model(RESNET), build_model(HGNET)
    assert in_names_of(hgnet.model, resnet50()) is None
    assert in_names_of(resnet.model, resnet.state_dict()) is None
    with pytest.raises(ModelError, match="No tensor"):
        YOLO(copy.deepcopy(hgnet)).load(resnet50())
