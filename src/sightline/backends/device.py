"""Which device a run uses."""

from __future__ import annotations

import torch

from sightline.errors import SettingValueError


def select_device(device: object = None) -> torch.device:
    """The torch device that the setting `device` names; None takes the first GPU, else the CPU.

    Raises:
        SettingValueError: no such device on this machine, or more than one (several devices are not built yet).
    """
    text = "" if device is None else str(device).lower().strip().strip("[]()").replace(" ", "").removeprefix("cuda:")
    if text in ("", "none", "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("cpu")
    if text in ("cpu", "mps"):
        if text == "mps" and not torch.backends.mps.is_available():
            raise SettingValueError("device=mps, but this machine has no Apple GPU. Use device=cpu.")
        return torch.device(text)
    if text == "cuda":
        text = "0"
    if text.strip(",").isdigit():
        index, count = int(text.strip(",")), torch.cuda.device_count()
        if index < count:
            return torch.device("cuda", index)
        found = f"{count} CUDA device{'s' if count != 1 else ''} (0–{count - 1})" if count else "no CUDA device"
        raise SettingValueError(f"device={device}, but this machine has {found}. Use device=cpu or one that is there.")
    if "," in text:
        raise SettingValueError(
            f"device={device}: training on several devices is not in sightline yet. Name one device."
        )
    raise SettingValueError(f"device={device} is not a device. Allowed: cpu, mps, a CUDA index such as 0, or nothing.")
