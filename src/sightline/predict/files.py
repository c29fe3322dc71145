"""Image and video files as a source."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from sightline import download
from sightline.data.images import ImageError, read_image
from sightline.errors import DownloadError, SettingValueError
from sightline.log import LOGGER
from sightline.predict.frames import Frame, Source, grouped

VIDEO_SUFFIXES = frozenset(
    {"asf", "avi", "gif", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ts", "webm", "wmv"}
)  # as OpenCV and FFmpeg read them


def suffix_of(path: str) -> str:
    """Lower case, without the dot; of an address without its query."""
    name = download.file_name(path) if is_address(path) else path
    return Path(name).suffix.lower().lstrip(".")


def is_address(path: str) -> bool:
    return path.lower().startswith(("http://", "https://"))


class FileSource(Source):
    """Images first, then videos, each in the order given. What cannot be read is skipped, said and counted.

    Args:
        name: what was asked for.
        paths: files, or http(s) addresses of files, which are fetched one after the other. One of an unknown kind is
            tried as an image.
        batch: frames at a time.
        vid_stride: every how many frames of a video one is taken.
        channels: of the images, as the network wants them.

    Raises:
        SettingValueError: a video, but the network does not take 3 channels.
    """

    def __init__(self, name: str, paths: Sequence[str], *, batch: int, vid_stride: int, channels: int) -> None:
        super().__init__(name)
        self.images = [path for path in paths if suffix_of(path) not in VIDEO_SUFFIXES]
        self.videos = [path for path in paths if suffix_of(path) in VIDEO_SUFFIXES]
        if self.videos and channels != 3:
            raise SettingValueError(
                f"source: {self.videos[0]} is a video, which has 3 channels, but the network takes {channels}."
            )
        self._batch, self._vid_stride, self._channels = batch, vid_stride, channels
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # for what is fetched

    def __len__(self) -> int:
        return len(self.images) + len(self.videos)

    def batches(self) -> Iterator[list[Frame]]:
        try:
            yield from grouped(self._frames(), self._batch)
        finally:
            self.close()

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _frames(self) -> Iterator[Frame]:
        total = len(self)
        for number, path in enumerate(self.images + self.videos, start=1):
            is_image = number <= len(self.images)
            place = f"{'image' if is_image else 'video'} {number}/{total}"
            try:
                local = self._fetch(path) if is_address(path) else path
            except DownloadError as error:
                self.skip(path, str(error))
                continue
            if is_image:
                yield from self._image(path, local, place)
            else:
                yield from self._video(path, local, place)

    def _image(self, path: str, local: str, place: str) -> Iterator[Frame]:
        try:
            image = read_image(local, self._channels)
        except ImageError as error:
            self.skip(path, str(error))
            return
        yield Frame(image=image, path=path, kind="image", title=f"{place} {path}")

    def _video(self, path: str, local: str, place: str) -> Iterator[Frame]:
        if not Path(local).is_file():  # OpenCV would give no reason
            self.skip(path, f"Cannot read video {path}: no such file.")
            return
        with opened(local) as capture:
            total = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0) if capture.isOpened() else 0
            fps = capture.get(cv2.CAP_PROP_FPS) if capture.isOpened() else 0.0
            number = 0
            while capture.isOpened() and capture.grab():
                number += 1
                if (number - 1) % self._vid_stride:
                    continue  # grabbed only: decoding is what costs
                decoded, image = capture.retrieve()
                if not decoded:
                    break
                title = f"{place} (frame {number}/{max(total, number)}) {path}"
                pixels = np.asarray(image, dtype=np.uint8)
                yield Frame(image=pixels, path=path, kind="video", title=title, number=number, fps=fps)
        if number == 0:
            self.skip(path, f"Cannot decode video {path}: OpenCV finds no frame in it.")
        elif number < total - 1:  # containers may count one frame too many
            LOGGER.warning(f"{place} {path}: the file ends after frame {number} of {total}; it is damaged.")

    def _fetch(self, address: str) -> str:
        """A local copy for as long as this source lives: what an address shows may be another picture tomorrow."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="sightline-")
        folder = Path(self._folder.name) / str(len(list(Path(self._folder.name).iterdir())))
        folder.mkdir()
        advice = "Download it another way and give the path of the file."
        return str(download.download(address, folder / (download.file_name(address) or "file"), advice=advice))


@contextlib.contextmanager
def opened(path: str | int) -> Iterator[cv2.VideoCapture]:
    """A video or camera, closed at the end whatever happens. It may turn out not to be open."""
    capture = cv2.VideoCapture(path)
    try:
        yield capture
    finally:
        capture.release()
