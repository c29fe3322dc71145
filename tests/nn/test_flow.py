"""The flow is a density: it adds up to one, and its change of area is that of its map."""

from __future__ import annotations

import math

import pytest
import torch

from sightline.nn.flow import RealNVP


def bent(gain: float = 0.4) -> RealNVP:
    """A flow far from the identity."""
    torch.manual_seed(0)
    flow = RealNVP().double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(torch.randn_like(parameter) * gain / math.sqrt(max(parameter.shape[-1], 4)))
    return flow


def test_the_density_adds_up_to_one():
    side = torch.linspace(-12, 12, 481, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        total = bent().log_prob(grid).exp().sum() * (side[1] - side[0]) ** 2
    assert float(total) == pytest.approx(1, abs=1e-3)


def test_change_of_area_is_the_determinant_of_the_derivative():
    flow, x = bent(), torch.randn(5, 2, dtype=torch.float64)
    for point, log_det in zip(x, flow.backward_p(x)[1], strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda p: flow.backward_p(p[None])[0][0], point)
        assert float(torch.linalg.det(jacobian).abs().log()) == pytest.approx(log_det.item(), abs=1e-9)


def test_a_fresh_flow_is_almost_a_normal_distribution():
    torch.manual_seed(0)
    flow, x = RealNVP(), torch.randn(50, 2)
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    assert (flow.log_prob(x) - normal.log_prob(x)).abs().mean() < 0.2
    assert max(layer.weight.abs().max().item() for layer in flow.modules() if hasattr(layer, "weight")) < 0.02


def test_no_point_at_all():
    assert RealNVP().log_prob(torch.zeros(0, 2)).shape == (0,)
