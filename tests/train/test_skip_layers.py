"""Named parts compute in float32 under autocast; the rest, and their copies, do as before."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline.errors import SettingValueError
from sightline.models.build import build_model
from sightline.train.skip_layers import keep_in_float32
from train.test_trainer import make


class Noting(nn.Module):
    """Remembers the type it was given and the type that a convolution makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.seen: list[tuple[torch.dtype, torch.dtype]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        self.seen.append((x.dtype, y.dtype))
        return y


def network() -> nn.Module:
    return nn.Sequential(Noting(), nn.Sequential(Noting(), Noting()), Noting())


def types(model: nn.Module) -> list[str]:
    notes = [module for module in model.modules() if isinstance(module, Noting)]
    for note in notes:
        note.seen.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.rand(1, 3, 4, 4))
    return ["fp32" if note.seen[-1] == (torch.float32, torch.float32) else str(note.seen[-1][1]) for note in notes]


BF16 = "torch.bfloat16"


def test_only_the_named_parts_change_their_type():
    model = network()
    assert types(model) == [BF16] * 4
    assert keep_in_float32(model, ["1"]) == ["1"]  # all below it
    assert types(model) == [BF16, "fp32", "fp32", BF16]
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert types(twin) == [BF16, "fp32", "fp32", BF16]


class Branches(nn.Module):
    """As a head has them: the list itself is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.ModuleList([Noting()]), Noting()])
        self.last = Noting()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.branches[1](self.branches[0][0](x)))


@pytest.mark.parametrize("entry", ["branches", "modulelist"])
def test_a_list_of_modules_is_all_that_is_in_it(entry: str):
    model = Branches()
    assert keep_in_float32(model, [entry]) == ["branches"]
    assert types(model) == ["fp32", "fp32", BF16]


def test_a_branch_of_the_head_computes_in_fp32():
    model = build_model("yolo26n.yaml", nc=2)
    keep_in_float32(model, ["model.23.cv3"])
    seen: dict[str, torch.dtype] = {}

    def note(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output.dtype)

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note(name))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.train()(torch.rand(2, 3, 64, 64))
    assert {dtype for name, dtype in seen.items() if name.startswith("model.23.cv3")} == {torch.float32}
    assert seen["model.22.cv1.conv"] == torch.bfloat16


def test_a_pass_that_fails_leaves_autocast_as_it_was():
    model = network()
    keep_in_float32(model, ["1"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(RuntimeError):
            model(torch.rand(1, 4, 4, 4))
        with pytest.raises(RuntimeError):
            model[1](torch.rand(1, 4, 4, 4))
        assert torch.is_autocast_enabled("cpu")
    assert types(model) == [BF16, "fp32", "fp32", BF16]


def test_without_autocast_nothing_is_touched():
    model = network().half()
    keep_in_float32(model, ["0"])
    model(torch.rand(1, 3, 4, 4).half())
    assert model[0].seen[-1] == (torch.float16, torch.float16)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("23", ["model.23"]),
        ("model.23.cv3", ["model.23.cv3"]),
        ("one2one_cv2", ["model.23.one2one_cv2"]),
        ("sppf", ["model.9"]),  # a class
        (r"regex:^model\.[01]\.conv$", ["model.0.conv", "model.1.conv"]),
    ],
)
def test_how_parts_are_named(entry: str, expected: list[str]):
    assert keep_in_float32(build_model("yolo26n.yaml", nc=2), [entry]) == expected


def test_a_name_that_is_not_there_is_told_with_what_there_is(caplog: pytest.LogCaptureFixture):
    assert keep_in_float32(build_model("yolo26n.yaml", nc=2), ["dfl"]) == []  # an Identity where there are no bins
    (text,) = [record.getMessage() for record in caplog.records]
    assert "'dfl'" in text
    assert "model.0 to model.23" in text
    assert "one2one_cv3" in text
    assert "SPPF" in text


def test_a_bad_expression_is_an_error():
    with pytest.raises(SettingValueError, match="regular expression"):
        keep_in_float32(network(), ["regex:("])


def test_in_a_run(tiny_data: Path, tiny_model: str, tmp_path: Path):
    def trained(**settings: Any) -> Any:
        trainer = make(tiny_data, tmp_path, model=tiny_model, epochs=1, optimizer="SGD", **settings)
        kinds: list[torch.dtype] = []

        def watch(trainer: Any) -> None:
            if not kinds:
                trainer.model.model[1].register_forward_hook(lambda module, args, output: kinds.append(output.dtype))

        trainer.add_callback("on_train_start", watch)
        trainer.train()
        return trainer, set(kinds)

    trainer, kinds = trained(amp="bf16")
    assert kinds == {torch.bfloat16}
    trainer, kinds = trained(amp="bf16", fp16_skip_layers=["model.1"])
    assert kinds == {torch.float32}
    assert trainer.in_force["fp16_skip_layers"] == "in fp32: model.1"
    trainer, _ = trained(amp=False, fp16_skip_layers="model.1")
    assert "without effect" in trainer.in_force["fp16_skip_layers"]
