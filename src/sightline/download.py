"""Fetching data sets and weights. The only file of sightline that opens a network connection.

A transfer goes to a neighbour `<name>.part`, is taken up where it was cut, is checked, and only then gets its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sightline.errors import DownloadError, MissingInputError, OutputError
from sightline.files import atomic_write, cache_folder, free_space, lock
from sightline.log import LOGGER

WEIGHTS_URL = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
# Names under which weights were released; anything else is a file of the user's, and a typo must not go to the network.
RELEASED = re.compile(r"(yolov?\d+[a-z]{0,2}\d?u?(-p[26]|-seg|-pose|-obb|-cls|-sem|-world|-worldv2)*|rtdetr-[lx])\.pt")
LAST_WITH_V = 10  # yolov10n.pt, but yolo11n.pt
WEIGHTS_LICENCE = (
    "official Ultralytics weights, licence AGPL-3.0 (not that of sightline); what you train from them may fall under it"
)
CHUNK = 1 << 18
RETRIES = 4  # after a cut connection, each time from where it was cut
TIMEOUT = 30.0  # seconds without a byte


def assets_url() -> str | None:
    """The mirror that replaces every built-in address (`SIGHTLINE_ASSETS_URL`), without a slash at the end."""
    return (os.environ.get("SIGHTLINE_ASSETS_URL") or "").rstrip("/") or None


def mirrored(url: str) -> str:
    """A built-in address, or the file of the same name on the user's mirror."""
    mirror = assets_url()
    return f"{mirror}/{file_name(url)}" if mirror else url


def file_name(url: str) -> str:
    """The last part of an address, without query; what the file will be called."""
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path).replace("\\", "/").rpartition("/")[2]


# ------------------------------------------------------------------------------------------------- weights


def fetch_weights(name: str | os.PathLike[str]) -> Path:
    """The weights file of this name: in the working directory, in the cache, or downloaded into it.

    Args:
        name: a path to an existing file, or the name of released weights such as `yolo26n.pt`.

    Raises:
        MissingInputError: there is no such file, and weights of this name were never released.
        DownloadError: it had to be downloaded and could not be; the message says what else can be done.
    """
    path = Path(name).expanduser()
    if os.path.isfile(path):  # not `path.is_file()`, which raises for names that no file can have
        return path
    if os.path.isdir(path):
        raise MissingInputError(f"{path} is a folder; give the weights file in it, such as {path / 'best.pt'}.")
    if path.name != str(name) or path.suffix not in (".pt", ".safetensors"):
        raise MissingInputError(f"Weights file {path} does not exist{_neighbours(path)}. {_meant(path)}")
    cached = cache_folder("weights") / path.name
    published = _published(path.name)
    if published != path.name and not os.path.isfile(cached):
        LOGGER.info(f"{path.name}: weights of this family are called {published}, so those are taken.")
        return fetch_weights(published)
    released = RELEASED.fullmatch(path.name) is not None
    if not os.path.isfile(cached):
        if not released and not assets_url():
            raise MissingInputError(
                f"Weights file {path.name} is neither in {Path.cwd()} nor in {cached.parent}, and no weights of "
                f"that name were released{_neighbours(path)}. Give the path of a file, "
                "or a released name such as yolo26n.pt."
            )
        _download_weights(path.name, cached)
    if released:
        LOGGER.info(f"{cached}: {WEIGHTS_LICENCE}")
    return cached


def _published(name: str) -> str:
    """A released name in the spelling under which it was: yolov12n.pt → yolo12n.pt, yolo8n.pt → yolov8n.pt."""
    family = re.match(r"yolov?(\d+)", name)
    if family is None or not RELEASED.fullmatch(name):
        return name
    return f"yolo{'v' if int(family[1]) <= LAST_WITH_V else ''}{name[family.start(1) :]}"


