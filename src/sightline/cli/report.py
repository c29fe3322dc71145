"""`sightline report RUN…`: one page about a run, or several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Run folders, such as runs/detect/train.")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", help="Default: report.html in the first run.")
    ] = None,
) -> int:
    """Write report.html about a run, or several side by side: one file that needs no network."""
    from sightline.report.page import write_report

    path = write_report(runs, None if out is None else Path(out))
    print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")
    return 0
