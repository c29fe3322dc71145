"""A web server on 127.0.0.1 for tests of downloads: it can cut connections, forget ranges and change files."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """files: name → content. asked: (name, Range header or None) of every request."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    cut_after: list[int] = field(default_factory=list)  # bytes to send in the coming requests before the line goes dead
    fail_with: list[int] = field(default_factory=list)  # status codes for the coming requests
    redirect: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    tags: bool = True


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            server.asked.append((name, self.headers.get("Range")))
            if server.fail_with:
                self.send_error(server.fail_with.pop(0))
                return
            if name in server.redirect:
                self.send_response(302)
                self.send_header("Location", server.redirect[name])
                self.end_headers()
                return
            content = server.files.get(name)
            if content is None:
                self.send_error(404)
                return
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            start = 0
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if wanted and server.ranges and self.headers.get("If-Range", tag) == tag:
                start = int(wanted.group(1))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.end_headers()
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if server.tags:
                self.send_header("ETag", tag)
            self.end_headers()
            body = content[start:]
            self.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
