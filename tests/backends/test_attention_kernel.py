"""Which operation of torch computes attention, as torch's dispatcher sees it."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sightline.backends import attention_kernel
from sightline.backends.attention_kernel import check_inference, check_training, forced, head_widths, refusal, usable
from sightline.backends.torch_model import private_copy
from sightline.errors import SettingValueError
from sightline.models.build import build_model
from sightline.nn.attention import HeadWidths

CPU = torch.device("cpu")
EQUAL, UNEQUAL = HeadWidths(32, 32), HeadWidths(32, 64)  # the heads of yolo12 and of yolo26


class Kernels(TorchDispatchMode):
    """Counts calls of attention by kernel; the plain formula shows as its softmax, which nothing else uses.

    Calls with one head do not count: with those torch is asked what it can do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if name == "aten::scaled_dot_product_attention":  # in inference mode it arrives before torch has chosen
            with self:
                return func.decompose(*args, **(kwargs or {}))
        flash = "_scaled_dot_product_flash" in name and "backward" not in name
        formula = name in ("aten::_safe_softmax", "aten::_scaled_dot_product_attention_math")
        if (flash or formula) and args[0].shape[1] > 1:
            self.seen["flash" if flash else "math"] += 1
        return func(*args, **(kwargs or {}))


def flags() -> tuple[bool, ...]:
    backends = torch.backends.cuda
    return backends.flash_sdp_enabled(), backends.mem_efficient_sdp_enabled(), backends.math_sdp_enabled()


@pytest.mark.parametrize(("kernel", "found"), [("auto", "flash"), ("flash", "flash"), ("math", "math")])
def test_what_is_forced_computes(kernel: str, found: str):
    query = torch.randn(1, 2, 5, 8)
    before = flags()
    with Kernels() as kernels, forced(kernel):
        F.scaled_dot_product_attention(query, query, query)
    assert kernels.seen == {found: 1}
    assert flags() == before


def test_the_switches_come_back_after_an_error():
    before = flags()
    within = []

    def failing() -> None:
        with forced("math"):
            within.append(flags())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert within == [(False, False, True)]
    assert flags() == before


def test_what_a_kernel_cannot_compute_the_formula_does():
    """As attention in float32 on a GPU, where flash takes half precision only."""
    query, value = torch.randn(1, 2, 5, 32), torch.randn(1, 2, 5, 64)
    with Kernels() as kernels, forced("flash"):
        F.scaled_dot_product_attention(query, query, value)
    assert kernels.seen == {"math": 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [False, True])
def test_torch_is_asked_and_its_reason_told(dtype: torch.dtype, training: bool):
    random = torch.get_rng_state()
    assert refusal("flash", EQUAL, CPU, dtype, training=training) is None
    assert refusal("flash", HeadWidths(32, 32, masked=True), CPU, dtype, training=training) is None
    assert refusal("math", UNEQUAL, CPU, dtype, training=training) is None
    assert "same last dimension" in str(refusal("flash", UNEQUAL, CPU, dtype, training=training))
    assert refusal("efficient", EQUAL, CPU, dtype, training=training) == "torch has no such kernel there"
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("name", "widths", "works"),
    [
        ("yolo12n", {EQUAL: 8}, ["flash", "math"]),
        ("yolo12l", {EQUAL: 16}, ["flash", "math"]),
        ("yolo26n", {UNEQUAL: 2}, ["math"]),
    ],
)
def test_networks_show_what_they_need(name: str, widths: dict[HeadWidths, int], works: list[str]):
    network = build_model(name)
    assert head_widths(network) == widths
    assert usable(network, CPU, torch.float32, training=True) == works
    for kernel in attention_kernel.KERNELS:
        if kernel in works:
            check_training(kernel, network, CPU, torch.float32)
            assert check_inference(kernel, network, CPU, torch.float32) is None
        else:
            for check in (check_training, check_inference):
                with pytest.raises(SettingValueError, match=f"attention_kernel={kernel} cannot .*auto, {works[0]}"):
                    check(kernel, network, CPU, torch.float32)


def test_one_line_says_what_to_do():
    with pytest.raises(SettingValueError) as caught:
        check_training("efficient", build_model("yolo12n"), CPU, torch.bfloat16)
    assert str(caught.value) == (
        "attention_kernel=efficient cannot compute this network's attention in bf16 on cpu: torch has no such kernel "
        "there. Allowed here: attention_kernel=auto, flash, math."
    )


def only_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device as GPUs are: flash takes no float32."""
    real = attention_kernel.refusal

    def asked(kernel, widths, device, dtype, *, training):
        if kernel == "flash" and dtype == torch.float32:
            return "Expected query to be of dtype: {Half, BFloat16}"
        return real(kernel, widths, device, dtype, training=training)

    monkeypatch.setattr(attention_kernel, "refusal", asked)


def test_training_is_told_which_formats_the_kernel_takes(monkeypatch: pytest.MonkeyPatch):
    only_half(monkeypatch)
    network = build_model("yolo12n")
    with pytest.raises(SettingValueError, match=r"in fp32 on cpu: Expected .*=auto, math, or amp=bf16\|fp16\.$"):
        check_training("flash", network, CPU, torch.float32)
    check_training("flash", network, CPU, torch.bfloat16)


def test_inference_goes_on_with_the_formula_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    only_half(monkeypatch)
    with caplog.at_level(logging.INFO, "sightline"):
        model = private_copy(build_model("yolo12n", nc=2), attention_kernel="flash")
    assert model.attention_kernel == "flash"
    assert "attention_kernel=flash: math computes here, since flash does not take fp32" in caplog.text


def test_a_network_without_attention_is_asked_for_a_usual_head():
    network = nn.Conv2d(3, 3, 1)
    assert head_widths(network) == {}
    check_training("flash", network, CPU, torch.float32)
    with pytest.raises(SettingValueError, match="efficient"):
        check_training("efficient", network, CPU, torch.float32)


@pytest.mark.parametrize(("kernel", "found"), [("auto", "flash"), ("math", "math")])
def test_a_private_copy_computes_with_it(kernel: str, found: str):
    model = private_copy(build_model("yolo12n", nc=2), attention_kernel=kernel)
    with torch.no_grad(), Kernels() as kernels:
        model(torch.zeros(1, 3, 64, 64))
    assert kernels.seen == {found: 8}
