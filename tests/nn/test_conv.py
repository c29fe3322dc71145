"""Convolution blocks and folding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sightline.nn.conv import Conv, DWConv, SiLU, fold_batch_norm


def with_statistics(module: nn.Module) -> nn.Module:
    """Statistics and scales that are not 0 and 1, so that folding has something to do."""
    generator = torch.Generator().manual_seed(0)
    for norm in (each for each in module.modules() if isinstance(each, nn.BatchNorm2d)):
        norm.running_mean.copy_(torch.randn(norm.running_mean.shape, generator=generator))
        norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=generator) + 0.1)
        nn.init.uniform_(norm.weight, -2, 2, generator=generator)
        nn.init.uniform_(norm.bias, -2, 2, generator=generator)
    return module


def test_conv_is_convolution_norm_silu_written_out():
    block = with_statistics(Conv(3, 8, 3, 2)).double().eval()
    x = torch.randn(2, 3, 12, 10, dtype=torch.float64)
    y = F.conv2d(x, block.conv.weight, stride=2, padding=1)
    mean, variance = block.bn.running_mean[:, None, None], block.bn.running_var[:, None, None]
    y = (y - mean) / (variance + 1e-3).sqrt() * block.bn.weight[:, None, None] + block.bn.bias[:, None, None]
    torch.testing.assert_close(block(x), y / (1 + (-y).exp()))


@pytest.mark.parametrize(("kernel", "size"), [(1, 9), (2, 10), (3, 9), (5, 9), (7, 9)])
def test_size_is_kept_at_stride_1_by_odd_kernels(kernel: int, size: int):
    assert Conv(1, 1, kernel)(torch.zeros(1, 1, 9, 9)).shape[2:] == (size, size)


def test_depthwise_groups_are_the_common_divisor():
    assert DWConv(12, 18, 3).conv.groups == 6
    assert DWConv(16, 16, 3).conv.weight.shape == (16, 1, 3, 3)


@pytest.mark.parametrize("activation", [True, False, nn.ReLU()])
@pytest.mark.parametrize("groups", [1, 4])
def test_folding_changes_nothing_but_the_keys(activation: bool | nn.Module, groups: int):
    block = with_statistics(Conv(8, 12, 3, 2, groups=groups, activation=activation)).double().eval()
    x = torch.randn(2, 8, 7, 9, dtype=torch.float64)
    expected = block(x)
    block.fold()
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)
    assert list(block.state_dict()) == ["conv.weight", "conv.bias"]
    weight = block.conv.weight
    block.fold()  # a second time does nothing
    assert block.conv.weight is weight


def test_folding_keeps_a_bias_that_was_there():
    conv, norm = nn.Conv2d(3, 4, 1), with_statistics(nn.BatchNorm2d(4))
    conv, norm = conv.double().eval(), norm.double().eval()
    x = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(fold_batch_norm(conv, norm)(x), norm(conv(x)), rtol=1e-12, atol=1e-12)


def test_silu_writes_into_its_input_only_without_gradients():
    x = torch.randn(4, requires_grad=True)
    y = x * 1.0
    before = y.detach().clone()
    SiLU()(y).sum().backward()
    assert torch.equal(y.detach(), before)
    torch.testing.assert_close(x.grad, torch.autograd.functional.jacobian(F.silu, before).sum(0))
    with torch.no_grad():
        assert torch.equal(SiLU()(y), y)
    torch.testing.assert_close(y.detach(), F.silu(before))


def test_arguments_may_come_by_place():
    layer = Conv(4, 8, 3, 2, 2, 4, 2, False)  # kernel, stride, padding, groups, dilation, activation
    conv = layer.conv
    assert (conv.kernel_size, conv.stride, conv.padding, conv.groups, conv.dilation) == (
        (3, 3),
        (2, 2),
        (2, 2),
        4,
        (2, 2),
    )
    assert isinstance(layer.act, nn.Identity)
    assert DWConv(4, 8, 3, 1, 2, False).conv.groups == 4
