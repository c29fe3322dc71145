"""From what a user wrote after `data=` to files on the disk: find the description, fetch and unpack what is missing.

A download is declared as data, never as code:

    download: https://example.com/animals.zip            # one archive, unpacked into the data set's folder
    download:
      files:
        - url: https://example.com/images.zip
          checksum: sha256:…                             # optional; also md5:…
          into: images                                   # optional: below the data set's folder
      convert: voc                                       # optional: which labels to make YOLO labels of
    download: {make: shapes}                             # drawn by sightline itself

Everything is prepared in a temporary folder and moved into place when complete; two processes that start at once do it
once.
"""

from __future__ import annotations

import difflib
import importlib.resources
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sightline.data import samples, samples_pose
from sightline.data.archives import archive_stem, extract, is_archive
from sightline.data.formats import coco, visdrone, voc
from sightline.download import download, file_name, mirrored
from sightline.errors import DataError, MissingInputError, OutputError, SightlineError
from sightline.files import cache_folder, lock
from sightline.log import LOGGER

CONVERSIONS: dict[str, Callable[[Path], None]] = {
    "voc": voc.convert,
    "visdrone": visdrone.convert,
    "coco": coco.convert,
}
MAKERS: dict[str, Callable[[Path], None]] = {
    "shapes": samples.write_shapes,
    "shapes-pose": samples_pose.write_shapes,
}
YAML_SUFFIXES = (".yaml", ".yml")


def built_in_folder() -> Path:
    """Where the descriptions of the built-in data sets lie."""
    return Path(str(importlib.resources.files("sightline.config"))) / "datasets"


def built_in_names() -> list[str]:
    return sorted(path.stem for path in built_in_folder().glob("*.yaml"))


# ------------------------------------------------------------------------------------------------- finding


def find_yaml(data: str | os.PathLike[str]) -> tuple[Path, bool]:
    """The YAML file that `data` stands for; see `load_dataset_spec` for what it may be.

    Returns:
        The file, and whether it came out of an archive: then the data is beside it, whatever its `path` says.

    Raises:
        MissingInputError: there is none; the message has near names.
        DataError: a folder or archive without a YAML file, or with several.
    """
    text = os.fspath(data)
    if urlsplit(text).scheme in ("http", "https"):
        return _from_address(text)
    path = Path(text).expanduser()
    if os.path.isdir(path):  # a Path's own method raises for names that no file can have
        return _in_folder(path), False
    if os.path.isfile(path) and is_archive(path):
        return _in_folder(_unpacked(path, cache_folder("datasets") / archive_stem(path))), True
    candidates = (
        [path] if path.suffix in YAML_SUFFIXES else [path, *(Path(f"{path}{suffix}") for suffix in YAML_SUFFIXES)]
    )
    for candidate in candidates:
        if os.path.isfile(candidate):
            if candidate.suffix not in YAML_SUFFIXES:
                raise DataError(
                    f"data={text} is a {candidate.suffix or 'nameless'} file; it should be a YAML, zip or tar file."
                )
            return candidate, False
    if path.parent == Path("."):
        for name in built_in_names():
            if name.lower() == path.name.removesuffix(path.suffix if path.suffix in YAML_SUFFIXES else "").lower():
                return built_in_folder() / f"{name}.yaml", False
    raise MissingInputError(_not_found(text, path))


def _not_found(text: str, path: Path) -> str:
    folder = path.parent
    beside = sorted(p.name for p in folder.glob("*.y*ml")) if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=3) + difflib.get_close_matches(
        path.stem, built_in_names(), n=3
    )
    where = f"no such file in {folder.resolve()}" if folder.is_dir() else f"the folder {folder} does not exist"
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"data={text}: {where}.{meant} Built-in data sets: {', '.join(built_in_names())}."


def _in_folder(place: Path) -> Path:
    folder = place.resolve()  # `.` has no name
    found = sorted(path for path in folder.iterdir() if path.suffix in YAML_SUFFIXES)
    if not found:  # an archive that holds one folder
        below = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
        if len(below) == 1:
            found = sorted(path for path in below[0].iterdir() if path.suffix in YAML_SUFFIXES)
    named = [path for path in found if path.stem == folder.name]
    if len(found) == 1 or len(named) == 1:
        return (named or found)[0]
    names = ", ".join(path.name for path in found) or "none"
    raise DataError(
        f"data={place}: the folder should have exactly one YAML file, or one called {folder.name}.yaml; found {names}."
    )


def _from_address(url: str) -> tuple[Path, bool]:
    name = file_name(url)
    folder = cache_folder("datasets")
    if name.endswith(YAML_SUFFIXES):
        return download(url, folder / name), False
    if not is_archive(name):
        raise DataError(f"data={url}: the address should end in .yaml, .zip, .tar, .tar.gz or .tgz.")
    target = folder / archive_stem(name)
    if target.is_dir():
        return _in_folder(target), True
    archive = download(url, folder / ".downloads" / name)
    unpacked = _unpacked(archive, target)
    archive.unlink(missing_ok=True)
    return _in_folder(unpacked), True


