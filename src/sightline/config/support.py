"""Values that are well formed but whose subject is not built yet. Asked once, when a run starts.

The list shrinks with every issue; names that are not here yet at all stand in names.py.
"""

from __future__ import annotations

from sightline.config.settings import Settings
from sightline.errors import SettingValueError


def check_supported(settings: Settings) -> None:
    """Raise for what cannot run yet.

    Raises:
        SettingValueError: with the value, and what to write instead.
    """
    batch = settings.batch
    if batch < 1 and settings.mode != "train":
        raise SettingValueError(f"batch={batch} is for training only. {settings.mode} takes a whole number from 1.")
    devices = device_numbers(settings.device)
    if len(devices) > 1 and settings.mode != "train":
        raise SettingValueError(
            f"device={settings.device} asks for {len(devices)} GPUs, which is for training. {settings.mode} runs on "
            f"one: device={devices[0]}."
        )
    if devices == [-1]:
        raise SettingValueError("device=-1 asks for an idle GPU, which sightline cannot choose yet. Give its number.")


def device_numbers(device: int | str | list[int] | None) -> list[int]:
    """GPU numbers named by a `device` setting; empty for the CPU and for an open choice.

    >>> device_numbers("cuda:1"), device_numbers("0,1"), device_numbers("cpu")
    ([1], [0, 1], [])
    """
    if isinstance(device, list):
        return list(device)
    if isinstance(device, int):
        return [device]
    if device is None or device in ("auto", "cpu", "mps", "mps:0", "cuda"):
        return []
    return [int(part.removeprefix("cuda:")) for part in device.split(",")]
