"""Borrowing and copying a network leaves it as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sightline.backends.torch_model import TorchModel, evaluating, private_copy


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.end2end, self.max_det, self.agnostic_nms = False, 300, False


class TwoBranches(nn.Module):
    """As much of a detector as a backend touches."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.model = nn.ModuleList([nn.BatchNorm2d(4), Head()])
        self.names, self.nc, self.stride = {0: "a", 1: "b"}, 2, torch.tensor([8.0, 32.0])
        self.end2end, self.fused, self.criterion = True, False, None
        self.model[0].eval()  # a frozen layer: not all modules are in the same mode

    def use_end2end(self, on: bool) -> None:
        self.model[-1].end2end = on

    def fuse(self, verbose: bool = True) -> TwoBranches:
        self.fused = True
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, dict]:
        return self.model[0](self.convolution(x)), {"training": self.training}


@pytest.fixture
def network() -> TwoBranches:
    return TwoBranches().train()


def state_of(network: TwoBranches) -> tuple:
    head = network.model[-1]
    modes = [module.training for module in network.modules()]
    return modes, head.end2end, head.max_det, head.agnostic_nms, network.fused


@pytest.mark.parametrize(("nms", "end2end"), [(None, True), (False, True), (True, False)])
def test_the_nms_free_branch_is_the_default(network: TwoBranches, nms: bool | None, end2end: bool):
    with evaluating(network, nms=nms, max_det=50, agnostic_nms=True) as ready:
        assert ready.end2end is end2end
        assert (network.model[-1].max_det, network.model[-1].agnostic_nms) == (50, True)
    assert private_copy(network, nms=nms).end2end is end2end


def test_a_borrowed_network_is_given_back_as_it_was(network: TwoBranches):
    network.model[0].eval()
    before = state_of(network)
    with evaluating(network, max_det=7) as ready:
        assert not any(module.training for module in network.modules())
        assert ready.network is network
    assert state_of(network) == before


def test_also_after_an_error(network: TwoBranches):
    before = state_of(network)
    with pytest.raises(RuntimeError), evaluating(network, max_det=7):
        raise RuntimeError
    assert state_of(network) == before


def test_a_copy_leaves_the_original_alone(network: TwoBranches):
    network.half()
    graph = network.convolution.weight.sum() * 2  # a tensor inside a graph cannot be copied
    network.criterion = {"last loss": graph}
    before, weight = state_of(network), network.convolution.weight.clone()
    ready = private_copy(network, max_det=7)
    assert ready.network.fused
    assert ready.network.convolution.weight.dtype == torch.float32
    assert not ready.network.training
    assert not any(parameter.requires_grad for parameter in ready.network.parameters())
    assert state_of(network) == before
    assert network.criterion["last loss"] is graph
    assert network.convolution.weight.dtype == torch.float16
    torch.testing.assert_close(network.convolution.weight, weight)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_bytes_become_shares_and_floats_stay(network: TwoBranches):
    ready = TorchModel(network)
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(2, 3, 8, 8)
    prepared = ready.preprocess(images)
    assert prepared.dtype == torch.float32
    torch.testing.assert_close(prepared[0, :, 0, 0], torch.tensor([0.0, 0.2, 1.0]))
    torch.testing.assert_close(ready.preprocess(prepared), prepared)
    decoded, raw = ready(prepared)
    assert decoded.shape[:2] == (2, 4)
    assert "training" in raw


def test_what_a_caller_needs_to_know(network: TwoBranches):
    ready = TorchModel(network)
    assert (ready.names, ready.nc, ready.stride, ready.channels) == ({0: "a", 1: "b"}, 2, 32, 3)
