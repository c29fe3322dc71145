"""Group k: reading values and words, checking settings, suggestions, image sizes, numbered folders."""

from __future__ import annotations

import ast
import builtins
import json
import re
from pathlib import Path
from typing import Any

import pytest

from golden.golden import golden_files, register_cases, same_or_deviation
from sightline.artifacts.run_dir import increment_path
from sightline.config.command_line import merge_equals_args, parse_key_value, smart_value
from sightline.config.image_size import round_imgsz
from sightline.config.names import suggest
from sightline.config.settings import DEFAULTS, Settings
from sightline.errors import SettingsError

FILES = [param.values[0] for param in golden_files("data_metrics/k_config_cli.json")]
RECORDED: dict[str, Any] = json.loads(FILES[0].read_text()) if FILES and FILES[0] else {}

REMOVED_OR_MAPPED = "removed-or-mapped"


def plain(value: Any) -> Any:
    """As JSON has it: tuples are lists."""
    return json.loads(json.dumps(value))


def setting_name(case: dict) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in case["in"].items())


def cases(group: str, name_of: Any) -> list:
    """Parameters (case name, content). Names are made of the content, so a row of deviations.md means what it says."""
    content = RECORDED.get(group, [])
    items = content.items() if isinstance(content, dict) else ((name_of(case), case) for case in content)
    named = [(f"k_config_cli/{group}/{name}", case) for name, case in items]
    register_cases(*(name for name, _ in named))
    return [pytest.param(name, case, id=name) for name, case in named]


@pytest.mark.parametrize(("name", "case"), cases("smart_value", None))
def test_values_are_read(name: str, case: dict):
    value = smart_value(name.removeprefix("k_config_cli/smart_value/"))
    same_or_deviation(name, (type(value).__name__, plain(value)) == (case["type"], case["value"]), f"got {value!r}")


@pytest.mark.parametrize(("name", "case"), cases("merge_equals_args", lambda case: " ".join(case["in"])))
def test_words_are_merged(name: str, case: dict):
    merged = merge_equals_args(case["in"])
    same_or_deviation(name, merged == case["out"], f"got {merged}")


@pytest.mark.parametrize(("name", "case"), cases("parse_key_value", None))
def test_pairs_are_split(name: str, case: list):
    pair = parse_key_value(name.removeprefix("k_config_cli/parse_key_value/"))
    same_or_deviation(name, list(pair) == case, f"got {pair}")


@pytest.mark.parametrize(("name", "case"), cases("get_cfg", setting_name))
def test_settings_are_checked(name: str, case: dict):
    try:
        settings, error = Settings(**case["in"]), None
    except SettingsError as raised:
        settings, error = None, raised
    if not case["ok"]:
        same = isinstance(error, getattr(builtins, case["error"]))
    elif settings is None:
        same = False
    else:
        same = case["value"] == REMOVED_OR_MAPPED or [plain(settings.get(key)) for key in case["in"]] == [case["value"]]
    same_or_deviation(name, same, f"got {error or settings}")


@pytest.mark.parametrize(("name", "case"), cases("suggest", lambda case: case["in"]))
def test_suggestions(name: str, case: dict):
    listed = re.search(r"(\[.*\])", case["message"])
    recorded = ast.literal_eval(listed[1]) if listed else []
    near = suggest(case["in"], DEFAULTS)
    same_or_deviation(name, near == recorded, f"got {near}, recorded {recorded}")
    with pytest.raises(getattr(builtins, case["error"])):
        Settings(**{case["in"]: 1})


@pytest.mark.parametrize(
    ("name", "case"), cases("check_imgsz", lambda case: f"{json.dumps(case['imgsz'])} {json.dumps(case['kwargs'])}")
)
def test_image_sizes_are_rounded(name: str, case: dict):
    rounded = round_imgsz(case["imgsz"], **case["kwargs"])
    same_or_deviation(name, rounded == case["out"], f"got {rounded}")


RUN_FOLDERS = ("increment_path", "increment_path_file", "increment_path_exist_ok", "increment_path_dotted_dir")
register_cases(*(f"k_config_cli/{name}" for name in (*RUN_FOLDERS, "increment_path_gap")))


@pytest.mark.skipif(not RECORDED, reason="no golden folder")
def test_folders_are_numbered(tmp_path: Path):
    made = []
    for _ in RECORDED["increment_path"]:
        made.append(increment_path(tmp_path / "train"))
        made[-1].mkdir()
    same_or_deviation("k_config_cli/increment_path", [path.name for path in made] == RECORDED["increment_path"])

    existing = increment_path(tmp_path / "train", exist_ok=True)
    same_or_deviation("k_config_cli/increment_path_exist_ok", existing.name == RECORDED["increment_path_exist_ok"])

    gap = RECORDED["increment_path_gap"]
    (tmp_path / gap).rmdir()
    same_or_deviation("k_config_cli/increment_path_gap", increment_path(tmp_path / "train").name == gap)

    (tmp_path / "f.txt").touch()
    file = increment_path(tmp_path / "f.txt")
    same_or_deviation("k_config_cli/increment_path_file", file.name == RECORDED["increment_path_file"])

    (tmp_path / "a.b").mkdir()
    dotted = increment_path(tmp_path / "a.b")
    same_or_deviation("k_config_cli/increment_path_dotted_dir", dotted.name == RECORDED["increment_path_dotted_dir"])


@pytest.mark.skipif(not RECORDED, reason="no golden folder")
def test_every_group_of_the_file_is_read():
    read = {"smart_value", "merge_equals_args", "parse_key_value", "get_cfg", "suggest", "check_imgsz"}
    assert set(RECORDED) == read | set(RUN_FOLDERS) | {"increment_path_gap"}
