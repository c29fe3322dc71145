"""A page in headless Chromium: what it says on its console, what it asks of the network, and what it looks like after
a few clicks that a test wrote in JavaScript."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; `apt-get install chromium` brings it")

# Errors are collected before anything of the page runs. The steps run when it has been drawn, and leave their result in
# an element, where --dump-dom shows it.
BEFORE = """<script>
window.problems = [];
addEventListener("error", (event) => problems.push("error: " + event.message), true);
addEventListener("unhandledrejection", (event) => problems.push("rejection: " + event.reason));
addEventListener("securitypolicyviolation", (event) => problems.push("blocked: " + event.blockedURI));
for (const kind of ["error", "warn"]) console[kind] = (...words) => problems.push(kind + ": " + words.join(" "));
</script>"""
AFTER = """<script>
addEventListener("load", async () => {
  const wait = () => new Promise((done) => setTimeout(done, 150));
  const tab = async (name) => { location.hash = name; await wait(); };
  const find = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  let result = null;
  await wait();
  try { result = await (async () => { %s })(); } catch (error) { problems.push("steps: " + error.stack); }
  const entries = performance.getEntriesByType("resource");
  const asked = entries.map((entry) => entry.name).filter((name) => !name.startsWith("data:"));
  const output = document.createElement("pre");
  output.id = "test-output";
  output.textContent = JSON.stringify({ result, problems, asked });
  document.body.append(output);
});
</script>"""


def visit(page: Path, steps: str, scratch: Path, *, width: int = 1200) -> Any:
    """Open a page, run JavaScript in it and return what that returns.

    Args:
        page: the HTML file; it is not changed.
        steps: the body of an async function that may use `find`, `all`, `wait` and `tab`.
        scratch: a folder for the browser.
        width: of the window in pixels.

    Fails where the page says anything on its console, throws, or asks for anything that is not in it.
    """
    assert CHROMIUM is not None
    text = page.read_text(encoding="utf-8")
    changed = text.replace("<title>", f"{BEFORE}<title>", 1)
    head, _, tail = changed.rpartition("</body>")
    probe = scratch / "probe.html"
    probe.write_text(f"{head}{AFTER % steps}</body>{tail}", encoding="utf-8")
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
    arguments += [f"--user-data-dir={scratch / 'browser'}", f"--window-size={width},900", "--virtual-time-budget=20000"]
    run = subprocess.run(
        [CHROMIUM, *arguments, "--dump-dom", probe.as_uri()], capture_output=True, text=True, timeout=150, check=False
    )
    found = re.search(r'<pre id="test-output">(.*?)</pre>', run.stdout, re.DOTALL)
    assert found, f"the steps left no result: {run.stderr[-2000:]}"
    output = json.loads(html.unescape(found.group(1)))
    assert output["problems"] == [], output
    assert output["asked"] == []
    return output["result"]
