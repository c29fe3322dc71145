"""`attention_kernel`: which of torch's implementations computes `scaled_dot_product_attention`.

Torch's choice is one set of switches of the process: a run sets them (`switch`) and puts them back. What a kernel
takes depends on the device, the number format and the width of a head, and only torch knows all of its rules: `refusal`
asks it with a call of a few numbers.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sightline.errors import SettingValueError
from sightline.nn.attention import HeadWidths

AUTO = "auto"
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
# What says whether each is on, and what sets it: of the whole process, and of CPUs, too, whatever the module is called.
SWITCHES = {
    "flash": (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    "efficient": (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    "math": (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    "cudnn": (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
}
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ANY_NETWORK = HeadWidths(32, 32)  # where a network does not show what it needs
CELLS = 8  # of the call that asks


def switch(kernel: str) -> None:
    """Let this kernel compute every attention that it can, the plain formula (math) the rest; auto: as torch chooses.

    The rest are calls in another number format than the run's, such as float32 where flash takes half precision only:
    the last validation, or a run that went on in float32 because its gradients overflowed. They must not end it.
    """
    if kernel != AUTO:
        for name, (_, enable) in SWITCHES.items():
            enable(name in (kernel, "math"))


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Put torch's switches back at the end as they were."""
    before = {name: is_on() for name, (is_on, _) in SWITCHES.items()}
    try:
        yield
    finally:
        for name, (_, enable) in SWITCHES.items():
            enable(before[name])


@contextlib.contextmanager
def forced(kernel: str) -> Iterator[None]:
    """`switch` for a while."""
    if kernel == AUTO:
        yield
        return
    with restored():
        switch(kernel)
        yield


def refusal(kernel: str, widths: HeadWidths, device: torch.device, dtype: torch.dtype, *, training: bool) -> str | None:
    """Why a kernel cannot compute an attention on a device; None if it can.

    Args:
        dtype: of queries, keys and values.
        training: whether there will be gradients, which some kernels do not have for every width.
    """

    def made(width: int) -> torch.Tensor:
        return torch.zeros(1, 1, CELLS, width, device=device, dtype=dtype, requires_grad=training)

    mask = torch.ones(CELLS, CELLS, device=device, dtype=torch.bool) if widths.masked and training else None
    # Torch says why in warnings, and only that nothing is left in the exception.
    with warnings.catch_warnings(record=True) as said, torch.set_grad_enabled(training):
        warnings.simplefilter("always")
        try:
            with sdpa_kernel(KERNELS[kernel]):
                F.scaled_dot_product_attention(made(widths.key), made(widths.key), made(widths.value), attn_mask=mask)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return _reason([str(warning.message) for warning in said])
    return None


def head_widths(network: nn.Module) -> dict[HeadWidths, int]:
    """What the layers of a network that attend need → how many of them there are; empty if none shows it."""
    found: dict[HeadWidths, int] = {}
    for module in network.modules():
        widths = getattr(module, "head_widths", None)
        if isinstance(widths, HeadWidths):
            found[widths] = found.get(widths, 0) + 1
    return found


def usable(network: nn.Module, device: torch.device, dtype: torch.dtype, *, training: bool) -> list[str]:
    """The kernels that take all attention of a network."""
    return [name for name in KERNELS if refusal_of(network, name, device, dtype, training) is None]


def check_training(kernel: str, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Whether a training with this kernel can begin.

    Raises:
        SettingValueError: the device has no such kernel for this network in this number format.
    """
    reason = None if kernel == AUTO else refusal_of(network, kernel, device, dtype, True)
    if reason is not None:
        formats = [name for name, each in FORMATS.items() if not refusal_of(network, kernel, device, each, True)]
        other = f", or amp={'|'.join(formats)}" if formats else ""
        allowed = ", ".join([AUTO, *usable(network, device, dtype, training=True)])
        raise SettingValueError(
            f"attention_kernel={kernel} cannot compute this network's attention in {_name(dtype)} on {device.type}: "
            f"{reason}. Allowed here: attention_kernel={allowed}{other}."
        )


def check_inference(kernel: str, network: nn.Module, device: torch.device, dtype: torch.dtype) -> str | None:
    """The same for a network that only finds things, whose number format cannot be chosen.

    Returns:
        A line to be shown where the kernel takes other formats only, so that the plain formula computes; else None.

    Raises:
        SettingValueError: the device has no such kernel for this network in any number format.
    """
    reason = None if kernel == AUTO else refusal_of(network, kernel, device, dtype, False)
    if reason is None:
        return None
    if all(refusal_of(network, kernel, device, each, False) for each in FORMATS.values()):
        raise SettingValueError(
            f"attention_kernel={kernel} cannot compute this network's attention on {device.type}: {reason}. "
            f"Allowed here: attention_kernel={', '.join([AUTO, *usable(network, device, dtype, training=False)])}."
        )
    return f"attention_kernel={kernel}: math computes here, since {kernel} does not take {_name(dtype)} ({reason})"


def refusal_of(network: nn.Module, kernel: str, device: torch.device, dtype: torch.dtype, training: bool) -> str | None:
    """As `refusal`, for the attention of a whole network; for a usual head where the network shows none."""
    needed = list(head_widths(network)) or [ANY_NETWORK]
    reasons = (refusal(kernel, widths, device, dtype, training=training) for widths in needed)
    return next((reason for reason in reasons if reason is not None), None)


def _reason(warned: list[str]) -> str:
    texts = [text.partition(" (Triggered internally")[0].strip() for text in warned]
    # What is left out are headings, and that the other kernels are switched off.
    telling = [text for text in texts if text and "not used because" not in text and "runtime disabled" not in text]
    return telling[0].rstrip(".") if telling else "torch has no such kernel there"


def _name(dtype: torch.dtype) -> str:
    return next((name for name, each in FORMATS.items() if each == dtype), str(dtype).removeprefix("torch."))
