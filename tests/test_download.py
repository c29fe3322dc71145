"""Downloads from a local server: cut lines, changed files, checksums, no network; and where weights are looked for."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_server import Server, serving
from sightline import download as download_module
from sightline.download import download, fetch_weights, file_name, mirrored
from sightline.errors import DownloadError, MissingFileError, OutputError

CONTENT = os.urandom(1 << 20)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        found.files["data.bin"] = CONTENT
        yield found


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SIGHTLINE_ASSETS_URL", raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def visible(folder: Path) -> list[str]:
    """Files a user sees, without the hidden lock."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


# ------------------------------------------------------------------------------------------------- transfer


def test_a_file_arrives_once(server: Server, tmp_path: Path):
    target = tmp_path / "new folder" / "data.bin"
    for _ in range(2):
        assert download(f"{server.url}/data.bin", target).read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert visible(target.parent) == ["data.bin"]


def test_a_cut_line_is_taken_up_where_it_was(server: Server, tmp_path: Path):
    server.cut_after = [300_000, 200_000]
    assert download(f"{server.url}/data.bin", tmp_path / "a", pause=0).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=300000-", "bytes=500000-"]
    assert visible(tmp_path / ".")[:1] == ["a"]


def test_a_later_call_takes_up_an_earlier_one(server: Server, tmp_path: Path):
    server.cut_after = [100_000] * (download_module.RETRIES + 1)
    with pytest.raises(DownloadError, match=rf"cut after .* of {len(CONTENT)} bytes.*500000 bytes are kept"):
        download(f"{server.url}/data.bin", tmp_path / "a", pause=0)
    assert not (tmp_path / "a").exists()
    server.asked.clear()
    assert download(f"{server.url}/data.bin", tmp_path / "a", pause=0).read_bytes() == CONTENT
    assert server.asked == [("data.bin", "bytes=500000-")]
    assert visible(tmp_path) == ["a", "cwd"]


@pytest.mark.parametrize("change", ["content", "no ranges", "no tags", "other address"])
def test_pieces_of_different_files_are_never_joined(server: Server, tmp_path: Path, change: str):
    server.tags = change != "no tags"
    server.cut_after = [100_000] * (download_module.RETRIES + 1)
    if change == "no tags":
        server.cut_after = [100_000]
    else:
        with pytest.raises(DownloadError):
            download(f"{server.url}/data.bin", tmp_path / "a", pause=0)
    expected, name = CONTENT, "data.bin"
    if change == "content":
        expected = server.files["data.bin"] = os.urandom(1 << 20)
    elif change == "no ranges":
        server.ranges = False
    elif change == "other address":
        name = "other.bin"
        expected = server.files[name] = os.urandom(1 << 20)
    assert download(f"{server.url}/{name}", tmp_path / "a", pause=0).read_bytes() == expected


def test_a_complete_piece_is_not_fetched_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )  # stopped at the last moment
    with pytest.raises(KeyboardInterrupt):
        download(f"{server.url}/data.bin", tmp_path / "a")
    monkeypatch.undo()
    assert download(f"{server.url}/data.bin", tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_stumbles_is_asked_again(server: Server, tmp_path: Path):
    server.fail_with = [503, 429]
    assert download(f"{server.url}/data.bin", tmp_path / "a", pause=0).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_not_found_is_final(server: Server, tmp_path: Path):
    with pytest.raises(
        DownloadError, match=r"gone\.bin: the server answers 404 Not Found.*put the file at .*a yourself"
    ):
        download(f"{server.url}/gone.bin", tmp_path / "a", pause=0)
    assert len(server.asked) == 1
    assert visible(tmp_path) == ["cwd"]


def test_checksums(server: Server, tmp_path: Path):
    right = hashlib.sha256(CONTENT).hexdigest()
    download(f"{server.url}/data.bin", tmp_path / "a", checksum=f"sha256:{right.upper()}")
    download(f"{server.url}/data.bin", tmp_path / "b", checksum=f"md5:{hashlib.md5(CONTENT).hexdigest()}")
    with pytest.raises(DownloadError, match=rf"the sha256 checksum is {right}, expected 00.*was deleted"):
        download(f"{server.url}/data.bin", tmp_path / "c", checksum="sha256:" + "00" * 32)
    assert visible(tmp_path) == ["a", "b", "cwd"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "data:text/plain,x", "/etc/passwd"])
def test_only_http(url: str, tmp_path: Path):
    with pytest.raises(DownloadError, match="is not an http or https address"):
        download(url, tmp_path / "a")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_cannot_leave_http(server: Server, tmp_path: Path, target: str):
    server.redirect["data.bin"] = target
    with pytest.raises(DownloadError, match="302"):
        download(f"{server.url}/data.bin", tmp_path / "a", pause=0)
    assert not (tmp_path / "a").exists()


def test_a_redirect_is_followed(server: Server, tmp_path: Path):
    server.redirect["old.bin"] = f"{server.url}/data.bin"
    assert download(f"{server.url}/old.bin", tmp_path / "a").read_bytes() == CONTENT


