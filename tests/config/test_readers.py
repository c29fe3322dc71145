"""Where settings are read: each one somewhere, and everywhere that a real run was seen reading it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sightline.config.readers import PACKAGE, Place, places
from sightline.config.settings import DEFAULTS, Settings
from sightline.facade import YOLO

# Where a run reads all settings in a loop (live changes, checkpoints), or hands on what others ask for (stages).
BY_LOOPS = {
    "train/assignable.py", "train/live_settings.py", "train/resume.py", "train/resume_rules.py", "train/stages.py",
}  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, list[Place]]:
    return {name: places(name) for name in DEFAULTS}


def test_every_setting_is_read_somewhere(found: dict[str, list[Place]]):
    for name in DEFAULTS:
        readers = [place for place in found[name] if not place.writes and not place.file.startswith("config/")]
        assert readers, f"{name} has no reader: it would be silently ignored, or readers.py does not see it"


def test_what_a_run_reads_is_found(
    found: dict[str, list[Place]], tiny_data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Watch every access to a setting in a real run, and look each one up."""
    seen: set[tuple[str, str]] = set()
    usual = Settings.__getattribute__

    def watched(self: Settings, name: str) -> Any:
        frame = sys._getframe(1)
        file = frame.f_code.co_filename
        if name in DEFAULTS and file.startswith(str(PACKAGE)):
            seen.add((name, Path(file).relative_to(PACKAGE).as_posix()))
        return usual(self, name)

    monkeypatch.setattr(Settings, "__getattribute__", watched)
    monkeypatch.chdir(tmp_path)
    model = YOLO(tiny_model)
    model.train(data=str(tiny_data), imgsz=64, batch=4, epochs=1, workers=0, device="cpu", plots=False)
    seen = {(name, file) for name, file in seen if not file.startswith("config/") and file not in BY_LOOPS}
    assert len(seen) > 100
    missed = [(name, file) for name, file in sorted(seen) if file not in {place.file for place in found[name]}]
    assert missed == []
    filled = [name for name, origin in model.trainer.args.origins().items() if origin == "auto"]
    assert {"optimizer", "momentum", "nbs"} <= set(filled)
    assert [name for name in filled if not any(place.writes for place in found[name])] == []


def test_a_file_is_read_as_a_person_would(tmp_path: Path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.py").write_text(
        "NAMES = ('momentum',)\n"
        "class T:\n"
        "    def go(self):\n"
        "        return self.args.lr0 + result.lr0\n"
        "    def auto(self):\n"
        "        self.args.fill_auto('lr0', 0.1)\n"
        "        _fill(self.args, momentum=0.9)\n"
        "def other(s: Settings):\n"
        "    return s.nbs, getattr(s, 'batch', 1), len('lr0')\n"
        "def loop(settings):\n"
        "    return [getattr(settings, name) for name in NAMES]\n"
    )
    (tmp_path / "train" / "b.py").write_text(
        "RECIPE = {'lrf': 1.0}\n"
        "def fill(settings):\n"
        "    for name, value in RECIPE.items():\n"
        "        settings.fill_auto(name, value)\n"
    )
    found = {name: [(each.line, each.function, each.writes) for each in places(name, tmp_path)] for name in DEFAULTS}
    assert {name: sorted(each) for name, each in found.items() if each} == {
        "lr0": [(4, "T.go", False), (6, "T.auto", True)],
        "momentum": [(1, "", False), (7, "T.auto", True)],
        "nbs": [(9, "other", False)],
        "batch": [(9, "other", False)],
        "lrf": [(1, "", True)],
    }