def _download_weights(name: str, target: Path) -> None:
    url = f"{assets_url() or WEIGHTS_URL}/{name}"
    try:
        download(url, target, expected=_begins_as_weights)
    except DownloadError as error:
        if not RELEASED.fullmatch(name):
            raise
        stem = name.partition("-")[0].removesuffix(".pt") if "rtdetr" not in name else name.removesuffix(".pt")
        raise DownloadError(
            f"{error}\nYou can go on without it: train from scratch with model={stem}.yaml, or put {name} into "
            f"{Path.cwd()} or {target.parent} yourself."
        ) from error


def _begins_as_weights(head: bytes) -> bool:
    """A zip file, a pickle as torch wrote before 1.6, or safetensors: a length in eight bytes, then JSON."""
    return head.startswith((b"PK", b"\x80")) or head[4:9] == b"\0\0\0\0{"


def _meant(path: Path) -> str:
    if RELEASED.fullmatch(f"{path.name}.pt"):
        return f"Did you mean {path.name}.yaml (a new network) or {path.name}.pt (released weights)?"
    return "Correct the path. Weights are .pt or .safetensors files; a new network is described by a .yaml file."


def _neighbours(path: Path) -> str:
    """Files beside `path` that may have been meant."""
    with contextlib.suppress(OSError):
        found = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".pt", ".safetensors"))[:8]
        if found:
            return f" ({path.parent.resolve()} has {', '.join(found)})"
    return ""


# ------------------------------------------------------------------------------------------------- transfer


def download(
    url: str,
    target: str | os.PathLike[str],
    *,
    checksum: str | None = None,
    pause: float = 1.0,
    advice: str | None = None,
    expected: Callable[[bytes], bool] | None = None,
) -> Path:
    """Fetch an http(s) address into a file.

    A transfer that was cut, now or in an earlier run, goes on where it stopped if the server still has the same file.

    Args:
        target: the file to make; nothing is fetched when it exists.
        checksum: "sha256:…" or "md5:…", when known.
        pause: seconds before the second attempt; doubled before each further one.
        advice: what to do without a network; default: put the file into its place, or name a mirror.
        expected: whether a file that begins with these bytes can be what was asked for. A login page can not.

    Raises:
        DownloadError: not http(s), not found, not reachable, cut too often, or not the expected content.
        OutputError: no permission or no space.
    """
    target = Path(target)
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url} is not an http or https address; sightline fetches nothing else.")
    with lock(target.with_name(f".{target.name}.lock")):
        if target.is_file():  # made while this process waited
            return target
        part = target.with_name(f"{target.name}.part")
        for attempt in range(RETRIES + 1):
            try:
                _transfer(url, part)
                break
            except (http.client.HTTPException, ConnectionError, TimeoutError, urllib.error.URLError, EOFError) as error:
                if attempt == RETRIES or not _worth_another_try(error):
                    raise DownloadError(_unreachable(url, target, part, error, advice)) from error
                time.sleep(pause * 2**attempt)
            except OutputError:
                raise
            except OSError as error:
                part.unlink(missing_ok=True)
                raise OutputError(
                    f"Cannot write {part}: {error.strerror or error}. Free some space or set SIGHTLINE_CACHE."
                ) from error
        _verify(url, part, checksum, expected)
        os.replace(part, target)
        _state_file(part).unlink(missing_ok=True)
    return target


