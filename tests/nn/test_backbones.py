"""Blocks of HGNet, ResNet and the fused convolutions: shapes, data flow, folding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.models.fuse import fuse, is_fused
from sightline.nn.hgnet import HGBlock, HGStem, LightConv
from sightline.nn.reparameterised import RepC3, RepConv
from sightline.nn.resnet import ResNetLayer


def lively(block: nn.Module) -> nn.Module:
    """In eval mode and float64, with norms that do something."""
    torch.manual_seed(0)
    for norm in (each for each in block.modules() if isinstance(each, nn.BatchNorm2d)):
        nn.init.normal_(norm.weight, 1, 0.2)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return block.double().eval()


@pytest.mark.parametrize("block", [RepConv(4, 6), RepC3(4, 6, repeats=2), RepC3(4, 6, repeats=1, expansion=0.5)])
def test_folded_convolutions_give_the_same(block: nn.Module):
    lively(block)
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        expected = block(x)
        assert not is_fused(block)
        fuse(block)
        torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)
    assert is_fused(block)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in block.modules())
    fuse(block)  # twice changes nothing


def test_folded_names_are_those_of_published_weights():
    folded = fuse(RepConv(4, 6))
    assert set(folded.state_dict()) == {"conv.weight", "conv.bias"}


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize(("width", "shortcut", "added"), [(12, True, True), (12, False, False), (8, True, False)])
def test_hg_block_joins_every_link(light: bool, width: int, shortcut: bool, added: bool):
    block = lively(HGBlock(width, 6, 12, 3, repeats=3, light=light, shortcut=shortcut))
    x = torch.randn(1, width, 5, 5, dtype=torch.float64)
    links = [x]
    for link in block.m:
        assert isinstance(link, LightConv) == light
        links.append(link(links[-1]))
    y = block.ec(block.sc(torch.cat(links, 1)))
    torch.testing.assert_close(block(x), y + x if added else y)
    assert (y >= 0).all()


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_stems_quarter_the_image(size: tuple[int, int]):
    image = torch.randn(1, 3, *size)
    for stem in (HGStem(3, 8, 12), ResNetLayer(3, 12, first=True)):
        assert stem(image).shape == (1, 12, size[0] // 4, size[1] // 4)
        assert stem.out_channels == 12


def test_resnet_stage():
    stage = lively(ResNetLayer(16, 8, stride=2, count=3))
    assert stage.out_channels == 32
    x = torch.randn(1, 16, 8, 8, dtype=torch.float64)
    assert stage(x).shape == (1, 32, 4, 4)
    second = stage.layer[1]
    assert isinstance(second.shortcut, nn.Identity)
    y = stage.layer[0](x)
    torch.testing.assert_close(second(y), torch.relu(second.cv3(second.cv2(second.cv1(y))) + y))
    assert isinstance(second.cv1.act, nn.SiLU)  # published weights are trained with it, unlike the ResNet of the paper
