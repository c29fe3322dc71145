"""`sightline watch`: the page of one run over HTTP, with what is new in its folder. It only ever reads.

A browser runs what any website tells it, so a server is not private because it listens on this machine alone. Hence:
nothing but GET and HEAD; no answer to a name that is not ours (a website that lets its own name point here, "DNS
rebinding", could otherwise read along); no file outside the run folder, whatever the address spells.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from sightline.artifacts.events import NAME as EVENTS
from sightline.artifacts.validation_record import NAME as VALIDATION
from sightline.errors import SightlineError, UsageError
from sightline.report.collect import collect, run_folder
from sightline.report.page import FOR_PICTURES, data_of, page

HOST, PORT = "127.0.0.1", 8770
TRIES = 20  # ports after the usual one, for the watchers of other runs
EVERY = 2.0  # seconds between two looks of the page

# What a run folder may give away as it is: what the page is made of. Weights are large and no business of a browser,
# and HTML from a folder that somebody sent would run with the rights of this page.
KINDS = {
    ".csv": "text/csv; charset=utf-8",
    ".jsonl": "text/plain; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".yaml": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".jpg": "image/jpeg",
    ".png": "image/png",
}


class WatchedRun:
    """What the page says of a run, made again when its files have changed.

    Args:
        place: a run folder, or a file in it.
        every: seconds between two looks of the page.

    Raises:
        MissingFileError: it is no run folder.
    """

    def __init__(self, place: str | Path, *, every: float = EVERY) -> None:
        self.folder = run_folder(place)
        self.every = every
        self._lock = threading.Lock()  # several windows may ask at once
        self._made: tuple[str, str] = ("", "")  # tag and data of the last time

    def data(self) -> tuple[str, str]:
        """A tag that stands for the state of the files, and the JSON of that state.

        Raises:
            SightlineError, OSError: the folder cannot be read just now.
        """
        with self._lock:
            tag = self._tag()  # before reading: what changes meanwhile is new the next time
            if tag != self._made[0]:
                run = collect(self.folder, picture_bytes=FOR_PICTURES)
                self._made = (tag, data_of([run], every=self.every, tag=tag))
            return self._made

    def _tag(self) -> str:
        seen = [(file.name, status.st_mtime_ns, status.st_size) for file, status in self._files()]
        return f'"{hashlib.blake2b(repr(seen).encode(), digest_size=12).hexdigest()}"'

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        names = ["results.csv", EVENTS, "args.yaml", VALIDATION, "weights/last.pt", "weights/best.pt"]
        for file in [*(self.folder / name for name in names), *sorted(self.folder.glob("*.jpg"))]:
            if file.is_file():
                yield file, file.stat()


class Handler(BaseHTTPRequestHandler):
    """/ is the page, /data.json what it shows, /files/NAME a file of the run."""

    server: Server
    server_version, sys_version = "sightline", ""
    timeout = 30  # seconds that a connection on which nothing is said keeps its thread

    def do_GET(self) -> None:
        if problem := self._refusal():
            return self._send(*problem)
        path = self.path.partition("?")[0]
        try:
            if path == "/":
                return self._send(HTTPStatus.OK, page(self.server.run.data()[1], live=True), "text/html; charset=utf-8")
            if path == "/data.json":
                return self._data()
        except (SightlineError, OSError) as error:
            return self._send(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        file = inside(self.server.run.folder, unquote(path.removeprefix("/files/"))) if path[:7] == "/files/" else None
        if file is None:
            return self._send(HTTPStatus.NOT_FOUND, "There is no such file in this run, or none that is shown.")
        return self._send(HTTPStatus.OK, file.read_bytes(), KINDS[file.suffix])

    do_HEAD = do_GET

    def _not_allowed(self) -> None:
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, "A run can be looked at, not changed.", Allow="GET, HEAD")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _not_allowed

    def _data(self) -> None:
        tag, data = self.server.run.data()
        if self.headers.get("If-None-Match") == tag:
            return self._send(HTTPStatus.NOT_MODIFIED, b"", None, ETag=tag)
        return self._send(HTTPStatus.OK, data, "application/json; charset=utf-8", ETag=tag)

    def _refusal(self) -> tuple[HTTPStatus, str] | None:
        if not self.path.startswith("/"):
            return HTTPStatus.BAD_REQUEST, "This is no proxy."
        if not is_ours(self.headers.get("Host", ""), self.server.asked_host):
            return (
                HTTPStatus.MISDIRECTED_REQUEST,
                "This server does not answer to that name. Use the address it printed.",
            )
        return None

    def _send(
        self, status: HTTPStatus, body: str | bytes, kind: str | None = "text/plain; charset=utf-8", **headers: str
    ) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        headers |= {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
        }
        if kind is not None:
            headers |= {"Content-Type": kind, "Content-Length": str(len(content))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: a line every two seconds would bury all others."""


class Server(ThreadingHTTPServer):
    """Listens when it is made.

    Args:
        run: to show.
        host: to listen on.
        port: 0 is any that is free; None is the usual one, or one of the next if that is taken.

    Raises:
        UsageError: the port is taken, or there is no such address here.
    """

    daemon_threads = True  # an open window must not hold up the end
    allow_reuse_address = os.name == "posix"  # elsewhere this would take over the port of another programme

    def __init__(self, run: WatchedRun, host: str = HOST, port: int | None = None) -> None:
        self.run, self.asked_host = run, host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for number in [port] if port is not None else range(PORT, PORT + TRIES):
            try:
                super().__init__((host, number), Handler)
                return
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
                if taken and port is None:
                    continue
                why = "another programme uses it" if taken else error.strerror or error
                raise UsageError(
                    f"host={host} port={number} cannot be used: {why}. Give another port=, 0 for any that is free, or "
                    f"leave both out for {HOST} and the first free port from {PORT}."
                ) from None
        raise UsageError(f"The ports {PORT} to {PORT + TRIES - 1} are all in use. Give a free one with port=.")

    @property
    def address(self) -> str:
        host = self.asked_host if not ipaddress_of(self.asked_host, unspecified=True) else HOST
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}/"


def inside(folder: Path, name: str) -> Path | None:
    """The file that an address names in the folder. None where there is none, where it is of a kind that is not shown,
    or where it lies elsewhere: above, absolute, or behind a link."""
    if "\0" in name or "\\" in name or ".." in PurePosixPath(name).parts or name.startswith("/"):
        return None
    try:
        file = (folder / name).resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a ring of links, before Python 3.13
        return None
    return file if file.is_relative_to(folder.resolve()) and file.is_file() and file.suffix in KINDS else None


def is_ours(header: str, asked: str) -> bool:
    """Whether the `Host` of a request can only mean this server: a number, this machine, or what host= said. Any other
    name may be a website's own, that lets it point here."""
    name = header.rpartition("]")[0].removeprefix("[") if header.startswith("[") else header.partition(":")[0]
    return name.lower() in ("localhost", asked.lower(), socket.gethostname().lower()) or ipaddress_of(name)


def ipaddress_of(text: str, *, unspecified: bool = False) -> bool:
    """Whether the text is an address in numbers; with `unspecified`, the one that means all of a machine's."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.is_unspecified or not unspecified


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
