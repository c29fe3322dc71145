"""The command `sightline`: Typer commands over `key=value` settings, and what becomes of errors.

The grammar itself stands in config/command_line.py. Neither this file nor what it imports at the top loads torch, so
that help and usage errors come at once; run.py loads it when the request has been found right.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline import __version__
from sightline.cli.doctor import doctor
from sightline.cli.report import report
from sightline.cli.watch import watch
from sightline.config import names, table
from sightline.config.groups.field import ALL
from sightline.config.preset import preset_names, preset_text
from sightline.config.settings import DEFAULTS
from sightline.errors import Interrupted, SightlineError, UnknownSettingError, UsageError
from sightline.log import configure

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 120  # columns that a table of settings needs
INTERRUPTED, INTERNAL_ERROR = 130, 70  # as shells do for Ctrl-C, and EX_SOFTWARE of sysexits.h

EXAMPLES = """Examples:

  sightline train model=yolo26n.yaml data=shapes epochs=100 imgsz=320

  sightline val model=runs/detect/train/weights/best.pt data=shapes

  sightline predict model=runs/detect/train/weights/best.pt source=photos/

  sightline lr-find model=yolo26n.yaml data=shapes imgsz=320      (which lr0 suits a training with these settings)

  sightline batch-find model=yolo26n.yaml data=shapes imgsz=320   (which batch does)

  sightline run my_script.py --epochs 5      (a script with `from ultralytics import YOLO`)

  sightline doctor replay runs/detect/train/dumps/epoch3-batch7.pt      (why a batch was bad)

  sightline doctor run runs/detect/train      (what is wrong with it; also: settings, data, overfit)
  sightline report runs/detect/train runs/detect/train-2      (one page, side by side)
  sightline watch runs/detect/train      (the page in a browser, while the run goes on)

  sightline compare runs/detect/base-* runs/detect/new-*      (is one recipe better, or is it noise?)

  sightline tune model=yolo26n.yaml data=shapes epochs=10 trials=30      (better settings, by many short runs)

  sightline settings lr0 imgsz      (what they mean; without names: all of them)

  sightline settings explain lr0    (all about one: effect, related settings, where it is read)
