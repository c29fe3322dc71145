"""Cameras, network streams and the screen: pictures that arrive whether or not anybody is ready."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from sightline.errors import MissingExtraError, MissingSourceError, SettingValueError
from sightline.log import LOGGER
from sightline.predict.frames import Frame, Source

_BUFFERED = 30  # frames; a longer queue would only be older
_PATIENCE = 30.0  # seconds without a frame after which a stream counts as ended


class LiveSource(Source):
    """One or several streams; a batch holds one frame of each. Ends when all have ended.

    Args:
        name: what was asked for.
        addresses: camera numbers, or what OpenCV opens (rtsp://, rtmp://, tcp://, http://, a file).
        vid_stride: every how many frames one is taken.
        buffer: give every frame, in order; else always the latest, and drop what came meanwhile.

    Raises:
        MissingSourceError: none of them can be opened.
    """

    live = True

    def __init__(self, name: str, addresses: Sequence[str | int], *, vid_stride: int, buffer: bool) -> None:
        super().__init__(name)
        self._readers: list[_Reader] = []
        for address in addresses:
            reader = _Reader(address, vid_stride=vid_stride, buffer=buffer)
            if reader.is_open:
                self._readers.append(reader)
            else:
                self.skip(str(address), f"Stream {address} cannot be opened.")
        if not self._readers:
            what = ", ".join(str(address) for address in addresses)
            raise MissingSourceError(
                f"source={what}: no camera or stream can be opened there. Check the number or address, the network, "
                "and that no other program holds the camera."
            )

    def __len__(self) -> int:
        return len(self._readers)

    def batches(self) -> Iterator[list[Frame]]:
        for reader in self._readers:
            reader.start()
        try:
            waiting = list(enumerate(self._readers, start=1))
            while waiting:
                batch = []
                for number, reader in list(waiting):
                    frame = reader.next_frame(f"stream {number}/{len(self)} {reader.address}")
                    if frame is None:
                        waiting.remove((number, reader))
                    else:
                        batch.append(frame)
                if batch:
                    yield batch
        finally:
            self.close()

    def close(self) -> None:
        for reader in self._readers:
            reader.stop()


class _Reader:
    """A thread that empties one stream, so that what waits in the driver is never old."""

    def __init__(self, address: str | int, *, vid_stride: int, buffer: bool) -> None:
        self.address = str(address)
        # OpenCV would add lines of its own to the error that names the camera.
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._capture = cv2.VideoCapture(address)
        finally:
            cv2.utils.logging.setLogLevel(level)
        self.is_open = bool(self._capture.isOpened())
        self._vid_stride = vid_stride
        self._buffer = buffer
        self._fps = self._capture.get(cv2.CAP_PROP_FPS) if self.is_open else 0.0
        self._frames: deque[tuple[int, Any]] = deque()  # guarded by _changed, as are the two below
        self._ended = False
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name=f"sightline stream {address}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def next_frame(self, title: str) -> Frame | None:
        """Wait for a frame; None when the stream has ended."""
        with self._changed:
            deadline = time.monotonic() + _PATIENCE
            while not self._frames and not self._ended and time.monotonic() < deadline:
                self._changed.wait(timeout=1.0)
            if not self._frames:
                if not self._ended:
                    LOGGER.warning(f"{title}: no frame for {_PATIENCE:.0f} s; taken as ended.")
                return None
            number, image = self._frames.popleft()
            self._changed.notify_all()
        return Frame(
            image=image,
            path=self.address,
            kind="stream",
            title=f"{title} (frame {number})",
            number=number,
            fps=self._fps,
        )

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        if not self._thread.is_alive():  # else it still waits inside OpenCV, and ends with the process
            self._capture.release()

    def _read(self) -> None:
        number = 0
        while not self._stopped and self._capture.grab():
            number += 1
            if (number - 1) % self._vid_stride:
                continue
            decoded, image = self._capture.retrieve()
            if not decoded:
                continue
            with self._changed:
                if self._buffer:
                    while len(self._frames) >= _BUFFERED and not self._stopped:
                        self._changed.wait(timeout=1.0)
                else:
                    self._frames.clear()
                self._frames.append((number, image))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class ScreenSource(Source):
    """What a screen shows, frame by frame, without end.

    Args:
        text: "screen", "screen 1" (its number), "screen 0 100 512 256" (left, top, width, height), or all five numbers.

    Raises:
        MissingExtraError: the package mss is not installed.
        SettingValueError: other numbers, or no such screen.
    """

    live = True

    def __init__(self, text: str) -> None:
        super().__init__(text)
        try:
            import mss
        except ImportError as error:
            raise MissingExtraError(f"source={text!r} needs the package mss: pip install mss.") from error
        words = text.split()[1:]
        if len(words) not in (0, 1, 4, 5) or not all(word.lstrip("-").isdigit() for word in words):
            raise SettingValueError(
                f"source={text!r}: expected 'screen', 'screen <number>' or 'screen [number] left top width height'."
            )
        numbers = [int(word) for word in words]
        screen = numbers.pop(0) if len(numbers) in (1, 5) else 0
        self._grabber = mss.mss()
        screens = self._grabber.monitors  # the first is all of them together
        if not 0 <= screen < len(screens):
            raise SettingValueError(f"source={text!r}: there are screens 0 (all) to {len(screens) - 1}.")
        area = screens[screen]
        left, top, width, height = numbers or [0, 0, area["width"], area["height"]]
        self._area = {"left": area["left"] + left, "top": area["top"] + top, "width": width, "height": height}

    def batches(self) -> Iterator[list[Frame]]:
        number = 0
        while True:
            number += 1
            image = np.ascontiguousarray(np.asarray(self._grabber.grab(self._area))[..., :3])
            title = f"{self.name} (frame {number})"
            yield [Frame(image=image, path=self.name, kind="stream", title=title, number=number)]

    def close(self) -> None:
        self._grabber.close()
