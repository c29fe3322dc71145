"""Folding a whole network changes its layers, not its outputs."""

from __future__ import annotations

import copy

import pytest
import torch

from golden.fill import fill
from sightline.errors import ModelError
from sightline.models.build import build_model


def lively_network() -> torch.nn.Module:
    """Weights and statistics that make every output depend on the image."""
    model = build_model("yolo26n", nc=4)
    model.load_state_dict({key: fill(key, value) for key, value in model.state_dict().items()})
    return model.double().eval()


@pytest.mark.parametrize("end2end", [False, True])
def test_outputs_stay(end2end: bool):
    model = lively_network()
    model.use_end2end(end2end)
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = model(image)[0]
        assert not model.is_fused()
        assert model.fuse(verbose=False) is model
        torch.testing.assert_close(model(image)[0], expected, rtol=1e-12, atol=1e-12)
    assert model.is_fused()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    branch = "one2one_cv3" if end2end else "cv3"
    assert [name for name, _ in model.model[-1].named_children() if name.endswith("cv3")] == [branch]
    assert not any(parameter.requires_grad for name, parameter in model.named_parameters() if ".conv." in name)
    with pytest.raises(ModelError, match="fuse"):
        model.use_end2end(not end2end)


def test_in_place_and_once():
    model = lively_network()
    untouched = copy.deepcopy(model)
    weight = model.fuse(verbose=False).model[0].conv.weight
    assert model.fuse(verbose=False).model[0].conv.weight is weight
    assert not untouched.is_fused()
