"""What a user gets back for one picture: the picture, the objects found in it, and ways to look at and keep them."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sightline.errors import MissingExtraError, OutputError, SettingValueError
from sightline.ops.boxes import clip_boxes
from sightline.structures.boxes import Array, Boxes, as_numpy
from sightline.structures.draw import Colour, class_colour, default_line_width, default_text_size, draw_boxes
from sightline.structures.keypoints import Keypoints
from sightline.structures.pictures import Picture, check_display, has_windows, show_picture, write_picture
from sightline.structures.skeleton import draw_keypoints

__all__ = ["Boxes", "Keypoints", "Results"]


class Results:
    """The objects found in one picture.

    Attributes:
        orig_img: (H, W, 3) uint8 BGR, as decoded.
        orig_shape: (H, W).
        path: of the file or stream; "image0.jpg" and so on for pictures from memory.
        names: class number → name; a plain list is numbered from 0.
        boxes: `Boxes`, or None.
        keypoints: `Keypoints`, one row for each of `boxes`, or None.
        masks, obb, probs: None; tasks that fill them come later.
        speed: milliseconds of this picture for "preprocess", "inference" and "postprocess".
        save_dir: the folder of the run that found the objects, or None when nothing is saved.
    """

    def __init__(
        self,
        orig_img: Picture,
        path: str | os.PathLike[str],
        names: Mapping[int, str] | Sequence[str],
        boxes: Array | None = None,
        *,
        keypoints: Array | None = None,
        speed: Mapping[str, float | None] | None = None,
        save_dir: Path | None = None,
    ) -> None:
        self.orig_img = orig_img
        self.orig_shape: tuple[int, int] = (int(orig_img.shape[0]), int(orig_img.shape[1]))
        self.boxes = None if boxes is None else Boxes(boxes, self.orig_shape)
        self.masks: None = None
        self.keypoints = None if keypoints is None else Keypoints(keypoints, self.orig_shape)
        self.obb: None = None
        self.probs: None = None
        self.speed = dict(speed) if speed else {"preprocess": None, "inference": None, "postprocess": None}
        self.names: dict[int, str] = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
        self.path = os.fspath(path)
        self.save_dir = save_dir

    # ---- how many, which, where they live -----------------------------------------------------------------------

    def __len__(self) -> int:
        found: Boxes | Keypoints | None = self.keypoints if self.boxes is None else self.boxes
        return 0 if found is None else len(found)

    def __getitem__(self, index: Any) -> Results:
        """The same picture with only these objects: an index, a slice, a list or a mask."""
        return self._changed(lambda found: found[index])

    def __repr__(self) -> str:
        height, width = self.orig_shape
        return f"Results({self.path!r}, {width}x{height}: {self.verbose().rstrip(', ')})"

    def cpu(self) -> Results:
        return self._changed(lambda found: found.cpu())

    def numpy(self) -> Results:
        return self._changed(lambda found: found.numpy())

    def cuda(self) -> Results:
        return self._changed(lambda found: found.cuda())

    def to(self, *args: Any, **kwargs: Any) -> Results:
        """As `Tensor.to`, for everything that was found."""
        return self._changed(lambda found: found.to(*args, **kwargs))

    def new(self) -> Results:
        """The same picture, nothing found yet."""
        return Results(self.orig_img, self.path, self.names, speed=self.speed, save_dir=self.save_dir)

    def update(self, boxes: Array | None = None, keypoints: Array | None = None) -> None:
        """Replace what was found. Boxes are moved into the picture; None leaves them as they are."""
        if keypoints is not None:
            self.keypoints = Keypoints(keypoints, self.orig_shape)
        if boxes is not None:
            replaced = Boxes(boxes, self.orig_shape)
            clipped = clip_boxes(cast(Any, replaced.xyxy), self.orig_shape)
            joined = (
                torch.cat([clipped, replaced.data[:, 4:]], dim=1)
                if isinstance(replaced.data, Tensor)
                else np.concatenate([clipped, replaced.data[:, 4:]], axis=1)
            )
            self.boxes = Boxes(joined, self.orig_shape)

    def _changed(self, change: Callable[[Any], Any]) -> Results:
        changed = self.new()
        changed.boxes = None if self.boxes is None else change(self.boxes)
        changed.keypoints = None if self.keypoints is None else change(self.keypoints)
        return changed

    # ---- as words and tables --------------------------------------------------------------------------------------

    def verbose(self) -> str:
        """Such as "2 persons, 1 dog, ", in the order of the class numbers; "(no detections), " when empty."""
        if self.boxes is None or len(self) == 0:
            return "(no detections), "
        classes, counts = np.unique(as_numpy(self.boxes.cls).astype(int), return_counts=True)
        return "".join(
            f"{count} {self._name(index)}{'s' if count > 1 else ''}, "
            for index, count in zip(classes.tolist(), counts.tolist(), strict=True)
        )

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """One dict an object: name, class, confidence, box {x1, y1, x2, y2}, when tracking track_id, and of a pose
        model keypoints {x, y[, visible]}, a list of K numbers each.

        Args:
            normalize: divide coordinates by the width and height of the picture.
            decimals: of coordinates and confidence.
        """
        if self.boxes is None:
            return []
        corners = as_numpy(self.boxes.xyxyn if normalize else self.boxes.xyxy)
        confidences, classes = as_numpy(self.boxes.conf), as_numpy(self.boxes.cls).astype(int)
        rows: list[dict[str, Any]] = []
        for corner, confidence, index in zip(corners.tolist(), confidences.tolist(), classes.tolist(), strict=True):
            box = {key: round(value, decimals) for key, value in zip(("x1", "y1", "x2", "y2"), corner, strict=True)}
            row = {"name": self._name(index), "class": index, "confidence": round(confidence, decimals), "box": box}
            rows.append(row)
        if self.boxes.id is not None:
            for row, track in zip(rows, as_numpy(self.boxes.id).astype(int).tolist(), strict=True):
                row["track_id"] = track
        for row, points in zip(rows, self._keypoint_rows(normalize=normalize), strict=False):
            columns = np.round(points, decimals).T.tolist()
            row["keypoints"] = dict(zip(("x", "y", "visible"), columns, strict=False))
        return rows

    def to_df(self, normalize: bool = False, decimals: int = 5) -> Any:
        """`summary` as a polars DataFrame; `box` is a struct column.

        Raises:
            MissingExtraError: polars is not installed.
        """
        try:
            import polars
        except ImportError as error:
            raise MissingExtraError(
                "to_df() needs polars: pip install 'sightline[dataframe]'. "
                "summary(), to_csv() and to_json() work without it."
            ) from error
        return polars.DataFrame(self.summary(normalize=normalize, decimals=decimals))

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """`summary` as CSV text, one row an object: name, class, confidence, x1, y1, x2, y2[, track_id], and for every
        keypoint kpt0_x, kpt0_y[, kpt0_visible]."""
        flat = [
            {key: value for key, value in row.items() if key not in ("box", "keypoints")}
            | row["box"]
            | {
                f"kpt{number}_{name}": value
                for name, values in row.get("keypoints", {}).items()
                for number, value in enumerate(values)
            }
            for row in self.summary(normalize=normalize, decimals=decimals)
        ]
        columns = ["name", "class", "confidence", "x1", "y1", "x2", "y2"]
        if self.boxes is not None and self.boxes.is_track:
            columns.append("track_id")
        if self.keypoints is not None:
            numbers = ("x", "y", "visible")[: self.keypoints.shape[2]]
            columns += [f"kpt{number}_{name}" for number in range(self.keypoints.shape[1]) for name in numbers]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        return text.getvalue()

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """`summary` as JSON text."""
        return json.dumps(self.summary(normalize=normalize, decimals=decimals), indent=2, ensure_ascii=False)

    # ---- as a picture -----------------------------------------------------------------------------------------------

    def plot(
        self,
        conf: bool = True,
        line_width: float | None = None,
        font_size: float | None = None,
        font: str | None = None,
        pil: bool = False,
        img: Picture | None = None,
        kpt_radius: int = 5,
        kpt_line: bool = True,
        labels: bool = True,
        boxes: bool = True,
        masks: bool = True,
        probs: bool = True,
        show: bool = False,
        save: bool = False,
        filename: str | os.PathLike[str] | None = None,
        color_mode: str = "class",
        txt_color: Colour | None = None,
    ) -> Any:
        """Draw what was found on a copy of the picture.

        Args:
            conf: write the score behind the name.
            line_width: pixels; None follows the size of the picture.
            font_size: pixels; None follows the line width.
            font: path or name of a TrueType font.
            pil: return a PIL image (RGB) instead of an array.
            img: draw on this (H, W, 3) BGR picture instead.
            kpt_radius: pixels of a keypoint's dot.
            kpt_line: draw the limbs of people (17 keypoints).
            labels: write names.
            boxes: draw boxes.
            masks: for the tasks that have them; without effect on boxes.
            probs: as `masks`.
            show: also show the picture.
            save: also save it, as the method `save` does.
            filename: where to.
            color_mode: "class", one colour a class, or "instance", one an object.
            txt_color: BGR of the letters; None chooses dark or light for each background.

        Returns:
            (H, W, 3) uint8 BGR, or a PIL image.

        Raises:
            SettingValueError: an unknown color_mode.
        """
        if color_mode not in ("class", "instance"):
            raise SettingValueError(f"color_mode={color_mode!r}: allowed are 'class' and 'instance'.")
        picture = _colour_copy(self.orig_img if img is None else img)
        width = max(round(line_width), 1) if line_width else default_line_width(picture.shape)
        if boxes and self.boxes is not None:
            classes = as_numpy(self.boxes.cls).astype(int).tolist()
            draw_boxes(
                picture,
                as_numpy(self.boxes.xyxy),
                self._labels(conf=conf) if labels else [""] * len(self),
                [class_colour(number) for number in (classes if color_mode == "class" else self._instances())],
                line_width=width,
                text_size=max(round(font_size), 1) if font_size else default_text_size(picture.shape, width),
                text_colour=txt_color,
                font=font,
            )
        if self.keypoints is not None:
            points = as_numpy(self.keypoints.data)
            draw_keypoints(picture, points, radius=max(kpt_radius, 1), line_width=width, limbs=kpt_line)
        if show:
            _show(picture, self.path)
        if save:
            write_picture(filename or self._default_filename(), picture)
        if pil:
            from PIL import Image

            return Image.fromarray(picture[..., ::-1])
        return picture

    def show(self, **plot_args: Any) -> None:
        """Show the annotated picture in a window, or with the system's viewer.

        Raises:
            OutputError: this machine has no display.
        """
        _show(self.plot(**plot_args | {"pil": False}), self.path)

    def save(self, filename: str | os.PathLike[str] | None = None, **plot_args: Any) -> str:
        """Write the annotated picture; returns the path.

        Args:
            filename: None writes `results_<name of the picture>` into the working directory.
            plot_args: as for `plot`.

        Raises:
            OutputError: the file cannot be written.
        """
        picture = self.plot(**plot_args | {"pil": False})
        return str(write_picture(filename or self._default_filename(), picture))

    def save_crop(self, save_dir: str | os.PathLike[str], file_name: str | os.PathLike[str] = "im.jpg") -> list[str]:
        """Write every object as a picture of its own, `<save_dir>/<class name>/<file_name>`, "-2", "-3" … if taken.

        Boxes grow by 2 % and 10 pixels, so that the objects are seen with a little of what is around them.

        Returns:
            The paths; boxes without any pixel in the picture are left out.
        """
        if self.boxes is None:
            return []
        height, width = self.orig_shape
        centres = as_numpy(self.boxes.xywh)
        half = centres[:, 2:] * 1.02 / 2 + 5
        corners = np.concatenate([centres[:, :2] - half, centres[:, :2] + half], axis=1)
        corners = corners.clip(0, [width, height, width, height]).astype(int)
        written = []
        for (x1, y1, x2, y2), index in zip(
            corners.tolist(), as_numpy(self.boxes.cls).astype(int).tolist(), strict=True
        ):
            if x2 > x1 and y2 > y1:
                # A name such as "knife/fork" or ".." must not lead to another folder.
                folder = Path(save_dir) / _file_part(self._name(index))
                crop = np.ascontiguousarray(self.orig_img[y1:y2, x1:x2])
                written.append(str(write_picture(_free_path(folder / Path(file_name).with_suffix(".jpg").name), crop)))
        return written

    def save_txt(self, txt_file: str | os.PathLike[str], save_conf: bool = False, *, append: bool = False) -> str:
        """Write one row an object: `class x y width height [confidence] [track id]`, normalised centre and size.

        Keypoints, `x y [confidence]` each, come before the confidence of the object.

        Nothing is written without objects; a file of an earlier call is then removed, so that what lies there always is
        this result.

        Args:
            txt_file: its folder is made.
            save_conf: add the confidence.
            append: keep the rows that are in the file already.

        Returns:
            The path, whether or not there was something to write.

        Raises:
            OutputError: the file cannot be written.
        """
        target, rows = Path(txt_file), self._text_rows(save_conf=save_conf)
        try:
            if rows:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("a" if append else "w", encoding="utf-8", newline="\n") as file:
                    file.writelines(f"{row}\n" for row in rows)
            elif not append:
                with suppress(FileNotFoundError):
                    target.unlink()
        except OSError as error:
            raise OutputError(
                f"Cannot write {target}: {error.strerror or error}. Choose a folder you may write to, with free space."
            ) from error
        return str(target)

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _name(self, index: int) -> str:
        return str(self.names.get(index, f"class{index}"))

    def _instances(self) -> list[int]:
        """A number for every object: its track, which keeps its colour from frame to frame, else its row."""
        if self.boxes is not None and self.boxes.id is not None:
            return [int(track) for track in as_numpy(self.boxes.id).tolist()]
        return list(range(len(self)))

    def _labels(self, *, conf: bool) -> list[str]:
        """Such as "id:7 person 0.87"."""
        assert self.boxes is not None
        classes, scores = as_numpy(self.boxes.cls).astype(int).tolist(), as_numpy(self.boxes.conf).tolist()
        tracks = [] if self.boxes.id is None else as_numpy(self.boxes.id).astype(int).tolist()
        fronts: Iterable[str] = (f"id:{track} " for track in tracks) if tracks else [""] * len(classes)
        return [
            f"{front}{self._name(index)}{f' {score:.2f}' if conf else ''}"
            for front, index, score in zip(fronts, classes, scores, strict=True)
        ]

    def _text_rows(self, *, save_conf: bool) -> list[str]:
        if self.boxes is None:
            return []
        columns = [as_numpy(self.boxes.cls)[:, None], as_numpy(self.boxes.xywhn)]
        if self.keypoints is not None:
            rows = self._keypoint_rows(normalize=True)  # (N, K, D); numpy cannot tell the width of none by itself
            columns.append(rows.reshape(len(rows), rows.shape[1] * rows.shape[2]))
        if save_conf:
            columns.append(as_numpy(self.boxes.conf)[:, None])
        if self.boxes.id is not None:
            columns.append(as_numpy(self.boxes.id)[:, None])
        return [" ".join(f"{value:g}" for value in row) for row in np.concatenate(columns, axis=1).tolist()]

    def _keypoint_rows(self, *, normalize: bool) -> Any:
        """(N, K, 2 or 3) array; no rows without keypoints."""
        if self.keypoints is None:
            return np.zeros((0, 0, 2))
        xy = as_numpy(self.keypoints.xyn if normalize else self.keypoints.xy)
        return np.concatenate([xy, as_numpy(self.keypoints.data)[..., 2:]], axis=-1)

    def _default_filename(self) -> Path:
        return Path(f"results_{Path(self.path).name}")


def _colour_copy(picture: Picture) -> Picture:
    """(H, W, 3): grey becomes three equal channels, more than three are cut."""
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.shape[2] in (1, 2):
        picture = np.repeat(picture[..., :1], 3, axis=2)
    return np.array(picture[..., :3], dtype=np.uint8, order="C")


def _file_part(name: str) -> str:
    kept = "".join("_" if character in '/\\:*?"<>|' or ord(character) < 32 else character for character in name)
    return kept.strip(" .") or "_"


def _free_path(path: Path) -> Path:
    """The path, or the first of path-2, path-3 … that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def _show(picture: Picture, title: str) -> None:
    check_display()
    if has_windows():
        show_picture(picture, title)
        return
    from PIL import Image

    Image.fromarray(picture[..., ::-1]).show(title=title)
    sys.stdout.flush()
