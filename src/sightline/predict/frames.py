"""One picture on its way to the network, and what every source of pictures has in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sightline.log import LOGGER
from sightline.structures.pictures import Picture

Kind = Literal["image", "video", "stream"]


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture and where it comes from.

    Attributes:
        image: (H, W, C) uint8 BGR.
        path: of the file, the address of the stream, or "image0.jpg" and so on for pictures from memory.
        kind: a picture of its own, a frame of a video file, or a frame of something live.
        title: how lines on the console begin, such as "image 3/10 photos/cat.jpg".
        number: of the frame in its video, from 1; 0 for a picture of its own.
        fps: frames per second of the video as it comes in; 0 where unknown.
        ready: (C, H, W) RGB in [0, 1], when the picture came as a tensor that is to enter the network as it is.
    """

    image: Picture
    path: str
    kind: Kind
    title: str
    number: int = 0
    fps: float = 0.0
    ready: Tensor | None = None


class Source:
    """Batches of frames, once.

    Attributes:
        name: what was asked for, in words.
        seen: frames given out so far.
        skipped: (path, reason) of what could not be read. The reason is a sentence that names the path.
        live: frames arrive whether or not anybody is ready, and there may be no end.
    """

    live = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = 0
        self.skipped: list[tuple[str, str]] = []
        self._said = 0

    def __iter__(self) -> Iterator[list[Frame]]:
        for batch in self.batches():
            self.seen += len(batch)
            self.say_skipped()
            yield batch
        if self.seen:
            self.say_skipped()

    def skip(self, path: str, reason: str) -> None:
        """Note what cannot be read."""
        self.skipped.append((path, reason))

    def say_skipped(self) -> None:
        """Warn about what was noted since the last time; not before the first frame, for with none it is an error."""
        for _, reason in self.skipped[self._said :]:
            LOGGER.warning(f"skipped: {reason}")
        self._said = len(self.skipped)

    def batches(self) -> Iterator[list[Frame]]:
        """What a kind of source fills in."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of cameras, files and threads. May be called twice."""


def grouped(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Batches of up to `size` frames. Pictures of their own may share one; a video has its batches for itself."""
    batch: list[Frame] = []
    for frame in frames:
        if batch and (len(batch) == size or _owner(frame) != _owner(batch[0])):
            yield batch
            batch = []
        batch.append(frame)
    if batch:
        yield batch


def _owner(frame: Frame) -> str:
    return "" if frame.kind == "image" else frame.path
