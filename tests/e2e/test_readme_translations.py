"""README.zh-CN.md and README.ja.md say what README.md says: the same commands, code, links, sections and figures."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
ENGLISH = (PROJECT / "README.md").read_text(encoding="utf-8")
TRANSLATIONS = ["README.zh-CN.md", "README.ja.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = "[English](README.md) | [简体中文](README.zh-CN.md) | [日本語](README.ja.md)"


def code_lines(block: str) -> list[str]:
    """What must be equal in a block: everything but comments and, in the tree, the descriptions beside the names."""
    if "├──" in block:
        names = (re.split(r"(?<=\S) {2,}", line)[0] for line in block.splitlines())
        return [name for name in names if name.strip() not in ("", "│") and not name.startswith((" ", "│ "))]
    lines = (re.sub(r"(^|\s+)#.*", "", line).rstrip() for line in block.splitlines())
    return [line for line in lines if line]


def sections(text: str) -> list[tuple[str, str]]:
    """(marks of the heading, text below it without code blocks), in order; the first part has no heading."""
    parts = re.split(r"^(#+) .*\n", FENCE.sub("", text), flags=re.MULTILINE)
    return list(zip(["", *parts[1::2]], parts[0::2], strict=True))


def links(text: str) -> Counter[str]:
    return Counter(re.findall(r"\]\(([^)\s]+)\)", text))


def inline_code(text: str) -> Counter[str]:
    return Counter(re.findall(r"`([^`\n]+)`", text))


def figures(text: str) -> Counter[str]:
    """Numbers of prose and tables, not those of code and links."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
    return Counter(re.findall(r"\d+(?:\.\d+)?", text))


def check(name: str, english: str) -> None:
    """Raise if a translation differs from the English text in what must be equal."""
    translated = (PROJECT / name).read_text(encoding="utf-8")
    blocks, its_blocks = FENCE.findall(english), FENCE.findall(translated)
    assert len(its_blocks) == len(blocks), f"{name} has {len(its_blocks)} code blocks, README.md {len(blocks)}"
    for number, ((language, text), (its_language, its_text)) in enumerate(zip(blocks, its_blocks, strict=True), 1):
        assert its_language == language, f"{name}, code block {number}"
        for line in code_lines(text):
            assert line in code_lines(its_text), f"{name}, code block {number} lacks: {line}"
        assert code_lines(its_text) == code_lines(text), f"{name}, code block {number}: lines too many or moved"
    parts, its_parts = sections(english), sections(translated)
    assert [marks for marks, _ in its_parts] == [marks for marks, _ in parts], f"{name}: headings"
    for number, ((_, text), (_, its_text)) in enumerate(zip(parts, its_parts, strict=True)):
        for what, read in (("links", links), ("`code`", inline_code), ("figures", figures)):
            there, here = read(text), read(its_text)
            equal = there <= here if what == "figures" else there == here  # a word such as "one" may become a figure
            lacks, more = sorted((there - here).elements()), sorted((here - there).elements())
            assert equal, f"{name}, {what} of section {number}: it lacks {lacks}; README.md does not have {more}"
        rows, its_rows = (len(re.findall(r"^\|", each, re.MULTILINE)) for each in (text, its_text))
        assert its_rows == rows, f"{name}, section {number}: {its_rows} rows of tables, README.md has {rows}"


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_commands_links_sections_and_figures_are_those_of_the_english_one(name: str):
    check(name, ENGLISH)


def test_each_names_all_three():
    for name in ["README.md", *TRANSLATIONS]:
        assert (PROJECT / name).read_text(encoding="utf-8").split("\n\n")[1] == LANGUAGES, name


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("epochs=100 batch=16\n", "epochs=100 batch=8\n"),  # a command
        ("(docs/resume.md)", "(docs/guards.md)"),  # a link
        ("0.70", "0.71"),  # a figure
        ("├── ops/ ", "├── op/ "),  # a name in the tree
        ("## ", "### "),  # a heading
    ],
)
def test_a_difference_is_found(before: str, after: str):
    assert before in ENGLISH
    with pytest.raises(AssertionError, match=r"README\.ja\.md"):
        check("README.ja.md", ENGLISH.replace(before, after, 1))
