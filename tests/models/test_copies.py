"""A copy has weights of its own, and its hooks call whom they called before."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.facade import YOLO
from sightline.models.build import build_model
from sightline.models.copies import copy_of
from sightline.train.detect import DetectionTrainer
from train.test_trainer import make


class Listener:
    def __init__(self) -> None:
        self.lock = threading.Lock()  # which cannot be copied, as much of a trainer
        self.heard = 0

    def hear(self, *facts: Any) -> None:
        self.heard += 1


class Counting(nn.Conv2d):
    """A layer whose hook is a method of its own."""

    def __init__(self) -> None:
        super().__init__(3, 3, 1)
        self.heard = 0
        self.register_forward_hook(self.hear)

    def hear(self, *facts: Any) -> None:
        self.heard += 1


def test_hooks_of_others_stay_with_them_and_those_of_layers_come_along():
    listener, network = Listener(), nn.Sequential(Counting(), nn.ReLU())
    network[1].register_forward_pre_hook(listener.hear)
    twin = copy_of(network)
    twin(torch.zeros(1, 3, 2, 2))
    assert listener.heard == 1
    assert (twin[0].heard, network[0].heard) == (1, 0)
    assert twin[0].weight is not network[0].weight


def test_the_criterion_comes_along_only_when_asked_for():
    network = build_model("yolo26n.yaml", nc=2)
    network.criterion = network.init_criterion()
    network.criterion.graph = torch.ones(1, requires_grad=True) * 2  # what a step leaves, and nobody can copy
    assert copy_of(network).criterion is None
    network.criterion.graph = None
    assert copy_of(network, with_criterion=True).criterion is not network.criterion


def test_a_trainer_may_listen_to_a_layer(tiny_data: Path, tmp_path: Path):
    class Listening(DetectionTrainer):
        heard = 0

        def set_model_attributes(self) -> None:
            super().set_model_attributes()
            self.model.model[4].register_forward_hook(self.hear)

        def hear(self, *facts: Any) -> None:
            self.heard += 1

    trainer = make(tiny_data, tmp_path, Listening, epochs=1)
    trainer.train()
    assert trainer.heard > 2  # two batches, and validation
    assert YOLO(str(trainer.best)).model is not None
