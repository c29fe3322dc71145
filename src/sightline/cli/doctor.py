"""`sightline doctor …`: a Typer app of its own. Commands load what they need, so that help comes at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from sightline.config.command_line import parse_command_line
from sightline.config.load import make_settings
from sightline.config.settings import COMMAND_LINE, Settings
from sightline.errors import UsageError

HELP = {"help_option_names": ["-h", "--help"]}
OWN_GRAMMAR = {"ignore_unknown_options": True, **HELP}
doctor = typer.Typer(
    name="doctor",
    help="Look for what is wrong with a run, its data or its settings.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP,
    no_args_is_help=False,  # Typer makes an error of it
)
Words = Annotated[list[str] | None, typer.Argument(metavar="SETTING=VALUE", help="As in `sightline train`.")]


@doctor.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Look for what is wrong with a run, its data or its settings."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@doctor.command(context_settings=OWN_GRAMMAR)
def replay(
    dump: Annotated[str, typer.Argument(metavar="DUMP", help="A file of dumps/ in a run folder.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="device=…", help="Where: cpu (default), 0, …")] = None,
) -> int:
    """Run a bad batch of a training again: forward, backward, and where it goes wrong first."""
    settings = _settings(words)
    if other := [name for name, _ in settings.items() if settings.is_user_set(name) and name != "device"]:
        raise UsageError(f"doctor replay knows only device=, not {other[0]}: the settings are those of the dump.")
    from sightline.doctor.replay import replay as run_again

    return _print(run_again(dump, device="cpu" if settings.device is None else settings.device).lines())


@doctor.command("run")
def run_(folder: Annotated[str, typer.Argument(metavar="RUN_DIR", help="Such as runs/detect/train.")]) -> int:
    """Judge a run that is over or still going on: what went wrong, how that shows, what to do."""
    from sightline.doctor.run import examine

    return _print(examine(folder).lines())


@doctor.command("settings", context_settings=OWN_GRAMMAR)
def settings_(words: Words = None) -> int:
    """Name risky settings of a training before it is started: needs model= and data=."""
    settings = _settings(words)
    source = _source(settings, "doctor settings")
    from sightline.doctor.settings import examine

    return _print(examine(settings, source).lines())


@doctor.command(context_settings=OWN_GRAMMAR)
def data(words: Words = None) -> int:
    """Look at labels and images: defects, class balance, sizes, near-duplicates, suspicious labels. Needs data=."""
    settings = _settings(words)
    from sightline.doctor.data import examine

    return _print(examine(settings).lines())


@doctor.command(context_settings=OWN_GRAMMAR)
def overfit(words: Words = None) -> int:
    """Show whether one batch can be learnt by heart: needs model= and data=. epochs= is the number of steps."""
    settings = _settings(words)
    source = _source(settings, "doctor overfit")
    from sightline.doctor.overfit import overfit as learn

    report = learn(settings, source)
    _print(report.lines())
    return 0 if report.learnt else 1


def _settings(words: list[str] | None) -> Settings:
    return make_settings("train", parse_command_line(["train", *(words or [])]).overrides, origin=COMMAND_LINE)


def _source(settings: Settings, command: str) -> Any:
    """The network of a weights file, as `train` would start from; None where a description is given."""
    if settings.resume:
        raise UsageError(
            f"{command} is for a run that is to begin, so leave resume out. `sightline doctor run` judges one that has "
            "begun."
        )
    if settings.model is None or settings.data is None:
        missing = " and ".join(
            name for name, value in (("model=", settings.model), ("data=", settings.data)) if not value
        )
        raise UsageError(f"{command} needs {missing}. Example: sightline {command} model=yolo26n.yaml data=shapes")
    if str(settings.model).endswith((".yaml", ".yml")):
        return None
    from sightline.facade import YOLO

    return YOLO(settings.model).model


def _print(lines: Iterable[str]) -> int:
    for line in lines:
        print(line)
    return 0
