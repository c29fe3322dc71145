"""What a data set is: its folder, the images of each split, its classes. Read from a YAML file, never executed.

Finding the YAML behind a name, a folder, an archive or an address, and fetching what is missing, is in `obtain.py`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sightline.data import obtain
from sightline.data.formats.yolo import list_images, take_fraction
from sightline.errors import DataError, MissingFileError
from sightline.files import cache_folder
from sightline.log import LOGGER

SPLITS = ("train", "val", "test", "minival")
SIGMAS = ("kpt_oks_sigmas", "kpt_sigmas")  # two names for one thing


@dataclass(frozen=True)
class DatasetSpec:
    """One data set, with absolute paths.

    Attributes:
        yaml_path: the file it was read from, None for a dictionary.
        root: the folder the splits are relative to.
        splits: split → folders and text files that list images.
        names: class number → name, 0 … nc - 1.
        channels: of the images: 3 BGR, 1 grey, anything else as the file has it.
        kpt_shape: (K, 2 or 3) keypoints an object; flip_idx: the order of the keypoints in a mirrored image.
        kpt_oks_sigmas: (K,) how far each keypoint may be off, relative to the object's size; None for the usual ones.
        extra: the other keys of the file, as they were (kpt_names, …).
    """

    yaml_path: Path | None
    root: Path
    splits: dict[str, list[Path]]
    names: dict[int, str]
    nc: int
    channels: int = 3
    kpt_shape: tuple[int, int] | None = None
    flip_idx: tuple[int, ...] | None = None
    kpt_oks_sigmas: tuple[float, ...] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """What messages call it."""
        return str(self.yaml_path) if self.yaml_path else "the data dictionary"

    def entries(self, split: str) -> list[Path]:
        """Folders and lists of a split.

        Raises:
            MissingFileError: the data set has no such split.
        """
        if not self.splits.get(split):
            has = ", ".join(name for name, entries in self.splits.items() if entries)
            raise MissingFileError(f"{self.source} names no images for split={split}; it has {has}.")
        return self.splits[split]

    def images(self, split: str, *, fraction: float = 1.0, seed: int = 0) -> list[str]:
        """Image files of a split, sorted; see `take_fraction` for a part of them.

        Raises:
            MissingFileError: no such split, folder or image.
        """
        entries = self.entries(split)
        for entry in entries:
            if not entry.exists():
                raise MissingFileError(_missing(self, split, entry))
        return take_fraction(list_images(entries, root=self.root), fraction, seed)

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the names of the YAML file, plus `yaml_file`."""
        data: dict[str, Any] = {**self.extra, "path": str(self.root), "yaml_file": str(self.yaml_path or "")}
        for split in dict.fromkeys(("train", "val", "test", *self.splits)):
            paths = [str(path) for path in self.splits.get(split, [])]
            data[split] = paths[0] if len(paths) == 1 else paths or None
        data |= {"names": dict(self.names), "nc": self.nc, "channels": self.channels}
        if self.kpt_shape:
            data["kpt_shape"] = list(self.kpt_shape)
        if self.flip_idx:
            data["flip_idx"] = list(self.flip_idx)
        if self.kpt_oks_sigmas:
            data["kpt_oks_sigmas"] = list(self.kpt_oks_sigmas)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatasetSpec:
        """The inverse of `as_dict`; also takes what a user may have written by hand. Nothing is looked up on the disk.

        Raises:
            DataError: a key is missing or of the wrong kind.
        """
        values = {key: value for key, value in data.items() if value is not None}
        yaml_file = values.pop("yaml_file", "")
        source = Path(yaml_file) if yaml_file else None
        check_types(values, str(source or "the data dictionary"))
        root = Path(values.get("path") or ".").expanduser()
        return _make(values, source, root if root.is_absolute() else root.absolute())


# ------------------------------------------------------------------------------------------------- loading


