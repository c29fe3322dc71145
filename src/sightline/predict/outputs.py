"""What a prediction leaves on disk: annotated pictures and videos, label files, crops, single frames."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from sightline.download import file_name
from sightline.errors import OutputError
from sightline.predict.files import is_address
from sightline.predict.frames import Frame
from sightline.structures.pictures import Picture, writable_suffix, write_picture
from sightline.structures.results import Results

_FPS = 30.0  # of a video that does not say, as cameras often do not


class Outputs:
    """Writes into one folder. Sources of the same name do not overwrite each other: `a/1.jpg` and `b/1.jpg` become
    `1.jpg` and `1-2.jpg`, their labels `1.txt` and `1-2.txt`.

    Args:
        folder: of the run.
        vid_stride: a video of every n-th frame plays at 1/n of the frames per second, so as fast as life.
    """

    def __init__(self, folder: Path, *, vid_stride: int = 1) -> None:
        self.folder = folder
        self.labels = 0  # label files written
        self._vid_stride = vid_stride
        self._stems: dict[str, str] = {}  # path of a source → its name here
        self._taken: set[str] = set()
        self._videos: dict[str, _Video] = {}

    def picture(self, frame: Frame, drawn: Picture) -> None:
        """The annotated picture, or the next frame of the annotated video."""
        stem = self._stem(frame)
        if frame.kind == "image":
            write_picture(self.folder / f"{stem}{writable_suffix(_suffix(frame.path))}", drawn)
            return
        if stem not in self._videos:
            self._videos[stem] = _Video(self.folder / stem, drawn, (frame.fps or _FPS) / self._vid_stride)
        self._videos[stem].write(drawn)

    def frame(self, frame: Frame, drawn: Picture) -> None:
        """The annotated frame of a video as a picture of its own."""
        if frame.kind != "image":
            write_picture(self.folder / f"{self._stem(frame)}_frames" / f"{frame.number}.jpg", drawn)

    def text(self, frame: Frame, result: Results, *, save_conf: bool) -> None:
        """The label file of a picture; each frame of a video has its own."""
        stem = self._stem(frame) + (f"_{frame.number}" if frame.kind != "image" else "")
        file = self.folder / "labels" / f"{stem}.txt"
        result.save_txt(file, save_conf=save_conf)
        self.labels += len(result) > 0

    def crops(self, frame: Frame, result: Results) -> None:
        stem = self._stem(frame) + (f"_{frame.number}" if frame.kind != "image" else "")
        result.save_crop(self.folder / "crops", f"{stem}.jpg")

    def close(self) -> None:
        """Finish the videos; without it they cannot be played."""
        for video in self._videos.values():
            video.close()
        self._videos.clear()

    def _stem(self, frame: Frame) -> str:
        if frame.path not in self._stems:
            wanted = _plain_stem(frame)
            stem, number = wanted, 1
            while stem in self._taken:
                number += 1
                stem = f"{wanted}-{number}"
            self._taken.add(stem)
            self._stems[frame.path] = stem
        return self._stems[frame.path]


class _Video:
    """Frames of one size, written as MPEG-4, or as motion JPEG where this OpenCV has no encoder for that."""

    def __init__(self, stem: Path, first: Picture, fps: float) -> None:
        self._size = (first.shape[1], first.shape[0])
        for code, suffix in (("mp4v", ".mp4"), ("MJPG", ".avi")):
            self.path = stem.with_name(stem.name + suffix)
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*code), fps, self._size)
            if self._writer.isOpened():
                return
        raise OutputError(
            f"Cannot write {self.path}: OpenCV has no video encoder here. Use save=False save_frames=True for pictures."
        )

    def write(self, picture: Picture) -> None:
        if (picture.shape[1], picture.shape[0]) != self._size:  # a stream that changed; players want one size
            picture = cv2.resize(picture, self._size).astype("uint8")
        self._writer.write(picture)

    def close(self) -> None:
        self._writer.release()


def _plain_stem(frame: Frame) -> str:
    """The name of the source without folder and suffix, fit for a file name."""
    path = frame.path
    if is_address(path):
        name = Path(file_name(path) or path).stem
    elif frame.kind == "stream" and not os.path.exists(path):
        name = f"camera{path}" if path.isdigit() else path
    else:
        name = Path(path).stem
    kept = "".join("_" if letter in '/\\:*?"<>|@' or ord(letter) < 32 else letter for letter in name)
    return kept.strip(" .") or "source"


def _suffix(path: str) -> str:
    return Path(file_name(path) if is_address(path) else path).suffix
