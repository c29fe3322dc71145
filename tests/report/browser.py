"""Headless Chromium, driven over its own protocol through a pair of pipes: real clicks and drags, and all that a page
says on its console or asks of the network.

Protocol: https://chromedevtools.github.io/devtools-protocol (messages are JSON, each ended by a zero byte).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
SECONDS = 180  # that any one answer may take, on a machine that does much else
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # Chromium refuses to run as root with it, and CI is root
    "--disable-gpu",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--remote-debugging-pipe",
)
TOOLS = """
  const find = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const until = async (condition, what = condition) => {
    for (const end = performance.now() + 90e3; performance.now() < end; ) {
      const found = condition();
      if (found) return found;
      await new Promise((go) => setTimeout(go, 25));
    }
    throw new Error(`never came: ${what}`);
  };
  const tab = async (name) => {
    all('[role="tab"]').find((link) => link.textContent === name).click();
    await until(() => find("main").dataset.tab === name);
    await frame();
  };
"""


class Browser:
    """One Chromium; `open` gives pages. Used by all tests of a session, because its start takes the longest."""

    def __init__(self, scratch: Path) -> None:
        if CHROMIUM is None:
            missing = "no Chromium to look at the page with; `apt-get install chromium` brings it"
            # A skipped test is a green one: in CI that would say that pages work which nobody has opened.
            (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
        theirs_in, self.send_to = os.pipe()
        self.read_from, theirs_out = os.pipe()
        # Chromium reads from 3 and writes to 4; above 9 ours cannot be those.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (theirs_in, theirs_out)]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{high[0]} 4>&{high[1]}', CHROMIUM, *FLAGS, f"--user-data-dir={scratch}"],
            pass_fds=high,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (theirs_in, theirs_out, *high):
            os.close(fd)
        self.number = 0
        self.buffer = b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come meanwhile are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        os.write(self.send_to, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while (answer := self._next(deadline)).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read_from], [], [], max(deadline - time.monotonic(), 0))
            piece = os.read(self.read_from, 1 << 20) if ready else b""
            assert piece, f"Chromium did not answer within {SECONDS} s" if not ready else "Chromium ended"
            self.buffer += piece
        message, _, self.buffer = self.buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, address: str, *, width: int = 1200, dark: bool = False, allowed: str | None = None) -> Page:
        return Page(self, address, width=width, dark=dark, allowed=allowed)

    def close(self) -> None:
        os.close(self.send_to)  # Chromium ends with its pipe
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.read_from)


class Page:
    """One page. Leaving it (`with`) fails where it said something on its console, threw, or made a request.

    Attributes:
        problems: what it said and threw.
        requests: what it asked for beside itself and the one address that is allowed.
    """

    def __init__(self, browser: Browser, address: str, *, width: int, dark: bool, allowed: str | None) -> None:
        self.browser = browser
        self.own = (address.partition("#")[0], allowed)
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=address)
        self.run(
            'await until(() => document.readyState === "complete" && location.href !== "about:blank"); await frame();'
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **parameters)

    def run(self, steps: str) -> Any:
        """What JavaScript returns: the body of an async function that may use what `TOOLS` declares."""
        done = self.call(
            "Runtime.evaluate",
            expression=f"(async () => {{ {TOOLS} {steps} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]["exception"].get("description", done)
        return done["result"].get("value")

    def click(self, selector: str, number: int = 0) -> None:
        """On the middle of an element, as a hand does it: something that lies over it gets the click."""
        x, y, width, height = self.place(selector, number)
        self.mouse([(x + width / 2, y + height / 2)])

    def drag(self, selector: str, start: float, end: float) -> None:
        """Across an element, from and to parts of its width."""
        x, y, width, height = self.place(selector)
        self.mouse([(x + width * part, y + height / 2) for part in (start, (start + end) / 2, end)])

    def hover(self, selector: str, part: float) -> None:
        x, y, width, height = self.place(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + width * part, y=y + height / 2)

    def mouse(self, way: list[tuple[float, float]]) -> None:
        """Press at the first place, release at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(way) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*way, way[-1]], strict=True):
            buttons = 0 if kind == "mouseReleased" else 1
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1)

    def place(self, selector: str, number: int = 0) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element in the window, scrolled into it."""
        box = self.run(
            f"const box = all({json.dumps(selector)})[{number}];"
            "box.scrollIntoView({ block: 'center' }); await frame();"
            "const { x, y, width, height } = box.getBoundingClientRect(); return [x, y, width, height];"
        )
        return box[0], box[1], box[2], box[3]

    def screenshot(self, file: Path) -> None:
        """PNG of the whole page, however long."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1}
        picture = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(picture))

    @property
    def problems(self) -> list[str]:
        found = []
        for kind, facts in self._events():
            if kind == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
                found.append(" ".join(str(word.get("value", word.get("description"))) for word in facts["args"]))
            elif kind == "Runtime.exceptionThrown":
                found.append(str(facts["exceptionDetails"]))
            elif kind == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
                found.append(f"{facts['entry']['text']} {facts['entry'].get('url', '')}")
        return found

    @property
    def requests(self) -> list[str]:
        sent = [facts["request"]["url"] for kind, facts in self._events() if kind == "Network.requestWillBeSent"]
        return [url for url in sent if url.partition("#")[0] not in self.own and not url.startswith("data:")]

    def _events(self) -> list[tuple[str, Any]]:
        return [(e["method"], e["params"]) for e in self.browser.events if e.get("sessionId") == self.session]

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                self.run("await frame();")  # whatever was said is on its way before this answer
                assert not self.problems, self.problems
                assert not self.requests, self.requests
        finally:
            self.browser.call("Target.closeTarget", targetId=self.target)
