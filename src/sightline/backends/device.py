"""Which device a process uses."""

from __future__ import annotations

import torch

from sightline.backends import ranks
from sightline.errors import SettingValueError


def select_device(device: object = None) -> torch.device:
    """The torch device that the setting `device` names; None takes the first GPU, else the CPU.

    Of several GPUs (`[0, 1]`), and of all GPUs with None, a process takes the one with its number among the processes
    of this machine, so that each of a run has its own.

    Raises:
        SettingValueError: no such device on this machine.
    """
    mine = ranks.local_rank()
    text = "" if device is None else str(device).lower().strip().strip("[]()").replace(" ", "").removeprefix("cuda:")
    if text in ("", "none", "auto"):
        if not torch.cuda.is_available():
            return torch.device("cpu")
        text = str(mine)
    if text in ("cpu", "mps"):
        if text == "mps" and not torch.backends.mps.is_available():
            raise SettingValueError("device=mps, but this machine has no Apple GPU. Use device=cpu.")
        return torch.device(text)
    if text == "cuda":
        text = str(mine)
    numbers = [part.removeprefix("cuda:") for part in text.strip(",").split(",")]
    if all(number.isdigit() for number in numbers):
        wanted, count = [int(number) for number in numbers], torch.cuda.device_count()
        if max(wanted) < count:
            return torch.device("cuda", wanted[mine % len(wanted)])
        found = f"{count} CUDA device{'s' if count != 1 else ''} (0–{count - 1})" if count else "no CUDA device"
        if len(wanted) > 1:
            raise SettingValueError(
                f"device={device} asks for {len(wanted)} GPUs, but this machine has {found}. Use those, or "
                f"train with as many processes on the CPU: device=cpu nproc={len(wanted)}"
            )
        raise SettingValueError(f"device={device}, but this machine has {found}. Use device=cpu or one that is there.")
    raise SettingValueError(f"device={device} is not a device. Allowed: cpu, mps, a CUDA index such as 0, or nothing.")
