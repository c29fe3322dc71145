"""The numbers of a step, against the same numbers worked out the long way."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sightline.callbacks.step_meter import StepMeter, Witnesses, head_name


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def flat(*tensors: torch.Tensor) -> torch.Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def test_the_size_of_a_step_is_relative_to_the_weights(net: Net):
    watch = Witnesses(net)
    body, head = net.model[0].weight, net.model[1].weight
    before = flat(body), flat(head)
    watch.remember(net)
    with torch.no_grad():
        body.add_(0.1)
        head.mul_(1.5)
    everything, of_head, of_body = watch.updates(net).tolist()
    assert of_head == pytest.approx(0.5)
    assert of_body == pytest.approx(float((flat(body) - before[0]).norm() / before[0].norm()))
    moved = torch.cat([flat(body) - before[0], flat(head) - before[1]]).norm()
    assert everything == pytest.approx(float(moved / torch.cat(before).norm()))


def test_what_is_frozen_is_not_counted_as_standing_still(net: Net):
    watch = Witnesses(net)
    net.model[0].weight.requires_grad_(False)
    watch.remember(net)
    with torch.no_grad():
        net.model[1].weight.mul_(1.1)
    everything, head, body = watch.updates(net).tolist()
    assert everything == pytest.approx(0.1)
    assert head == pytest.approx(0.1)
    assert math.isnan(body)


def test_gradients_of_head_and_body_are_told_apart(net: Net):
    watch = Witnesses(net)
    net.model[1].weight.grad = torch.full_like(net.model[1].weight, 2.0)
    head, body = watch.gradients(net).tolist()
    assert head == pytest.approx(2 * math.sqrt(8))
    assert math.isnan(body)


def test_an_average_that_stays_behind_lags_by_one(net: Net):
    watch, average = Witnesses(net), copy.deepcopy(net)
    with torch.no_grad():
        net.model[0].weight.add_(1.0)
    assert float(watch.lag(net, average)) == pytest.approx(1)
    with torch.no_grad():
        average.model[0].weight.add_(0.75)
    assert float(watch.lag(net, average)) == pytest.approx(0.25)
    assert float(watch.lag(net, copy.deepcopy(net))) == 0


def test_of_many_parameters_a_few_are_looked_at_and_of_large_ones_a_part():
    net = nn.Module()
    net.model = nn.Sequential(*[nn.Conv2d(64, 64, 3) for _ in range(40)], nn.Conv2d(64, 64, 3))
    watch = Witnesses(net)
    assert watch.names["head"] == ["model.40.weight"]
    assert len(watch.names["body"]) == 12
    assert {"model.0.weight", "model.39.weight"} <= set(watch.names["body"])
    assert sum(values.numel() for values in watch.start.values()) <= 13 * 4096


def test_a_network_without_layers_in_a_row_is_all_body():
    assert head_name(nn.Linear(1, 1)) == "-"
    watch = Witnesses(nn.Linear(2, 2))
    assert watch.names == {"head": [], "body": ["weight"]}
    watch.remember(model := nn.Linear(2, 2))
    assert math.isnan(float(watch.updates(model)[1]))


def test_an_epoch_is_summed_up(net: Net):
    trainer = SimpleNamespace(
        train_loader=range(5), device=torch.device("cpu"), images_in_batch=2, objects_in_batch=3, batch_index=0
    )
    meter, watch = StepMeter(), Witnesses(net)
    meter.begin(trainer)
    for index, norm in enumerate([3.0, 1.0, float("inf"), float("nan"), 2.0]):
        trainer.batch_index, trainer.grad_norm = index, torch.tensor(norm)
        meter.batch_came()
        meter.before_step(trainer, net, watch)
        with torch.no_grad():
            net.model[1].weight.mul_(1 + 0.01 * index)
        meter.after_step(trainer, net, watch)
        meter.batch_ended(trainer)
    facts = meter.finish(torch.tensor(0.5))
    assert (facts["steps"], facts["images"], facts["objects"]) == (5, 10, 15)
    assert (facts["grad_norm"], facts["grad_norm_max"], facts["not_finite"]) == (2.0, 3.0, 2)
    assert facts["ema_lag"] == 0.5
    assert facts["update_head"] == pytest.approx((0.01 + 0.03) / 2)  # the steps after 2/5 and 4/5 of the epoch
    assert 0 <= facts["loader_share"] <= 1


def test_an_epoch_that_is_interrupted_is_summed_up_whole(net: Net):
    trainer = SimpleNamespace(
        train_loader=range(4), device=torch.device("cpu"), images_in_batch=2, objects_in_batch=3, batch_index=0
    )
    twin = copy.deepcopy(net)

    def go(meter: StepMeter, net: Net, batches: range) -> None:
        watch = Witnesses(net)
        for index in batches:
            trainer.batch_index, trainer.grad_norm = index, torch.tensor(float(index))
            meter.before_step(trainer, net, watch)
            with torch.no_grad():
                net.model[1].weight.mul_(1.01 + 0.01 * index)
            meter.after_step(trainer, net, watch)
            meter.batch_ended(trainer)

    first, second, whole = StepMeter(), StepMeter(), StepMeter()
    for meter in (first, second, whole):
        meter.begin(trainer)
    go(first, net, range(3))
    second.load_state_dict(first.state_dict())
    go(second, net, range(3, 4))
    go(whole, twin, range(4))
    parts, once = second.finish(None), whole.finish(None)
    del parts["loader_share"], once["loader_share"]
    assert parts == pytest.approx(once, nan_ok=True)
    assert once["steps"] == 4


def test_no_step_at_all_is_no_error(net: Net):
    meter = StepMeter()
    meter.begin(SimpleNamespace(train_loader=range(3), device=torch.device("cpu")))
    facts = meter.finish(None)
    assert facts["steps"] == 0
    assert "grad_norm" not in facts
    assert "update" not in facts
