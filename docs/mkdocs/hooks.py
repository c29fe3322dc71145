"""What the site shows beyond the pages of docs/, and the promise that it fetches nothing from elsewhere.

mkdocs.yml names this file; mkdocs calls the functions `on_…`. Links in docs/ are written for the tree, so that they
work in a clone: `../examples/demo.py`. Those files become pages of the site here, and links to them lead to the pages.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
# Whatever makes a browser fetch something by itself. A link (<a href>) is followed only by people.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\ssrc\s*=\s*["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b[^>]*\shref\s*=\s*["']?(?:https?:)?//[^"'\s>]+"""
    r"""|(?:@import\s+|url\()\s*["']?(?:https?:)?//[^"'\s)]+""",
    re.IGNORECASE,
)

EXAMPLES = sorted(path.name for path in (PROJECT / "examples").glob("*.py"))
DECISIONS = sorted(path.name for path in (PROJECT / "docs/decisions").glob("0*.md"))


def linked_sources() -> list[str]:
    """The source files that a page of docs/ links to."""
    pages = [path.read_text(encoding="utf-8") for path in (PROJECT / "docs").glob("*.md")]
    return sorted(
        {
            link["path"].removeprefix("../")
            for page in pages
            for link in LINK.finditer(page)
            if link["path"].startswith("../src/")
        }
    )


# Path in the tree → page of the site. The README is no page README.md: that name would make it the home page.
PAGES = {
    **{f"examples/{name}": f"examples/{name.removesuffix('.py')}.md" for name in EXAMPLES},
    "benchmarks/RESULTS.md": "benchmarks/RESULTS.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "LICENSE": "LICENSE.md",
    "README.md": "readme/en.md",
    "README.zh-CN.md": "readme/zh-CN.md",
    "README.ja.md": "readme/ja.md",
    **{path: f"{path}.md" for path in linked_sources()},
}
TREE = {page: path for path, page in PAGES.items()}


def on_config(config: Any) -> Any:
    """The two menus that are lists of files."""
    menus = {
        "Examples": [f"examples/{name.removesuffix('.py')}.md" for name in EXAMPLES],
        "Decisions": [f"decisions/{name}" for name in DECISIONS],
    }
    for item in config["nav"]:
        for title, pages in menus.items():
            if title in item:
                item[title] = [f"{title.lower()}/index.md", *pages]
    return config


def on_files(files: Files, config: Any) -> Files:
    """The pages that are made here."""
    made = {page: as_page(path) for path, page in PAGES.items()}
    made["examples/index.md"] = examples_page()
    made["decisions/index.md"] = decisions_page()
    made["cli.md"] = "# Command line\n\n" + "\n".join(command_lines())
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between files of the tree become links between pages."""
    return relinked(markdown, page.file.src_uri)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """A page that would fetch something from elsewhere ends the build."""
    check_fetches_nothing(output, page.file.src_uri)
    return output


def on_post_build(config: Any) -> None:
    """The same for style sheets, those of the theme too."""
    for path in Path(config["site_dir"]).rglob("*.css"):
        check_fetches_nothing(path.read_text(encoding="utf-8"), path.name)


def check_fetches_nothing(text: str, where: str) -> None:
    """Raise if a browser would open a connection for this page or style sheet.

    Raises:
        PluginError: it would; the message shows what is fetched.
    """
    found = FETCHED.search(text)
    if found:
        raise PluginError(
            f"{where} fetches from elsewhere: {found[0]:.200}. The site must be readable without a network."
        )


def relinked(markdown: str, page: str) -> str:
    """The text with links to files of the tree turned into links to their pages; all others stay.

    Args:
        markdown: as it stands in the tree.
        page: where it is on the site, relative to docs/.
    """
    folder = posixpath.dirname(TREE.get(page, f"docs/{page}"))

    def link(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, found["path"]))
        if path in PAGES:
            target = PAGES[path]
        elif path == "docs/decisions":
            target = "decisions/index.md"
        elif path.startswith("docs/"):
            target = path.removeprefix("docs/")
        else:
            return found[0]  # a strict build complains
        return os.path.relpath(target, posixpath.dirname(page) or ".") + (found["anchor"] or "")

    return LINK.sub(link, markdown)


def as_page(path: str) -> str:
    """A file of the tree as Markdown."""
    text = (PROJECT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    if path.endswith(".py"):
        return f'# {Path(path).name}\n\n{ast.get_docstring(ast.parse(text))}\n\n```python title="{path}"\n{text}```\n'
    return f"# Licence\n\n```text\n{text}```\n"


def examples_page() -> str:
    lines = [
        "# Examples",
        "",
        "Scripts of the folder `examples/`. Each runs as it is.",
        "",
        "| script | what it does |",
        "|---|---|",
    ]
    for name in EXAMPLES:
        about = ast.get_docstring(ast.parse((PROJECT / "examples" / name).read_text(encoding="utf-8"))) or ""
        lines.append(
            f"| [{name}]({name.removesuffix('.py')}.md) | {about.split(chr(10) * 2)[0].replace(chr(10), ' ')} |"
        )
    return "\n".join(lines) + "\n"


def decisions_page() -> str:
    lines = [
        "# Decisions",
        "",
        "What was a real choice: what we do, why, and what else there was. Numbers only order them.",
        "",
    ]
    for name in DECISIONS:
        title = (PROJECT / "docs/decisions" / name).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        lines.append(f"* [{title}]({name})")
    return "\n".join(lines) + "\n"


def command_lines() -> Iterator[str]:
    """The help of every command, from the Typer application itself."""
    import typer

    from sightline.cli.main import app

    def describe(command: Any, name: str, level: int, parent: Any = None) -> Iterator[str]:
        context = command.make_context(name, [], parent=parent, resilient_parsing=True, terminal_width=90)
        yield f"\n{'#' * level} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
        for inner, each in getattr(command, "commands", {}).items():
            if not each.hidden:
                yield from describe(each, inner, min(level + 1, 3), context)

    yield from describe(typer.main.get_command(app), "sightline", 2)