def _unpacked(archive: Path, target: Path) -> Path:
    """The folder an archive was unpacked to, now or before; before counts only for the same archive."""
    status = archive.stat()
    mark, stamp = target / ".sightline-source", f"{status.st_size} {status.st_mtime_ns}"
    with lock(target.with_name(f".{target.name}.lock")):
        if target.is_dir() and mark.is_file() and mark.read_text() == stamp:
            return target
        with _scratch(target) as scratch:
            LOGGER.info(f"Unpacking {archive} to {target}")
            extract(archive, scratch)
            (scratch / mark.name).write_text(stamp)
            if target.exists():
                shutil.rmtree(target)
            os.replace(scratch, target)
    return target


# ------------------------------------------------------------------------------------------------- fetching


def fetch(declared: Any, root: Path, *, is_there: Callable[[], bool], source: str, licence: str = "") -> None:
    """Bring a data set to `root`, unless another process did it meanwhile.

    Args:
        declared: the value of `download` in the description.
        is_there: whether what was missing is there now.

    Raises:
        DataError: `download` is not one of the forms above; text that would have to be executed is refused.
        DownloadError, OutputError: as they say.
    """
    files, convert, make = _declaration(declared, source)
    if licence:
        LOGGER.info(f"{source}: {licence}")
    with lock(root.with_name(f".{root.name}.lock")):
        if is_there():
            return
        with _scratch(root) as scratch:
            if make:
                make(scratch)
            for number, item in enumerate(files):
                _fetch_file(item, scratch, root, number)
            if convert:
                LOGGER.info(f"Converting labels of {root.name}")
                convert(scratch)
            _merge(scratch, root)
    for item in files:
        (root.parent / ".downloads" / file_name(item["url"])).unlink(missing_ok=True)


def _declaration(
    declared: Any, source: str
) -> tuple[list[dict[str, str]], Callable[[Path], None] | None, Callable[[Path], None] | None]:
    """(files, conversion, maker); addresses of built-in data sets are replaced by those of the user's mirror."""
    built_in = Path(source).absolute().parent == built_in_folder()
    if isinstance(declared, str):
        if not re.fullmatch(r"https?://\S+", declared.strip()):
            raise DataError(
                f"{source}: the data is not there, and `download` holds Python or shell text, which sightline does not "
                "execute. Fetch the data yourself, or write the address of an archive there (`download: https://…/data.zip`)."
            )
        declared = {"files": [{"url": declared.strip()}]}
    elif isinstance(declared, list):
        declared = {"files": [{"url": item} if isinstance(item, str) else item for item in declared]}
    if not isinstance(declared, Mapping) or not declared.keys() <= {"files", "convert", "make"}:
        raise DataError(f"{source}: `download` should be an address, or have the keys files, convert, make.")
    files = []
    for item in declared.get("files") or []:
        url = item.get("url") if isinstance(item, Mapping) else None
        if not isinstance(url, str) or not is_archive(file_name(url)) or not item.keys() <= {"url", "checksum", "into"}:
            raise DataError(
                f"{source}: every file of `download` needs a `url` of a zip or tar file, and may have `checksum` and "
                f"`into`; found {item!r:.100}."
            )
        if ".." in Path(item.get("into", "")).parts or Path(item.get("into", "")).is_absolute():
            raise DataError(f"{source}: `into: {item['into']}` of `download` should be a folder inside the data set.")
        files.append({**item, "url": mirrored(url) if built_in else url})
    for key, table in (("convert", CONVERSIONS), ("make", MAKERS)):
        if declared.get(key) is not None and declared[key] not in table:
            raise DataError(f"{source}: `{key}: {declared[key]}` of `download` should be one of {', '.join(table)}.")
    return files, CONVERSIONS.get(declared.get("convert", "")), MAKERS.get(declared.get("make", ""))


def _fetch_file(item: Mapping[str, str], scratch: Path, root: Path, number: int) -> None:
    name = file_name(item["url"])
    archive = download(item["url"], root.parent / ".downloads" / name, checksum=item.get("checksum"))
    LOGGER.info(f"Unpacking {name}")
    place = scratch / f".unpacked{number}"
    try:
        extract(archive, place)
    except DataError:
        archive.unlink(missing_ok=True)  # what was sent is no archive; the next attempt should not find it
        raise
    # `coco8.zip` holds one folder `coco8`, which is the data set itself.
    inside = [path for path in place.iterdir() if path.name != "__MACOSX"]
    content = inside[0] if len(inside) == 1 and inside[0].is_dir() and inside[0].name == root.name else place
    _merge(content, scratch / item.get("into", ""))
    shutil.rmtree(place, ignore_errors=True)


def _merge(source: Path, target: Path) -> None:
    """Move everything below `source` to `target`; files that are there already stay as they are."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
        return
    for path in list(source.iterdir()):
        place = target / path.name
        if path.is_dir() and place.is_dir():
            _merge(path, place)
        elif not place.exists():
            os.replace(path, place)


class _scratch:
    """A folder beside `target`, gone at the end unless it was moved away."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> Path:
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix=f".{self.target.name}.", dir=self.target.parent))
            self.path.chmod(0o755)
        except OSError as error:
            raise OutputError(
                f"Cannot write in {self.target.parent}: {error.strerror or error}. "
                "Set SIGHTLINE_DATASETS to a folder you may write to."
            ) from error
        return self.path

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, SightlineError):
            raise OutputError(f"Cannot write in {self.target.parent}: {error.strerror or error}.") from error