def load_dataset_spec(
    data: str | os.PathLike[str] | Mapping[str, Any], *, split: str = "val", autodownload: bool = True
) -> DatasetSpec:
    """Read a data set's description and make sure the images of `split` are there.

    Args:
        data: a YAML file (the suffix may be left out), the name of a built-in data set, a folder with one YAML file, a
            zip or tar file, the http(s) address of any of those, or a dictionary with the keys of such a file.
        split: the one that will be evaluated.
        autodownload: fetch what is missing, when the description says from where.

    Raises:
        MissingFileError: the description or the images are not there.
        DataError: the description is wrong; the message names file and key.
        DownloadError, OutputError: fetching failed.
    """
    if isinstance(data, Mapping):
        yaml_path = Path(data["yaml_file"]) if data.get("yaml_file") else None
        values = {key: value for key, value in data.items() if key != "yaml_file" and value is not None}
    else:
        yaml_path, from_archive = obtain.find_yaml(data)
        values = read_yaml(yaml_path)
        if from_archive:
            values["path"] = str(yaml_path.parent.absolute())
    source = str(yaml_path or "the data dictionary")
    check_types(values, source)
    root = find_root(values, yaml_path, split)
    spec = _make(values, yaml_path, root)
    missing = [entry for entry in spec.entries(split) if not entry.exists()]
    if not missing:
        return spec
    if not (values.get("download") and autodownload):
        raise MissingFileError(_missing(spec, split, missing[0]))
    obtain.fetch(
        values["download"],
        root,
        is_there=lambda: all(entry.exists() for entry in spec.entries(split)),
        source=source,
        licence=str(values.get("licence", "")),
    )
    spec = _make(values, yaml_path, root)
    for entry in spec.entries(split):
        if not entry.exists():
            found = ", ".join(sorted(path.name for path in root.iterdir())[:10]) if root.is_dir() else "nothing"
            raise DataError(
                f"{source}: the download is complete, but {split}: {entry} is still not there; {root} has {found}. "
                f"Correct `path` or `{split}`, or report that the archive changed."
            )
    return spec


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML without the words yes, no, on and off as truth values: classes are called that."""


_PlainLoader.yaml_implicit_resolvers = {
    key: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a data YAML; a key without a value counts as left out.

    Raises:
        MissingFileError, DataError: not there, not text, not YAML, or not `key: value` lines.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    except OSError as error:
        raise MissingFileError(f"Cannot read {path}: {error.strerror or error}.") from error
    try:
        values = yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise DataError(f"{path} is nested too deeply for a data YAML.") from None
    if not isinstance(values, dict):
        raise DataError(f"{path} should have lines `key: value` (path, train, val, names), but holds {_kind(values)}.")
    return {str(key): value for key, value in values.items() if value is not None}


# ------------------------------------------------------------------------------------------------- checks

_TYPES: dict[str, tuple[type, ...]] = {
    "path": (str,),
    **dict.fromkeys(SPLITS, (str, list)),
    "names": (list, dict),
    "kpt_shape": (list,),
    "flip_idx": (list,),
    **dict.fromkeys(SIGMAS, (list,)),
    "channels": (int,),
}
_SAID = {str: "text", list: "a list", dict: "a mapping", int: "a whole number"}


def check_types(values: dict[str, Any], source: str) -> None:
    """Look at the keys and the kinds of their values, before anything is made of them.

    Raises:
        DataError: with file, key, what was found and what is expected.
    """
    if "val" not in values and "validation" in values:
        LOGGER.warning(f"{source}: `validation` is read as `val`; please rename it.")
        values["val"] = values.pop("validation")
    for key, kinds in _TYPES.items():
        value = values.get(key)
        if isinstance(value, tuple) and list in kinds:
            value = values[key] = list(value)
        if isinstance(value, os.PathLike) and str in kinds:
            value = values[key] = os.fspath(value)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise DataError(
                f"{source}: `{key}` is {_kind(value)}, it should be {' or '.join(_SAID[kind] for kind in kinds)}."
            )
    for key in SPLITS:
        if isinstance(values.get(key), list) and not all(isinstance(item, (str, os.PathLike)) for item in values[key]):
            raise DataError(f"{source}: every item of `{key}` should be the path of a folder or of a text file.")
    for key in ("train", "val"):
        if not values.get(key):
            raise DataError(
                f"{source} has no `{key}`{_near(key, values)}. It says where the images are: `{key}: images/{key}`."
            )
    if "names" not in values and "nc" not in values:
        raise DataError(
            f"{source} has neither `names`{_near('names', values)} nor `nc`. Add `names:` with one name a class."
        )


def _near(key: str, values: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, [str(name) for name in values if name not in _TYPES], n=1)
    return f" (but `{close[0]}`)" if close else ""


def _kind(value: Any) -> str:
    return {str: f"text ({value!r:.60})", list: "a list", dict: "a mapping", type(None): "nothing"}.get(
        type(value), f"{type(value).__name__} ({value!r:.60})"
    )


def _make(values: Mapping[str, Any], yaml_path: Path | None, root: Path) -> DatasetSpec:
    source = str(yaml_path or "the data dictionary")
    names = _names(values, source)
    kpt_shape, flip_idx = _keypoints(values, source)
    channels = values.get("channels", 3)
    if channels < 1:
        raise DataError(f"{source}: `channels` is {channels}; it should be 1 (grey), 3 (colour) or more.")
    known = {*_TYPES, "nc", "download", "licence"}
    return DatasetSpec(
        yaml_path=yaml_path,
        root=root,
        splits={split: _entries(root, values[split]) for split in SPLITS if values.get(split)},
        names=names,
        nc=len(names),
        channels=channels,
        kpt_shape=kpt_shape,
        flip_idx=flip_idx,
        kpt_oks_sigmas=_sigmas(values, kpt_shape, source),
        extra={key: value for key, value in values.items() if key not in known},
    )


def _names(values: Mapping[str, Any], source: str) -> dict[int, str]:
    nc = values.get("nc")
    if nc is not None:
        whole = isinstance(nc, int) or (isinstance(nc, float) and nc.is_integer())
        if isinstance(nc, bool) or not whole or nc < 1:
            raise DataError(f"{source}: `nc` is {nc!r}; it should be the number of classes, at least 1.")
        nc = int(nc)
    names = values.get("names")
    if names is None:
        assert nc is not None  # check_types demands one of them
        return {i: f"class_{i}" for i in range(nc)}
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        named = {int(key): str(value) for key, value in names.items()}
    except (TypeError, ValueError):
        raise DataError(f"{source}: the keys of `names` should be 0, 1, 2, …; found {list(names)[:5]!r}.") from None
    if not named:
        raise DataError(f"{source}: `names` is empty; a data set has at least one class.")
    if sorted(named) != list(range(len(named))) or len(named) != len(names):
        raise DataError(
            f"{source}: the keys of `names` should be 0 … {len(names) - 1} without a gap, one for each of the "
            f"{len(names)} classes; found {', '.join(map(str, sorted(named)[:20]))}."
        )
    if nc is not None and nc != len(named):
        raise DataError(
            f"{source}: `nc` is {nc}, but `names` has {len(named)} classes. Leave `nc` out, or correct one of them."
        )
    return dict(sorted(named.items()))


def _keypoints(values: Mapping[str, Any], source: str) -> tuple[tuple[int, int] | None, tuple[int, ...] | None]:
    shape, flip = values.get("kpt_shape"), values.get("flip_idx")
    if shape is None:
        return None, None
    if len(shape) != 2 or not all(isinstance(side, int) and side > 0 for side in shape) or shape[1] not in (2, 3):
        raise DataError(f"{source}: `kpt_shape` is {shape}; it should be [K, 2] (x, y) or [K, 3] (x, y, visibility).")
    if flip and sorted(map(str, flip)) != sorted(map(str, range(shape[0]))):
        raise DataError(
            f"{source}: `flip_idx` should have each of 0 … {shape[0] - 1} once, for {shape[0]} keypoints; found {flip}."
        )
    return (shape[0], shape[1]), tuple(int(i) for i in flip) if flip else None


def _sigmas(values: Mapping[str, Any], kpt_shape: tuple[int, int] | None, source: str) -> tuple[float, ...] | None:
    given = [name for name in SIGMAS if values.get(name) is not None]
    if not given:
        return None
    name = given[0]
    if len(given) > 1 and values[given[0]] != values[given[1]]:
        raise DataError(f"{source}: `{given[0]}` and `{given[1]}` mean the same, but differ. Remove one of them.")
    if kpt_shape is None:
        raise DataError(f"{source}: `{name}` needs `kpt_shape: [K, 3]` beside it, for K keypoints.")
    found = values[name]
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 for value in found)
    if len(found) != kpt_shape[0] or not numbers:
        raise DataError(
            f"{source}: `{name}` should have {kpt_shape[0]} numbers above 0, one a keypoint; found {found!r:.120}."
        )
    return tuple(float(value) for value in found)


# ------------------------------------------------------------------------------------------------- paths


def find_root(values: Mapping[str, Any], yaml_path: Path | None, split: str) -> Path:
    """The data set's folder: `path` as it is when absolute, else below the YAML's folder, the working directory, or the
    datasets folder: the first of them that has the split, else the first that exists, else the last."""
    named = Path(str(values.get("path") or ".")).expanduser()
    beside = yaml_path.parent.absolute() if yaml_path else Path.cwd()
    if named.is_absolute():
        return named
    if "download" in values and yaml_path and _is_built_in(yaml_path):
        return cache_folder("datasets") / named  # never into the installed package
    candidates = [_normal(base / named) for base in (beside, Path.cwd(), cache_folder("datasets"))]
    if values.get("path") is None:
        candidates = candidates[:1]
    for root in candidates:
        if all(entry.exists() for entry in _entries(root, values.get(split) or values["train"])):
            return root
    existing = [root for root in candidates if root.is_dir()]
    if existing and not values.get("download"):
        return existing[0]
    return candidates[-1]


def _is_built_in(yaml_path: Path) -> bool:
    return yaml_path.absolute().parent == obtain.built_in_folder()


def _entries(root: Path, value: str | list[str]) -> list[Path]:
    """Absolute paths of a split's entries. Some tools export `../train/images` for a folder beside the YAML."""
    entries = []
    for item in [value] if isinstance(value, (str, os.PathLike)) else value:
        text = str(item)
        path = _normal(root / Path(text).expanduser())
        if text.startswith("../") and not path.exists() and (root / text[3:]).exists():
            path = _normal(root / text[3:])
        entries.append(path)
    return entries


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _missing(spec: DatasetSpec, split: str, entry: Path) -> str:
    return (
        f"{spec.source}: {split}: {entry} does not exist. `{split}` is looked up in the data set's folder {spec.root}; "
        f"a relative `path` is tried beside the YAML file, in the working directory and in {cache_folder('datasets')}."
    )
