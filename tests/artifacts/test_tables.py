"""results.csv: rows that can be read after every epoch, whatever columns come."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from sightline.artifacts.tables import ResultsTable
from sightline.errors import OutputError


def test_rows_are_appended_under_one_header(tmp_path: Path):
    table = ResultsTable(tmp_path / "results.csv")
    table.append({"epoch": 1, "loss": 0.123456789})
    table.append({"epoch": 2, "loss": 1e-7})
    assert table.path.read_text().splitlines() == ["epoch,loss", "1,0.123457", "2,1e-07"]


def test_a_value_that_is_missing_is_an_empty_cell_and_nan_is_nan(tmp_path: Path):
    table = ResultsTable(tmp_path / "results.csv")
    table.append({"epoch": 1, "mAP": None, "loss": math.nan})
    assert table.path.read_text().splitlines()[1] == "1,,nan"
    assert math.isnan(table.read()["mAP"][0])


def test_a_column_that_comes_later_is_not_dropped(tmp_path: Path):
    table = ResultsTable(tmp_path / "results.csv")
    table.append({"epoch": 1, "loss": 3})
    table.append({"epoch": 2, "loss": 2, "mine": 7})
    table.append({"epoch": 3, "loss": 1})
    assert table.path.read_text().splitlines() == ["epoch,loss,mine", "1,3,", "2,2,7", "3,1,"]


def test_a_resumed_run_writes_its_epochs_again(tmp_path: Path):
    table = ResultsTable(tmp_path / "results.csv")
    for epoch in (1, 2, 3):
        table.append({"epoch": epoch})
    table.keep_epochs(1)
    table.append({"epoch": 2})
    assert table.read() == {"epoch": [1, 2]}


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"results\.csv"):
        ResultsTable(tmp_path / "file" / "results.csv").append({"epoch": 1})