"""

app = typer.Typer(
    name="sightline",
    help="Train, validate and use object detectors.",
    epilog=EXAMPLES,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
)


app.add_typer(doctor, name="doctor")
app.command()(report)
app.command(context_settings={"ignore_unknown_options": True})(watch)


def complete_settings(incomplete: str) -> Iterator[str]:
    """`ep` → `epochs=`, for the shell."""
    return (f"{name}=" for name in DEFAULTS if name.startswith(incomplete))


Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="SETTING=VALUE", autocompletion=complete_settings, help="See `sightline settings`."),
]
# Words such as `--epochs=5` go to our own grammar, which forgives the dashes.
OWN_GRAMMAR = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}


@app.command(context_settings=OWN_GRAMMAR)
def train(words: Words = None) -> int:
    """Train a network: needs model= and data=, or resume=."""
    return _run(["train", *(words or [])])


@app.command(context_settings=OWN_GRAMMAR)
def val(words: Words = None) -> int:
    """Validate a network: needs model= and data=."""
    return _run(["val", *(words or [])])


@app.command(context_settings=OWN_GRAMMAR)
def predict(words: Words = None) -> int:
    """Find objects in images and videos: needs model= and source=."""
    return _run(["predict", *(words or [])])


@app.command("lr-find", context_settings=OWN_GRAMMAR)
def lr_find(words: Words = None) -> int:
    """Try learning rates before a training and draw what they do: needs model= and data=."""
    return _run(["train", *(words or [])], do="lr-find")


@app.command("batch-find", context_settings=OWN_GRAMMAR)
def batch_find(words: Words = None) -> int:
    """Try batches before a training: time, memory, gradient noise, and what to take: needs model= and data=."""
    return _run(["train", *(words or [])], do="batch-find")


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(
    words: Annotated[list[str] | None, typer.Argument(metavar="SCRIPT.PY [ARGUMENTS]")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where the package `ultralytics` itself is installed.")
    ] = False,
) -> int:
    """Run a script written for `ultralytics` on sightline, unchanged."""
    from sightline.compat.run import run_script

    return run_script(words or [], replace=replace)


@app.command(context_settings=OWN_GRAMMAR)
def compare(
    words: Annotated[list[str] | None, typer.Argument(metavar="RUN… | repeats=N A.YAML B.YAML …")] = None,
) -> int:
    """Put runs side by side: settings, curves, metrics over seeds, and whether the difference is more than noise."""
    from sightline.cli.compare import compare as side_by_side

    return side_by_side(words or [])


@app.command(context_settings=OWN_GRAMMAR)
def tune(words: Words = None) -> int:
    """Search for better settings by many runs of train: needs model= and data=, or resume=."""
    from sightline.cli.tune import tune as search

    return search(words or [])


@app.command()
def settings(
    which: Annotated[
        list[str] | None,
        typer.Argument(metavar="SETTING|MODE", autocompletion=lambda incomplete: list(_which(incomplete))),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the text of docs/settings.md.")] = False,
) -> int:
    """List settings: all, those of a mode, or those named; or print a preset. `explain NAME` tells all about one."""
    if markdown:
        sys.stdout.write(table.markdown())
        return 0
    if which and which[0] == "explain":
        return _explain(which[1:])
    presets = [name for name in which or [] if name in preset_names()]
    for name in presets:
        print(f"preset={name}\n\n{preset_text(name)}")
    rest = [name for name in which or [] if name not in presets]
    if rest or not presets:
        _print_table(_rows(rest))
    if not which:
        print(f"presets: {', '.join(preset_names())} (`sightline settings NAME` prints one)")
    return 0


@app.command()
def version() -> int:
    """Print the version."""
    print(f"sightline {__version__}")
    return 0


@app.command()
def checks() -> int:
    """Print what this machine has: Python, torch, devices, libraries."""
    from sightline.cli.environment import describe  # loads torch

    for name, value in describe().items():
        print(f"{name:<12} {value}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done · 2 the request is wrong, nothing was started · 1 another problem that the message explains ·
    130 interrupted (143 by SIGTERM) · 70 a mistake of ours, with traceback. Messages go to standard error.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    configure()
    command = typer.main.get_command(app)
    try:
        result: Any = command.main(args=_arranged(words), prog_name="sightline", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except SightlineError as error:
        _complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # `sightline settings | head`: nobody reads any more. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if hasattr(error, "format_message"):  # Typer's own usage errors; it has changed where their classes live
            _complain(f"{error.format_message()} See `sightline --help`.")
            return 2
        traceback.print_exc()
        _complain(
            f"this is a mistake in sightline {__version__}, not in what you asked. "
            "Please report it with the lines above and what `sightline checks` prints."
        )
        return INTERNAL_ERROR


def _run(words: list[str], *, do: str = "") -> int:
    from sightline.cli.run import run

    try:
        return run(words, do=do)
    except Interrupted as end:  # in order, with everything saved and said
        return 128 + end.signal
    except KeyboardInterrupt:  # here, because some versions of Typer make a silent exit of it
        _complain("interrupted")
        return INTERRUPTED


def _arranged(words: list[str]) -> list[str]:
    """The command first, for Typer: task, mode and settings may come in any order (`sightline detect train a=1`)."""
    commands = {
        "train",
        "val",
        "predict",
        "lr-find",
        "batch-find",
        "run",
        "settings",
        "version",
        "checks",
        "doctor",
        "compare",
        "report",
        "watch",
        "tune",
    }
    if not words or words[0] in ("help", "-h"):
        return ["--help"] if words else [ALL_WORDS]
    if words[0] in ("-V", "-v", "--version"):
        return ["version", *words[1:]]
    if words[0].removeprefix("--") in ("settings", "checks"):
        return [words[0].removeprefix("--"), *words[1:]]
    if words[0] in commands or words[0] in ("--help", "--install-completion", "--show-completion"):
        return words
    for place, word in enumerate(words):
        if word in (*ALL, "tune") and (place == 0 or not words[place - 1].endswith("=")):
            return [word, *words[:place], *words[place + 1 :]]
    return [ALL_WORDS, *words]


# Words without a mode: `mode=train` among them, or an error that says what is missing.
ALL_WORDS = "run-words"


@app.command(ALL_WORDS, hidden=True, context_settings=OWN_GRAMMAR)
def run_words(words: Words = None) -> int:
    """Words in which no mode stands by itself."""
    return _run(words or [])


def _which(incomplete: str) -> Iterator[str]:
    return (name for name in ("explain", *ALL, *DEFAULTS, *preset_names()) if name.startswith(incomplete))


def _rows(which: Sequence[str]) -> list[table.Row]:
    """The rows of the named settings and modes; all without names."""
    if not which:
        return list(table.ROWS)
    rows = []
    for name in which:
        if name in ALL:
            rows += [row for row in table.ROWS if name in row.modes]
        elif name in table.ROW:
            rows.append(table.ROW[name])
        elif name in names.LATER:
            raise UnknownSettingError(
                f"'{name}' exists in Ultralytics, not in sightline yet: it comes with {names.LATER[name].brings}."
            )
        elif name in names.RENAMED:
            raise UnknownSettingError(f"'{name}' is the old name of {names.RENAMED[name][0]}.")
        else:
            raise UnknownSettingError(names.unknown_message(name, DEFAULTS))
    return list(dict.fromkeys(rows))


def _explain(asked: Sequence[str]) -> int:
    if not asked:
        raise UsageError("settings explain needs the name of a setting. Example: sightline settings explain lr0")
    from sightline.config.explain import explain

    explanations = [explain(name) for name in asked]  # a wrong name is said before anything is printed
    for number, explanation in enumerate(explanations):
        print("\n" * (number > 0) + "\n".join(explanation.lines()))
    return 0


def _print_table(rows: Sequence[table.Row]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=160, highlight=False)  # a file or a pipe has no width of its own
    if console.width < WIDE:
        _print_paragraphs(console, rows)
        return
    for group in dict.fromkeys(row.group for row in rows):
        listing = Table(title=group, title_justify="left", title_style="bold", expand=False)
        for column in ("setting", "type", "default", "allowed", "read in", "meaning"):
            listing.add_column(column, no_wrap=column in ("setting", "default"), overflow="fold")
        for row in (row for row in rows if row.group == group):
            name = f"{row.name} *" if row.new else row.name
            cells = (name, row.kind, str(row.default), row.limits, ", ".join(row.modes), row.meaning)
            listing.add_row(*(escape(cell) for cell in cells))
        console.print(listing)
    if any(row.new for row in rows):
        console.print("* not an argument of Ultralytics", style="dim")


def _print_paragraphs(console: Console, rows: Sequence[table.Row]) -> None:
    """The same for a narrow terminal, where six columns would break words."""
    from rich.markup import escape
    from rich.padding import Padding

    for group in dict.fromkeys(row.group for row in rows):
        console.print(f"\n[bold]{escape(group)}[/]")
        for row in (row for row in rows if row.group == group):
            facts = ", ".join(part for part in (row.kind, row.limits, f"read in {', '.join(row.modes)}") if part)
            console.print(f"[bold]{row.name}={escape(str(row.default))}[/]{' *' if row.new else ''}")
            console.print(Padding(f"{escape(row.meaning)} [dim]{escape(facts)}.[/]", (0, 0, 0, 4)))


def _complain(message: str) -> None:
    with contextlib.suppress(OSError):
        print(f"error: {message}", file=sys.stderr, flush=True)


__all__ = ["app", "main"]
