"""Which number format the forward and backward pass compute in."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path

import torch

from sightline.errors import SettingValueError

ALLOWED = "true (the best this device supports), false or fp32, bf16, fp16"


@dataclass(frozen=True)
class Precision:
    """The format of a run. The weights, the optimizer and the EMA stay in float32 in any case."""

    name: str  # "fp32", "bf16" or "fp16"
    dtype: torch.dtype
    device_type: str
    scaler: torch.amp.GradScaler  # always there; enabled for fp16 only, whose gradients would underflow
    reason: str  # for the start of the log

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """A context in which heavy operations compute in this format."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype)


def choose(amp: bool | str | None, device: torch.device | str) -> Precision:
    """The precision that the setting `amp` means on a device.

    Args:
        amp: True takes the best: bf16 where the hardware computes in it, else fp16 on CUDA, else fp32. False, None and
            "fp32" are exact float32; "bf16" and "fp16" are taken as they are.

    Raises:
        SettingValueError: an unknown word, or fp16 on a device that has no use for it.
    """
    device = torch.device(device)
    word = str(amp).lower()
    if word in ("true", "auto"):
        name, reason = _best(device)
    elif word in ("false", "none", "fp32"):
        name, reason = "fp32", f"amp={amp}"
    elif word in ("bf16", "fp16"):
        name, reason = word, f"amp={amp}"
    else:
        raise SettingValueError(f"amp={amp} is unknown. Allowed: {ALLOWED}.")
    if name == "fp16" and device.type != "cuda":
        raise SettingValueError(
            f"amp=fp16 needs a CUDA device (its gradients must be scaled), but this run uses {device.type}. "
            "Use amp=bf16 or amp=false."
        )
    if name == "bf16" and device.type == "mps":
        raise SettingValueError("amp=bf16 is not tested on Apple GPUs. Use amp=false.")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
    scaler = torch.amp.GradScaler(device.type if device.type == "cuda" else "cpu", enabled=name == "fp16")
    return Precision(name=name, dtype=dtype, device_type=device.type, scaler=scaler, reason=reason)


def _best(device: torch.device) -> tuple[str, str]:
    if device.type == "cuda":
        # torch also says yes to bf16 where it is emulated, so ask for the generation that computes in it.
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return "bf16", "this GPU computes in it"
        return "fp16", "this GPU has no bf16 units"
    if device.type == "cpu":
        return _best_of_cpu()
    return "fp32", f"mixed precision is not used on {device.type}"


def _best_of_cpu() -> tuple[str, str]:
    if multiplies_bf16_faster():
        return "bf16", "this processor multiplies bf16 faster than fp32"
    if "avx512_bf16" in cpu_flags():
        return "fp32", "on Intel processors without amx_bf16 bf16 is slower; amp=bf16 takes it all the same"
    return "fp32", "this processor has no bf16 instructions"


def multiplies_bf16_faster() -> bool:
    """Whether matrix products in bfloat16 gain time on this processor.

    AVX-512's instruction does two multiply-adds a lane. AMD issues as many of them per cycle as of fp32's, Intel half
    as many, so there only AMX gains anything (docs/decisions/0045). Without any of these bf16 is emulated.
    """
    flags = cpu_flags()
    return "amx_bf16" in flags or ("avx512_bf16" in flags and cpu_vendor() != "GenuineIntel")


def cpu_flags() -> frozenset[str]:
    """Names of the processor's instruction sets, as Linux lists them; empty where they cannot be read."""
    words = (value.split() for name, value in _cpuinfo() if name in ("flags", "features"))
    return frozenset(next(words, []))


def cpu_vendor() -> str:
    """The maker of the processor as it names itself (GenuineIntel, AuthenticAMD); "" where that cannot be read."""
    return next((value for name, value in _cpuinfo() if name == "vendor_id"), "")


@functools.cache
def _cpuinfo() -> tuple[tuple[str, str], ...]:
    """What Linux says of the first processor, as pairs of lower-case name and value."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return ()
    pairs = (line.partition(":") for line in first.splitlines())
    return tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)
