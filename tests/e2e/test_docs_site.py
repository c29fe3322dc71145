"""docs/mkdocs/hooks.py: links, made pages, and that nothing is fetched. `make docs` builds the real site strictly."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import sightline

PROJECT = Path(__file__).resolve().parents[2]
pytest.importorskip("mkdocs")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", PROJECT / "docs/mkdocs/hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "written", "becomes"),
    [
        ("customising.md", "[x](../examples/demo.py)", "[x](examples/demo.md)"),
        ("tutorials/index.md", "[x](../../examples/demo.py)", "[x](../examples/demo.md)"),
        ("long-runs.md", "[x](../benchmarks/RESULTS.md#results)", "[x](benchmarks/RESULTS.md#results)"),
        ("readme/ja.md", "[x](docs/data.md)", "[x](../data.md)"),  # stands at the root of the tree
        ("readme/en.md", "[x](docs/decisions/)", "[x](../decisions/index.md)"),
        ("readme/en.md", "![x](docs/pictures/shapes.jpg)", "![x](../pictures/shapes.jpg)"),
        ("CONTRIBUTING.md", "[x](README.md#the-tree)", "[x](readme/en.md#the-tree)"),
        ("data.md", "[x](augmentation.md)", "[x](augmentation.md)"),
        ("data.md", "[x](https://example.org/docs/a.md) [y](#here)", "[x](https://example.org/docs/a.md) [y](#here)"),
        ("data.md", "[x](../nowhere.md)", "[x](../nowhere.md)"),  # for the strict build to complain of
    ],
)
def test_links_lead_to_pages(hooks: ModuleType, page: str, written: str, becomes: str):
    assert hooks.relinked(written, page) == becomes


def test_every_command_is_on_the_page_of_the_command_line(hooks: ModuleType):
    page = "\n".join(hooks.command_lines())
    for command in ("train", "val", "predict", "run", "compare", "settings", "checks", "doctor overfit", "doctor run"):
        assert f"### sightline {command}\n" in page
    assert "run-words" not in page


def test_every_public_name_has_its_place_in_the_reference():
    text = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "docs/api").glob("*.md"))
    assert [name for name in sightline.__all__ if f"`{name}`" not in text] == []
    shown = {line.rsplit(".", 1)[1] for line in text.splitlines() if line.startswith("::: ")}
    classes = {name for name in sightline.__all__ if name[0].isupper() and not name.isupper()} | {"YOLO", "RTDETR"}
    assert classes - shown == set()


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://example.org/a.js"></script>',
        "<img alt=x src=//example.org/a.png>",
        '<link rel="preconnect" href="https://example.org">',
        "a { background: url(https://example.org/a.woff2) }",
        '@import "https://example.org/a.css";',
    ],
)
def test_what_would_be_fetched_is_an_error(hooks: ModuleType, text: str):
    with pytest.raises(hooks.PluginError, match=r"page fetches from elsewhere: .*example\.org"):
        hooks.check_fetches_nothing(text, "page")


def test_a_link_and_a_file_of_the_site_are_none(hooks: ModuleType):
    hooks.check_fetches_nothing('<a href="https://example.org">x</a><script src="../a.js"></script>', "page")


@pytest.mark.e2e
@pytest.mark.parametrize(("picture", "code"), [("mine.png", 0), ("https://example.org/a.png", 1)])
def test_a_build_ends_at_a_page_that_fetches(picture: str, code: int, tmp_path: Path):
    """The theme and its style sheets go through the same check."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(f'# Home\n\n<img src="{picture}">\n')
    settings = {
        "site_name": "small",
        "theme": {"name": "material", "font": False},
        "hooks": [str(PROJECT / "docs/mkdocs/hooks.py")],
        "nav": ["index.md"],
    }
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert ("index.md fetches from elsewhere" in done.stderr) == bool(code)


def test_make_docs_ends_with_an_error_where_a_link_leads_nowhere(tmp_path: Path):
    """With the flags of the Makefile: together with --quiet, --strict counts no warning."""
    recipe = re.search(r"/mkdocs build ([^#\n]*)", (PROJECT / "Makefile").read_text(encoding="utf-8"))
    assert recipe is not None
    (tmp_path / "docs").mkdir()
    (tmp_path / "mkdocs.yml").write_text("site_name: a\n", encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", *recipe[1].split()]
    for text, code in (("[x](index.md)\n", 0), ("[x](nowhere.md)\n", 1)):
        (tmp_path / "docs" / "index.md").write_text(text, encoding="utf-8")
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
