"""Cross-stage-partial blocks against their data flow written out."""

from __future__ import annotations

import pytest
import torch

from sightline.nn.attention import PSABlock
from sightline.nn.csp import C3, Bottleneck, C2f, C3k, C3k2
from sightline.nn.pooling import SPPF
from sightline.nn.routing import Concat, join_channels

X = torch.randn(2, 16, 6, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("shortcut", "out", "added"), [(True, 16, True), (False, 16, False), (True, 24, False)])
def test_bottleneck_adds_its_input_when_asked_and_possible(shortcut: bool, out: int, added: bool):
    block = Bottleneck(16, out, shortcut=shortcut).eval()
    inner = block.cv2(block.cv1(X))
    torch.testing.assert_close(block(X), X + inner if added else inner)
    assert block.cv1.conv.weight.shape == (out // 2, 16, 3, 3)


@pytest.mark.parametrize(
    "block", [C2f(16, 32, repeats=3, shortcut=True), C3k2(16, 32, repeats=2, c3k=True), C3k2(16, 32, repeats=2)]
)
def test_every_link_of_the_chain_reaches_the_output(block: C2f | C3k2):
    block.eval()
    links = list(block.cv1(X).chunk(2, 1))
    for link in block.m:
        links.append(link(links[-1]))
    torch.testing.assert_close(block(X), block.cv2(torch.cat(links, 1)))


def test_kind_of_link_of_c3k2():
    assert isinstance(C3k2(16, 32, c3k=True).m[0], C3k)
    assert isinstance(C3k2(16, 32).m[0], Bottleneck)
    both = C3k2(16, 32, c3k=True, attention=True).m[0]  # attention wins
    assert isinstance(both[0], Bottleneck)
    assert isinstance(both[1], PSABlock)
    assert C3k2(16, 30, expansion=0.25).hidden == 7  # cut off, not rounded to 8


@pytest.mark.parametrize(("kind", "first_kernel"), [(C3, 1), (C3k, 3)])
def test_c3_joins_two_paths(kind: type[C3], first_kernel: int):
    block = kind(16, 24, repeats=2).eval()
    assert block.m[0].cv1.conv.kernel_size == (first_kernel, first_kernel)
    torch.testing.assert_close(block(X), block.cv3(torch.cat([block.m(block.cv1(X)), block.cv2(X)], 1)))


@pytest.mark.parametrize(("shortcut", "activation"), [(True, False), (False, True)])
def test_sppf_pools_its_own_output(shortcut: bool, activation: bool):
    block = SPPF(16, 16, kernel=3, pools=2, shortcut=shortcut, activation=activation).eval()
    first = block.cv1(X)
    assert (first.min() < -0.3) == (not activation)  # SiLU never goes below −0.28
    wide = torch.nn.functional.max_pool2d(first, 5, 1, 2)  # two 3×3 pools see what one 5×5 pool sees
    expected = block.cv2(torch.cat([first, torch.nn.functional.max_pool2d(first, 3, 1, 1), wide], 1))
    torch.testing.assert_close(block(X), X + expected if shortcut else expected)


def test_concat_keeps_the_order():
    assert torch.equal(Concat()([X, 2 * X])[:, 16:], 2 * X)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_joined_maps_have_the_gradients_of_cat_and_dense_ones(memory_format: torch.memory_format):
    seen = []

    def gradients(join) -> list[torch.Tensor]:
        maps = [
            torch.randn(2, width, 4, 3, generator=torch.Generator().manual_seed(width), dtype=dtype)
            for width, dtype in ((3, torch.float64), (5, torch.float32))
        ]
        maps = [each.contiguous(memory_format=memory_format).requires_grad_() for each in maps]
        for each in maps:
            each.register_hook(lambda gradient: seen.append(gradient.is_contiguous(memory_format=memory_format)))
        joined = join(maps)
        (joined * torch.arange(joined.numel()).view_as(joined).contiguous(memory_format=memory_format)).sum().backward()
        return [each.grad for each in maps]

    expected = gradients(lambda maps: torch.cat(maps, 1))
    seen.clear()
    for own, by_cat in zip(gradients(join_channels), expected, strict=True):
        assert own.dtype == by_cat.dtype
        assert torch.equal(own, by_cat)
    assert memory_format == torch.contiguous_format or seen == [True, True]
