"""A picture as the rest of the code passes it around; how it is written to disk and shown in a window."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sightline.errors import MissingExtraError, OutputError
from sightline.files import atomic_write

Picture = npt.NDArray[np.uint8]  # (H, W, 3) BGR


# What OpenCV writes from 8-bit colour in every build; ".exr", ".hdr" and the like want other numbers.
_WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def writable_suffix(suffix: str) -> str:
    """The suffix if pictures can be written in that format, else ".jpg"."""
    return suffix if suffix.lower() in _WRITABLE and cv2.haveImageWriter(f"picture{suffix.lower()}") else ".jpg"


def write_picture(path: str | os.PathLike[str], picture: Picture) -> Path:
    """Save a picture in the format its suffix names (".jpg" is added to others). The folder is made.

    The path may hold any letters: OpenCV's own writer fails on them on some systems, so it only encodes.

    Raises:
        OutputError: the place cannot be written or the disk is full; no half-written picture stays behind.
    """
    target = Path(path)
    suffix = writable_suffix(target.suffix)
    if suffix != target.suffix:
        target = target.with_name(target.name + suffix)
    encoded, data = cv2.imencode(suffix, picture)
    if not encoded:
        raise OutputError(f"Cannot write {target}: OpenCV could not encode a picture of shape {picture.shape}.")
    # A picture can be made again, so it is not worth waiting for the disk.
    with atomic_write(target, durable=False) as file:
        file.write(data.tobytes())
    return target


def has_windows() -> bool:
    """Whether this OpenCV can open windows; the headless builds cannot."""
    lines = cv2.getBuildInformation().splitlines()
    return not any(line.strip().startswith("GUI:") and "NONE" in line for line in lines)


def check_display() -> None:
    """Say that there is nothing to show pictures on, before any work is done.

    Raises:
        OutputError: a Linux machine without a display. The toolkits behind OpenCV would end the whole process there.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OutputError("Cannot show pictures: this machine has no display (DISPLAY is not set). Save them instead.")


def check_windows() -> None:
    """Say why no window can be opened, before any work is done.

    Raises:
        MissingExtraError: this OpenCV is built without windows.
        OutputError: there is no display.
    """
    if not has_windows():
        raise MissingExtraError(
            "Cannot show pictures: the installed OpenCV is the headless one, without windows. Save them instead "
            "(save=True), or `pip uninstall opencv-python-headless` and `pip install opencv-python`."
        )
    check_display()


def show_picture(picture: Picture, title: str, *, wait_ms: int = 0) -> int:
    """Show a picture in a window until a key is pressed (wait_ms=0) or for that long; returns the key's code or −1.

    Raises:
        MissingExtraError, OutputError: as `check_windows`.
    """
    check_windows()
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    cv2.resizeWindow(title, picture.shape[1], picture.shape[0])
    cv2.imshow(title, picture)
    return int(cv2.waitKey(wait_ms))
