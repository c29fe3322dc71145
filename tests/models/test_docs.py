"""The two descriptions in docs/models.md are the same network."""

from __future__ import annotations

import re
from pathlib import Path

import torch
import yaml

from sightline.models.build import build_model
from sightline.models.training_settings import settings_in

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
BLOCKS = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]


def test_both_layouts_of_the_page_build_the_same_network():
    named, _, rows = BLOCKS
    models = []
    for data in (named, rows):
        torch.manual_seed(0)
        models.append(build_model(data, scale="s").eval())
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(models[0](image)[0], models[1](image)[0])
    assert models[0].stride.tolist() == [8, 16]


def test_the_settings_of_the_page_can_stand_in_a_description():
    found = settings_in({**BLOCKS[0], **BLOCKS[1]}, "leaf26.yaml")
    assert found == {"box": 5.0, "cls": 0.7, "dfl": 1.0, "lr0": 0.005, "close_mosaic": 20, "epochs": 300}
