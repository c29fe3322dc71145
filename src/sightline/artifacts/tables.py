"""results.csv: one row an epoch, readable after a crash at any moment."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from sightline.errors import OutputError
from sightline.files import atomic_write


class ResultsTable:
    """Appends rows of numbers to a CSV file under one header line.

    Values are written as `%.6g`; epochs are 1-based there, as people's scripts expect. A row with new columns (a user's
    own metric that starts later) rewrites the header, so no value is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def append(self, row: Mapping[str, float | None]) -> None:
        """Add one row. Raises OutputError when the file cannot be written."""
        try:
            columns = self._columns()
            new = [name for name in row if name not in columns]
            if columns and new:
                self._rewrite(columns + new)
            columns = columns + new
            before = self.path.stat().st_size if self.path.exists() else 0
            try:
                with self.path.open("a", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    if before == 0:
                        writer.writerow(columns)
                    writer.writerow([_text(row.get(name)) for name in columns])
            except OSError:
                os.truncate(self.path, before)  # half a row would be read as one
                raise
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"Cannot write {self.path}: {error.strerror or error}. Free some space.") from error

    def read(self) -> dict[str, list[float]]:
        """Every column as a list, for plots and resumes; empty when there is no file."""
        if not self.path.exists():
            return {}
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = rows[0].keys() if rows else []
        return {name: [float(row[name]) if row[name] else float("nan") for row in rows] for name in names}

    def keep_epochs(self, count: int) -> None:
        """Drop rows after epoch `count`: a resumed run writes those epochs again."""
        if not self.path.exists():
            return
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        # A row that a power cut left half written is shorter.
        whole = [row for row in rows[1:] if row and len(row) == len(rows[0])]
        kept = rows[:1] + [row for row in whole if int(float(row[0])) <= count]
        with atomic_write(self.path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(kept)

    def _columns(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])

    def _rewrite(self, columns: list[str]) -> None:
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with atomic_write(self.path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def _text(value: float | None) -> str:
    return "" if value is None else f"{float(value):.6g}"
