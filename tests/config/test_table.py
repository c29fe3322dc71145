"""The generated table is complete, and docs/settings.md is up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sightline.config.groups.field import ALL
from sightline.config.settings import DEFAULTS, Settings
from sightline.config.table import ROW, ROWS, markdown

DOCS = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def test_the_document_is_up_to_date():
    assert DOCS.read_text(encoding="utf-8") == markdown(), "run `sightline settings --markdown > docs/settings.md`"


def test_the_table_has_a_row_for_each_field_and_no_other():
    assert [row.name for row in ROWS] == list(DEFAULTS)
    assert set(DEFAULTS) == set(Settings.model_fields)
    assert set(re.findall(r"^\| `(\w+)`", markdown(), flags=re.MULTILINE)) == set(DEFAULTS)


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_each_setting_is_described_in_one_line(name: str):
    row = ROW[name]
    assert row.meaning.endswith(".")
    assert "\n" not in row.meaning
    assert len(row.meaning) <= 100
    assert row.modes
    assert set(row.modes) <= set(ALL)
    assert row.kind
    if row.kind.startswith(("a number", "a whole number")):
        assert row.limits, "a number needs a range"


def test_the_default_of_each_setting_is_allowed():
    Settings(**DEFAULTS)


def test_optional_settings_take_none_and_others_do_not():
    for name, row in ROW.items():
        if row.kind.endswith("None") or name == "source":
            assert Settings(**{name: None}).get(name) is None
        else:
            with pytest.raises(TypeError, match=name):
                Settings(**{name: None})
