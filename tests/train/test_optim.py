"""The optimizers against slower, obvious versions of the same rules."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sightline.errors import SettingValueError
from sightline.train.musgd import MuSGD, match_layouts, newton_schulz, orthogonalize
from sightline.train.optim import NAMES, build_optimizer, gate_step, parameter_groups

SHAPES = [(6, 4, 3, 3), (8, 1, 3, 3), (5, 7), (7, 5), (4,)]


def parameters(seed: int = 0, *, channels_last: bool = False) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for shape in SHAPES:
        values = torch.randn(shape, generator=generator)
        if channels_last and len(shape) == 4:
            values = values.to(memory_format=torch.channels_last)
        made.append(nn.Parameter(values))
    return made


def set_gradients(params: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(1000 + seed)
    for p in params:
        p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=generator))


def musgd(params: list[nn.Parameter]) -> MuSGD:
    matrices, vectors = [p for p in params if p.ndim > 1], [p for p in params if p.ndim == 1]
    groups = [{"params": matrices, "use_muon": True, "weight_decay": 0.1}, {"params": vectors, "lr": 0.05}]
    return MuSGD(groups, lr=0.02, momentum=0.9, nesterov=True, muon=0.2, sgd=1.0)


def test_newton_schulz_keeps_singular_vectors_and_evens_out_the_values():
    matrix = torch.randn(12, 30, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ newton_schulz(matrix).float() @ right.T  # diagonal if the singular vectors are the same
    assert inner.diagonal().min() > 0.6
    assert inner.diagonal().max() < 1.3
    assert (inner - inner.diagonal().diag()).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(3, 3), (2, 9), (9, 2), (1, 5)])
def test_newton_schulz_of_nothing_is_nothing(shape):
    assert newton_schulz(torch.zeros(shape)).eq(0).all()


def test_without_bfloat16_units_the_result_is_the_same(monkeypatch):
    matrix = torch.randn(4, 20, 33, generator=torch.Generator().manual_seed(0))
    results = []
    for multiplies in (True, False):
        monkeypatch.setattr("sightline.train.musgd._multiplies_bfloat16", lambda device_type, answer=multiplies: answer)
        results.append(newton_schulz(matrix))
    assert (results[0] - results[1]).abs().max() < 0.02  # the order of sums differs


@pytest.mark.parametrize("channels_last", [False, True])
def test_orthogonalize_equals_one_at_a_time(channels_last):
    updates = [p.detach() for p in parameters(channels_last=channels_last) + parameters(1) if p.ndim > 1]
    for update, result in zip(updates, orthogonalize(updates), strict=True):
        alone = newton_schulz(update.reshape(len(update), -1)).reshape(update.shape).float()
        assert result.shape == update.shape
        assert (result - alone).abs().max() < 0.02


def test_musgd_is_the_rule_of_its_docstring():
    params = parameters()
    optimizer = musgd(params)
    expected = [p.detach().double() for p in params]
    means = [torch.zeros_like(p) for p in expected]
    speeds = [torch.zeros_like(p) for p in expected]
    for step in range(4):
        set_gradients(params, step)
        optimizer.step()
        for i, p in enumerate(params):
            g = p.grad.double()
            lr, decay = (0.02, 0.1) if g.ndim > 1 else (0.05, 0.0)
            if g.ndim > 1:
                means[i] = 0.9 * means[i] + 0.1 * g
                u = 0.9 * means[i] + 0.1 * g
                o = newton_schulz(u.reshape(len(u), -1).float()).double().reshape(u.shape)
                scale = math.sqrt(max(1.0, g.shape[-2] / g.shape[-1]))
                expected[i] = expected[i] - lr * 0.2 * scale * o
            d = g + decay * expected[i]
            speeds[i] = 0.9 * speeds[i] + d
            expected[i] = expected[i] - lr * (d + 0.9 * speeds[i])
            # bfloat16 flips of the last bit in the orthogonal step
            assert (p.double() - expected[i]).abs().max() < 2e-4, (step, p.shape)


def test_layouts_do_not_matter_to_musgd():
    plain, last = parameters(), parameters(channels_last=True)
    for params in (plain, last):
        optimizer = musgd(params)
        for step in range(3):
            set_gradients(params, step)
            optimizer.step()
    for a, b in zip(plain, last, strict=True):
        assert (a - b).abs().max() < 5e-4  # columns come in another order, so sums round differently


def test_a_parameter_without_gradient_stays():
    params = parameters()
    optimizer = musgd(params)
    set_gradients(params, 0)
    params[0].grad = params[-1].grad = None
    before = [params[0].clone(), params[-1].clone()]
    optimizer.step()
    assert torch.equal(params[0], before[0])
    assert torch.equal(params[-1], before[1])
    assert params[0] not in optimizer.state


@pytest.mark.parametrize("name", ["SGD", "MuSGD", "Adam", "AdamW"])
def test_a_gated_step_moves_nothing(name):
    layer = nn.Conv2d(3, 4, 3)
    optimizer = build_optimizer(layer, name, lr=0.1, decay=0.1)
    for bad in (False, True):
        for p in layer.parameters():
            p.grad = torch.full_like(p, math.nan if bad else 1.0)
        before = [p.detach().clone() for p in layer.parameters()]
        assert gate_step(optimizer, torch.tensor(not bad))
        optimizer.step()
        moved = [not torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True)]
        assert moved == [not bad, not bad]
    states = [value for state in optimizer.state.values() for value in state.values()]
    assert states
    assert all(value.isfinite().all() for value in states)


def test_musgd_decides_on_the_device_too():
    """The way a GPU goes, in which the verdict is never read: on a CPU here, through the two halves of a step."""
    gated, plain = parameters(), parameters()
    a, b = musgd(gated), musgd(plain)
    for step, bad in enumerate([False, True, False]):
        for optimizer, params in ((a, gated), (b, plain)):
            set_gradients(params, step)
            if bad and optimizer is b:
                continue
            if bad:
                params[0].grad[0, 0, 0, 0] = math.inf
            verdict = torch.tensor(1.0 if bad else 0.0) if optimizer is a else None
            with torch.no_grad():
                optimizer._orthogonal_steps([(optimizer.param_groups[0], params[:-1])], verdict)
                for group, members in zip(optimizer.param_groups, (params[:-1], params[-1:]), strict=True):
                    optimizer._sgd_step(group, members, verdict)
    for x, y in zip(gated, plain, strict=True):
        assert (x - y).abs().max() < 1e-6
    for x, y in zip(gated, plain, strict=True):
        for key, value in b.state[y].items():
            assert (a.state[x][key] - value).abs().max() < 1e-6


def test_the_step_of_a_gradient_scaler_is_understood():
    plain, scaled = parameters(), parameters()
    a, b = musgd(plain), musgd(scaled)
    set_gradients(plain, 0)
    set_gradients(scaled, 0)
    for p in scaled:
        p.grad *= 1024
    b.grad_scale, b.found_inf = torch.tensor(1024.0), torch.tensor(0.0)
    a.step()
    b.step()
    for x, y in zip(plain, scaled, strict=True):
        assert torch.equal(x, y)


def test_state_survives_saving(tmp_path):
    params, again = parameters(), parameters()
    optimizer, restored = musgd(params), musgd(again)
    set_gradients(params, 0)
    optimizer.step()
    torch.save({"params": [p.detach() for p in params], "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    restored.load_state_dict(saved["optimizer"])
    for p, value in zip(again, saved["params"], strict=True):
        p.data.copy_(value)
    for ps, o in ((params, optimizer), (again, restored)):
        set_gradients(ps, 1)
        o.step()
    assert all(torch.equal(a, b) for a, b in zip(params, again, strict=True))


def test_musgd_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="lr=-1"):
        MuSGD(parameters(), lr=-1)
    with pytest.raises(ValueError, match="fewer than 2 axes"):
        MuSGD([nn.Parameter(torch.zeros(3))], use_muon=True)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("SGD", lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.8, nesterov=True, fused=False)),
        ("AdamW", lambda groups: torch.optim.AdamW(groups, lr=0.05, betas=(0.8, 0.999), fused=False)),
        ("Adam", lambda groups: torch.optim.Adam(groups, lr=0.05, betas=(0.8, 0.999), fused=False)),
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fused_kernels_equal_the_plain_loop_for_any_layout_of_gradients(name, reference, layout):
    layers = [nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)]
    layers[1].load_state_dict(layers[0].state_dict())
    layers[0].to(memory_format=layout)
    ours = build_optimizer(layers[0], name, lr=0.05, momentum=0.8, decay=0.01)
    assert ours.defaults["fused"]
    plain = reference(
        [{"params": [layers[1].weight], "weight_decay": 0.01}, {"params": [layers[1].bias], "weight_decay": 0}]
    )
    for step in range(3):
        for layer in layers:
            generator = torch.Generator().manual_seed(step)
            for p in layer.parameters():
                p.grad = torch.randn(p.shape, generator=generator)  # contiguous, as a user may set it
        ours.step()
        plain.step()
    for a, b in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        assert (a - b).abs().max() < 1e-6


def test_restored_state_takes_the_layout_of_the_weights():
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(layer, "SGD", lr=0.1)
    layer.weight.grad = torch.randn(4, 3, 3, 3)
    values = torch.randn(4, 3, 3, 3)
    optimizer.state[layer.weight]["momentum_buffer"] = values.clone()
    match_layouts(optimizer)
    assert layer.weight.grad.stride() == layer.weight.stride()
    buffer = optimizer.state[layer.weight]["momentum_buffer"]
    assert buffer.stride() == layer.weight.stride()
    assert torch.equal(buffer, values)


def test_a_layer_that_thaws_later_joins_in():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    optimizer = build_optimizer(model, "SGD", lr=0.1, momentum=0.9)
    model[0].requires_grad_(False)
    for thaw in (False, True):
        model.requires_grad_(thaw) if thaw else None
        optimizer.zero_grad()
        model(torch.ones(1, 3, 2, 2)).sum().backward()
        optimizer.step()
    assert model[0].weight.grad is not None


class Detector(nn.Module):
    """Names as in a detector: a C3-like block with a `cv3` of its own, and a head whose `cv3` is the class branch."""

    def __init__(self) -> None:
        super().__init__()
        block, head = nn.Module(), nn.Module()
        block.cv3 = nn.Conv2d(3, 4, 1)
        block.bn = nn.BatchNorm2d(4)
        head.cv2 = nn.Conv2d(4, 4, 1)
        head.cv3 = nn.ModuleList([nn.Conv2d(4, 2, 1)])
        head.one2one_cv3 = nn.ModuleList([nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))])
        head.logit_scale = nn.Parameter(torch.zeros(()))
        self.model = nn.ModuleList([block, head])


def test_groups_hold_every_parameter_once_and_boost_only_the_class_branch():
    model = Detector()
    names = {id(p): name for name, p in model.named_parameters()}
    boosted, rest = parameter_groups(model, muon=True)
    found = [id(p) for half in (boosted, rest) for group in half for p in group]
    assert sorted(found) == sorted(names)
    assert {names[id(p)] for group in boosted for p in group} == {
        name for name in names.values() if name.startswith(("model.1.cv3.", "model.1.one2one_cv3."))
    }
    assert [names[id(p)] for p in rest.bn] == ["model.0.bn.weight", "model.1.logit_scale"]
    assert [names[id(p)] for p in rest.muon] == ["model.0.cv3.weight", "model.1.cv2.weight"]


def test_a_shared_weight_is_one_parameter():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert len(parameter_groups(model)[1].weight) == 1


@pytest.mark.parametrize("name", [*NAMES, "rmsprop", "MUSGD", "auto"])
def test_every_name_builds_and_learns(name):
    model = Detector()
    optimizer = build_optimizer(model, name, lr=0.01, decay=1e-3)
    block, head = model.model
    before = head.cv2.weight.clone()
    loss = head.cv2(block.bn(block.cv3(torch.randn(2, 3, 4, 4)))).square().sum()
    loss.backward()
    optimizer.step()
    assert not torch.equal(before, head.cv2.weight)
    assert {group["param_group"] for group in optimizer.param_groups} >= {"weight", "bn", "bias"}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_a_wrong_name_is_answered_with_the_near_one():
    with pytest.raises(SettingValueError, match=r"optimizer=AdamV.*adamw?"):
        build_optimizer(Detector(), "AdamV")
