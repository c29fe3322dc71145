"""A list of rows as CSV, JSON or a data frame."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.errors import MissingExtraError

Rows = Sequence[Mapping[str, Any]]


def rows_to_csv(rows: Rows) -> str:
    """Header and one line a row; empty text for no rows."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def rows_to_json(rows: Rows) -> str:
    """A JSON list of objects."""
    return json.dumps(list(rows), indent=2, ensure_ascii=False)


def rows_to_frame(rows: Rows) -> Any:
    """A polars DataFrame.

    Raises:
        MissingExtraError: polars is not installed.
    """
    try:
        import polars
    except ImportError as error:
        raise MissingExtraError(
            "to_df() needs polars, which is not installed. Run `pip install 'sightline[dataframe]'`, "
            "or use summary(), to_csv() or to_json(), which need nothing."
        ) from error
    return polars.DataFrame(list(rows))