def test_no_network(tmp_path: Path):
    with pytest.raises(DownloadError, match=r"Cannot fetch http://127\.0\.0\.1:9/x: .*refused.*SIGHTLINE_ASSETS_URL"):
        download("http://127.0.0.1:9/x", tmp_path / "a", pause=0)
    assert visible(tmp_path) == ["cwd"]


def test_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download_module, "free_space", lambda _: 1000)
    with pytest.raises(OutputError, match=r"data\.bin has 1 MB, but only 1 kB are free"):
        download(f"{server.url}/data.bin", tmp_path / "a")
    monkeypatch.undo()
    monkeypatch.setattr(download_module, "_with_progress", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        download(f"{server.url}/data.bin", tmp_path / "b")
    assert "b.part" not in visible(tmp_path)


def full_disk(*_args):
    raise OSError(28, "No space left on device")


def test_two_at_once_fetch_once(server: Server, tmp_path: Path):
    threads = [threading.Thread(target=download, args=(f"{server.url}/data.bin", tmp_path / "a")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_file_names_and_mirrors(monkeypatch: pytest.MonkeyPatch):
    assert file_name("https://x.org/a/b%20c.zip?token=1#top") == "b c.zip"
    assert file_name("https://x.org/a/..%2F..%2Fetc%2Fpasswd") == "passwd"
    assert mirrored("https://x.org/a/b.zip") == "https://x.org/a/b.zip"
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", "http://mirror/base/")
    assert mirrored("https://x.org/a/b.zip") == "http://mirror/base/b.zip"


# ------------------------------------------------------------------------------------------------- weights


def test_weights_are_looked_for_here_then_in_the_cache_then_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", logger="sightline")
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", server.url)
    server.files["yolo26n.pt"] = b"PK from the server"
    cached = tmp_path / "cache" / "weights" / "yolo26n.pt"
    for _ in range(2):
        assert fetch_weights("yolo26n.pt") == cached
        assert "AGPL-3.0" in caplog.text
        caplog.clear()
    assert len(server.asked) == 1
    Path("yolo26n.pt").write_bytes(b"mine")
    assert fetch_weights("yolo26n.pt").read_bytes() == b"mine"
    assert caplog.text == ""  # whose file that is, nobody knows


@pytest.mark.parametrize(
    ("name", "published"),
    [("yolov12n.pt", "yolo12n.pt"), ("yolo12n.pt", "yolo12n.pt"), ("yolo8n-seg.pt", "yolov8n-seg.pt")],
)
def test_both_spellings_of_a_family_mean_its_weights(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, published: str
):
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", server.url)
    server.files[published] = b"PK from the server"
    assert fetch_weights(name) == tmp_path / "cache" / "weights" / published
    Path(name).write_bytes(b"mine")
    assert fetch_weights(name).read_bytes() == b"mine"


@pytest.mark.parametrize("page", [b"<!doctype html><html>login</html>", b'{"code":{"not": "here"}}', b""])
def test_a_page_in_the_place_of_weights_is_not_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: bytes
):
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", server.url)
    server.files["yolo26n.pt"] = page
    with pytest.raises(DownloadError, match=r"yolo26n\.pt: this is not the file .*begins with b.*was deleted"):
        fetch_weights("yolo26n.pt")
    assert visible(tmp_path / "cache" / "weights") == []
    server.files["yolo26n.pt"] = b"PK the weights, when the network lets them through"
    assert fetch_weights("yolo26n.pt").read_bytes().startswith(b"PK")


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x80\x02\x8a", (2000).to_bytes(8, "little") + b'{"a"'])
def test_weights_of_every_kind_are_kept(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes):
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", server.url)
    server.files["yolo26n.pt"] = head
    assert fetch_weights("yolo26n.pt").read_bytes() == head


def test_weights_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"train from scratch with model=yolo26s\.yaml, or put yolo26s\.pt into"):
        fetch_weights("yolo26s.pt")


@pytest.mark.parametrize(
    "name", ["best.pt", "yolo26n-mine.pt", "yolo.pt", "runs/detect/train/weights/best.pt", "yolo26n", "/yolo26n.pt"]
)
def test_names_that_were_never_released_do_not_go_to_the_network(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download_module, "download", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(MissingFileError, match=r"Weights file .*(does not exist|is neither in)"):
        fetch_weights(name)


def test_a_missing_file_names_its_neighbours(tmp_path: Path):
    (tmp_path / "last.pt").touch()
    with pytest.raises(MissingFileError, match=r"has last\.pt"):
        fetch_weights(tmp_path / "best.pt")
    with pytest.raises(MissingFileError, match=r"is a folder; give the weights file in it"):
        fetch_weights(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["yolo26n.pt", "yolo26x-seg.pt", "yolo11m-pose.pt", "yolov8n.pt", "yolo12s.pt", "yolov5nu.pt", "rtdetr-l.pt"],
)
def test_released_names(name: str):
    assert download_module.RELEASED.fullmatch(name)


def test_a_bar_on_a_terminal_and_one_line_elsewhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", logger="sightline")
    download(f"{server.url}/data.bin", tmp_path / "a")
    assert [record.getMessage() for record in caplog.records] == [f"Downloading {server.url}/data.bin (1 MB)"]
    caplog.clear()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    download(f"{server.url}/data.bin", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == CONTENT
    assert "MB" in terminal.getvalue()
    assert caplog.text == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
