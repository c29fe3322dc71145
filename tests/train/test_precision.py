"""What `amp` means on which hardware."""

from __future__ import annotations

import pytest
import torch

from sightline.errors import SettingValueError
from sightline.train import precision

WITH, WITHOUT = frozenset({"avx2", "avx512_bf16"}), frozenset({"avx2"})


@pytest.mark.parametrize(
    ("amp", "flags", "name"),
    [
        (True, WITH, "bf16"),
        ("auto", WITH, "bf16"),
        (True, frozenset({"amx_bf16"}), "bf16"),
        (True, WITHOUT, "fp32"),
        ("True", WITH, "bf16"),
        (False, WITH, "fp32"),
        ("fp32", WITH, "fp32"),
        (None, WITH, "fp32"),
        ("bf16", WITHOUT, "bf16"),
    ],
)
def test_cpu(monkeypatch, amp, flags, name):
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    monkeypatch.setattr(precision, "cpu_vendor", lambda: "AuthenticAMD")
    chosen = precision.choose(amp, "cpu")
    assert chosen.name == name
    assert not chosen.scaler.is_enabled()
    assert chosen.reason


@pytest.mark.parametrize(
    ("amp", "flags", "name"),
    [
        (True, WITH, "fp32"),  # its avx512_bf16 is no faster than fp32: docs/decisions/0045
        (True, WITH | {"amx_bf16"}, "bf16"),
        ("bf16", WITH, "bf16"),  # what a user asks for, a user gets
    ],
)
def test_cpu_of_intel(monkeypatch, amp, flags, name):
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    monkeypatch.setattr(precision, "cpu_vendor", lambda: "GenuineIntel")
    assert precision.choose(amp, "cpu").name == name


@pytest.mark.parametrize(("capability", "name"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_cuda(monkeypatch, capability, name):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: (device, enabled))
    chosen = precision.choose(True, "cuda:0")
    assert chosen.name == name
    assert chosen.scaler == ("cuda", name == "fp16")


def test_autocast_computes_in_the_chosen_format():
    layer, x = torch.nn.Linear(4, 4), torch.ones(1, 4)
    for amp, dtype in (("bf16", torch.bfloat16), (False, torch.float32)):
        with precision.choose(amp, "cpu").autocast():
            assert layer(x).dtype == dtype
    assert layer(x).dtype == torch.float32


@pytest.mark.parametrize(("amp", "device"), [("fp16", "cpu"), ("fp16", "mps"), ("int8", "cpu"), (16, "cpu")])
def test_what_does_not_work_is_said(amp, device):
    with pytest.raises(SettingValueError, match=f"amp={amp}"):
        precision.choose(amp, device)


def test_this_processor_is_read_from_one_place():
    flags = precision.cpu_flags()
    assert isinstance(flags, frozenset)
    assert not any(":" in flag for flag in flags)
