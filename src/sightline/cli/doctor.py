"""`sightline doctor …`: a Typer app of its own. Commands load what they need, so that help comes at once."""

from __future__ import annotations

from typing import Annotated

import typer

doctor = typer.Typer(
    name="doctor",
    help="Look for what is wrong with a run, its data or its settings.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


@doctor.callback()
def main() -> None:
    """Look for what is wrong with a run, its data or its settings."""


@doctor.command()
def replay(
    dump: Annotated[str, typer.Argument(metavar="DUMP", help="A file of dumps/ in a run folder.")],
    device: Annotated[str, typer.Option(help="Where to compute: cpu, 0, …")] = "cpu",
) -> int:
    """Run a bad batch of a training again: forward, backward, and where it goes wrong first."""
    from sightline.doctor.replay import replay as run_again

    for line in run_again(dump, device=device).lines():
        print(line)
    return 0