def _worth_another_try(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in (408, 429) or error.code >= 500
    if isinstance(error, urllib.error.URLError):  # no such host, no route, refused: an answer, not an accident
        return isinstance(error.reason, (TimeoutError, ConnectionResetError))
    return True


def _unreachable(url: str, target: Path, part: Path, error: Exception, advice: str | None) -> str:
    kept = part.stat().st_size if part.exists() else 0
    if isinstance(error, urllib.error.HTTPError):
        text = f"{url}: the server answers {error.code} {error.reason}."
        if error.code == 404:
            instead = "" if advice else f", or put the file at {target} yourself"
            return f"{text} There is no such file there. Check the name{instead}."
    else:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        text = f"Cannot fetch {url}: {reason}."
    resume = f" {kept} bytes are kept; the next attempt goes on from there." if kept else ""
    if advice:
        return f"{text} {advice}"
    return (
        f"{text}{resume} Without a network: put the file at {target} yourself, "
        "or set SIGHTLINE_ASSETS_URL to the address of a mirror."
    )


class _OnlyHttpRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) addresses and to nothing else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.HTTPError(req.full_url, code, f"a redirect to {newurl}, which is refused", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Built by hand, so that it has no handler for file, ftp or data addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _OnlyHttpRedirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _state_file(part: Path) -> Path:
    """Remembers which version of which file `part` is a piece of."""
    return part.with_name(part.name + ".json")


def _transfer(url: str, part: Path) -> None:
    """Bring `part` to its full length; what it has already is kept if it is of the same version of the file."""
    state = _read_state(part)
    done = part.stat().st_size if part.exists() and state.get("url") == url and state.get("version") else 0
    request = urllib.request.Request(url, headers={"User-Agent": "sightline", "Accept-Encoding": "identity"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", state["version"])  # another version is sent whole
    try:
        response = _opener().open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # all of it was there, or the file got shorter
            if error.headers.get("Content-Range", "").rpartition("/")[2] == str(done):
                return
            part.unlink()
            raise ConnectionError("the file on the server changed; starting over") from error
        raise
    with response:
        if not (response.status == 206 and _range_start(response) == done):
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        if total is not None and total - done > free_space(part):
            raise OutputError(
                f"{url} has {_size(total)}, but only {_size(free_space(part))} are free in {part.parent}. "
                "Free some space, or move the cache with SIGHTLINE_CACHE."
            )
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        version = "" if version.startswith("W/") else version  # a weak tag does not promise equal bytes
        with atomic_write(_state_file(part), "w", durable=False) as file:
            json.dump({"url": url, "version": version}, file)
        with open(part, "ab" if done else "wb") as file:
            for chunk in _with_progress(_chunks(response), url, part, done, total):
                file.write(chunk)
                done += len(chunk)
        if total is not None and done != total:
            raise EOFError(f"the connection was cut after {done} of {total} bytes")


def _read_state(part: Path) -> dict[str, str]:
    try:
        state = json.loads(_state_file(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _range_start(response: Any) -> int:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found.group(1)) if found else -1


def _chunks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read1(CHUNK)
        except OSError as error:  # not to be taken for a disk that cannot be written
            raise ConnectionError(str(error)) from error
        if not chunk:
            return
        yield chunk


def _with_progress(chunks: Iterator[bytes], url: str, part: Path, done: int, total: int | None) -> Iterator[bytes]:
    """Pass chunks on, with a bar on a terminal and one line elsewhere."""
    import sys

    name = part.name.removesuffix(".part")
    if not sys.stderr.isatty():
        LOGGER.info(
            f"Downloading {url}{f' ({_size(total)})' if total else ''}{f', going on at {_size(done)}' if done else ''}"
        )
        yield from chunks
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total, completed=done)
        for chunk in chunks:
            yield chunk
            progress.advance(task, len(chunk))


def _verify(url: str, part: Path, checksum: str | None, expected: Callable[[bytes], bool] | None) -> None:
    with open(part, "rb") as file:
        head = file.read(40)
    if expected is not None and not expected(head):
        _delete(part)
        raise DownloadError(
            f"{url}: this is not the file but something that begins with {head!r}. It was deleted. Open the address in "
            "a browser: a network that asks for a login, or a wrong mirror, answers with a page of its own."
        )
    if checksum is None:
        return
    kind, _, expected = checksum.partition(":")
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(part, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected.lower():
        _delete(part)
        raise DownloadError(
            f"{url}: the {kind} checksum is {digest.hexdigest()}, expected {expected}. The file was deleted. "
            "Try again; if it stays so, the file on the server was changed or something on the way changes it."
        )


def _delete(part: Path) -> None:
    part.unlink()
    _state_file(part).unlink(missing_ok=True)


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
