"""What `sightline watch` serves, and what it does not."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.error import HTTPError

import pytest

from report.browser import Browser
from report.run_folders import make_run
from sightline.cli.main import main
from sightline.errors import MissingFileError, UsageError
from sightline.report import serve
from sightline.report.serve import Server, WatchedRun, is_loopback


@contextmanager
def serving(folder: Path, *, host: str = "127.0.0.1") -> Iterator[Server]:
    with Server(WatchedRun(folder, every=0.2), host, port=0) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as made:
        yield made


def ask(server: Server, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; the path goes out as it is, which urllib would not do."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        if value:
            connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def add_epoch(folder: Path, number: int, value: float) -> None:
    with (folder / "results.csv").open("a") as file:
        file.write(f"{number},60,0.5,0.5,0.9,{value},0.01,0.01\n")


# ------------------------------------------------------------------ what it serves


def test_the_page_comes_with_its_data(server: Server):
    with urllib.request.urlopen(server.address) as answer:
        text = answer.read().decode()
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "connect-src 'self'" in text
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert (data["runs"][0]["name"], data["every"]) == ("run", 0.2)


def test_what_grows_is_told_and_what_does_not_is_not_sent_again(server: Server, folder: Path):
    status, headers, body = ask(server, "/data.json")
    assert (status, json.loads(body)["runs"][0]["epochs"]) == (200, 5)
    tag = headers["ETag"]
    assert ask(server, "/data.json", If_None_Match=tag)[0::2] == (304, b"")
    add_epoch(folder, 6, 0.8)
    status, headers, body = ask(server, "/data.json", If_None_Match=tag)
    (run,) = json.loads(body)["runs"]
    assert (status, run["epochs"], run["best"]["epoch"]) == (200, 6, 6)
    assert headers["ETag"] != tag
    with (folder / "events.jsonl").open("a") as file:
        file.write(
            '{"event": "skipped_step", "epoch": 6, "reason": "x"}\n{"event": "epo'
        )  # a line that is being written
    assert ask(server, "/data.json", If_None_Match=headers["ETag"])[0] == 200


def test_a_folder_that_cannot_be_read_just_now_is_said(server: Server, folder: Path):
    (folder / "results.csv").write_text("epoch\nmany\n")
    status, _, body = ask(server, "/data.json")
    assert (status, b"no table of numbers" in body) == (503, True)
    (folder / "results.csv").write_text("epoch\n1\n")
    assert ask(server, "/data.json")[0] == 200


def test_files_of_the_run_come_whole(server: Server, folder: Path):
    status, headers, body = ask(server, "/files/val_batch0_pred.jpg")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert body == (folder / "val_batch0_pred.jpg").read_bytes()
    status, headers, body = ask(server, "/files/results.csv", method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, str((folder / "results.csv").stat().st_size), b"")


# ------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize(
    "path",
    [
        "/files/../secret.csv",
        "/files/%2e%2e/secret.csv",
        "/files/..%2fsecret.csv",
        "/files/weights/../../secret.csv",
        "/files/..\\secret.csv",
        "/files/..%5csecret.csv",
        "/files/%252e%252e/secret.csv",
        "/files/{outside}/secret.csv",  # absolute
        "/files//{outside}/secret.csv",
        "/files/%2f{outside}/secret.csv",
        "/files/link.csv",  # to outside
        "/files/linked/secret.csv",
        "/files/ring.csv",
        "/files/results.csv%00.jpg",
        "/files/weights/best.pt",
        "/files/report.html",
        "/files/weights",
        "/files/",
        "/files/nothing.csv",
        "/../secret.csv",
        "/results.csv",
    ],
)
def test_nothing_outside_the_run_is_given_away(server: Server, folder: Path, path: str):
    outside = folder.parent
    (outside / "secret.csv").write_text("secret")
    (folder / "report.html").write_text("secret")
    (folder / "link.csv").symlink_to(outside / "secret.csv")
    (folder / "linked").symlink_to(outside)
    (folder / "ring.csv").symlink_to(folder / "ring.csv")
    status, _, body = ask(server, path.format(outside=outside))
    assert (status, b"secret" in body) == (404, False)


def test_a_link_within_the_run_is_no_way_out(server: Server, folder: Path):
    (folder / "again.csv").symlink_to(folder / "results.csv")
    assert ask(server, "/files/again.csv")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_nothing_can_be_changed(server: Server, folder: Path, method: str):
    def state() -> list[tuple[str, str]]:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]

    before = state()
    for path in ("/", "/data.json", "/files/results.csv"):
        assert ask(server, path, method=method)[0] in (405, 501)
        ask(server, path)
    assert state() == before


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("192.168.7.9:{port}", 200),  # reached through an address that no website can have as its name
        ("evil.example:{port}", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.example#127.0.0.1", 421),
        ("[evil]", 421),
        ("", 421),
    ],
)
def test_a_website_that_lets_its_name_point_here_gets_nothing(server: Server, host: str, status: int):
    for path in ("/", "/data.json", "/files/results.csv"):
        assert ask(server, path, Host=host.format(port=server.server_address[1]))[0] == status
    assert ask(server, "http://evil.example/data.json")[0] == 400


def test_it_listens_on_this_machine_alone_unless_told_otherwise(folder: Path):
    with Server(WatchedRun(folder), port=0) as server:
        assert server.server_address[0] == "127.0.0.1"
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "box")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    with serving(folder, host="0.0.0.0") as server:
        assert urllib.request.urlopen(f"{server.address}data.json").status == 200  # an address that can be opened
        with pytest.raises(HTTPError, match="421"):
            urllib.request.urlopen(urllib.request.Request(server.address, headers={"Host": "evil.example"}))


# ------------------------------------------------------------------ the command


def test_a_port_that_is_taken_is_an_error_or_the_next_one(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run = WatchedRun(folder)
    with Server(run, port=0) as first:
        taken = first.server_address[1]
        with pytest.raises(UsageError, match=f"port={taken} cannot be used: another programme uses it"):
            Server(run, port=taken)
        monkeypatch.setattr(serve, "PORT", taken)
        with Server(run) as second:
            assert taken < second.server_address[1] < taken + serve.TRIES
    with pytest.raises(UsageError, match=r"host=no\.such\.place"):
        Server(run, "no.such.place")
    with pytest.raises(MissingFileError, match="is no run folder"):
        WatchedRun(folder / "weights" / "nothing")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs one run folder, not 0"),
        (["{run}", "{run}"], "needs one run folder, not 2"),
        (["{run}", "port=many"], "port=many is not allowed. It must be a number"),
        (["{run}", "port=1.5"], "whole number"),
        (["{run}", "port=70000"], "from 0 to 65535"),
        (["{run}", "every=0"], "from 0.2 to 3600"),
        (["{run}", "--write"], "watch does not know --write"),
    ],
)
def test_wrong_words_are_one_error(folder: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["watch", *(word.format(run=folder) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_ctrl_c_ends_it_cleanly(folder: Path):
    command = [sys.executable, "-m", "sightline", "watch", str(folder), "port=0"]
    default = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # whoever runs this in the background ignores it
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=default) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.partition(" at ")[2].partition(" ")[0]
        assert address.startswith("http://127.0.0.1:"), line
        assert urllib.request.urlopen(address).status == 200
        process.send_signal(signal.SIGINT)
        rest, problems = process.communicate(timeout=20)
    assert (process.returncode, rest.strip(), problems) == (0, "no longer shown", "")


# ------------------------------------------------------------------ in a browser


def test_the_page_follows_the_run_and_stays_where_the_reader_is(browser: Browser, server: Server, folder: Path):
    with browser.open(f"{server.address}#curves", allowed=f"{server.address}data.json") as page:
        state = 'return find(".state").textContent;'
        assert page.run(state) == "finished, 5 epochs"
        page.drag(".chart svg", 0.45, 0.9)
        page.click("#log")
        view = 'const { from, to } = find(".chart").dataset; return [Number(from), Number(to)];'
        line = 'return find(".chart path.line").getAttribute("d");'
        before, drawn = page.run(view), page.run(line)
        page.run("scrollTo(0, 300); await frame();")
        add_epoch(folder, 6, 0.8)
        with (folder / "events.jsonl").open("a") as file:
            file.write('{"event": "epoch", "epoch": 6}\n')
        page.run('await until(() => find(".state").textContent.startsWith("all 6 epochs"));')
        assert page.run('return find("main").dataset.tab;') == "Curves"
        assert page.run(view) == before
        assert page.run(line).startswith(drawn)  # the same part of the curve, which goes on
        assert page.run('return [scrollY, find("#log").checked];') == [300, True]
        page.run('find(".chart svg").dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));')
        assert page.run(view) == [1, 6]

        page.run('await tab("Validation");')
        page.click("#classes th:nth-child(3) button")
        page.click("#classes th:nth-child(3) button")
        order = 'return all("#classes tbody tr").map((row) => row.children[2].textContent);'
        assert page.run(order) == ["0", "1", "3"]
        add_epoch(folder, 7, 0.8)
        page.run('await until(() => find(".state").textContent.startsWith("all 7 epochs"));')
        assert page.run(order) == ["0", "1", "3"]
        assert page.run('return find("#classes th:nth-child(3)").getAttribute("aria-sort");') == "ascending"
        assert page.run('return find(".live").textContent;') == "live"

        page.run('getSelection().selectAllChildren(find("#classes"));')  # to be copied, so it must not vanish
        add_epoch(folder, 8, 0.8)
        page.run('await until(() => find(".live").textContent.includes("waits"));')
        assert page.run('return getSelection().toString().includes("beta");')
        page.run("getSelection().removeAllRanges();")
        page.run('await until(() => find(".state").textContent.startsWith("all 8 epochs"));')


def test_the_page_says_when_nobody_answers_any_more(browser: Browser, folder: Path):
    with serving(folder) as server:
        page = browser.open(server.address, allowed=f"{server.address}data.json")
    page.run('await until(() => find(".live")?.classList.contains("lost"));')
    assert "sightline watch has ended" in page.run('return find(".live").textContent;')
    assert page.run('return all(".card").length;') > 3  # what was known is still there
    browser.call("Target.closeTarget", targetId=page.target)
