"""Every exception that sightline raises on purpose.

A message names the file or setting, the value found, what is allowed and the next step, so that the command line can
print it alone, without a traceback. Classes also derive from the built-in that callers would naturally catch.
Anything that is not a `SightlineError` is a bug of ours: the command line shows its traceback and exits with 70.
"""

from __future__ import annotations


class SightlineError(Exception):
    """A problem that the user can solve; the message says how."""

    exit_code = 1


class UsageError(SightlineError):
    """The request itself is wrong: nothing was started."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is unknown, has the wrong type or is out of range."""


class UnknownSettingError(SettingsError, SyntaxError):
    """No setting has this name."""


class SettingTypeError(SettingsError, TypeError):
    """The value has the wrong type."""


class SettingValueError(SettingsError, ValueError):
    """The value is out of range or not among the choices."""


class CommandLineError(UsageError, SyntaxError):
    """The words on the command line cannot be read as `mode key=value …`."""


class MissingFileError(SightlineError, FileNotFoundError):
    """A file or folder that was asked for does not exist."""


class DataError(SightlineError, RuntimeError):
    """A data set, label file or image cannot be used."""


class ModelError(SightlineError, ValueError):
    """A network description is wrong, or does not fit the task or the data."""


class CheckpointError(SightlineError, RuntimeError):
    """A weights file is damaged, unsafe or of an unknown kind."""


class DownloadError(SightlineError, ConnectionError):
    """A file could not be fetched."""


class OutputError(SightlineError, OSError):
    """A result could not be written: no permission, no space, not a folder."""


class MissingExtraError(SightlineError, ImportError):
    """An optional dependency is needed; the message names the extra that installs it."""


class NoEquivalentError(SightlineError, ModuleNotFoundError):
    """A script imports a name of `ultralytics` that sightline does not have; the message says what to use."""


class TrainingError(SightlineError, RuntimeError):
    """A run cannot start or go on."""


class ShapeError(SightlineError, AssertionError):
    """An array has not the columns or dimensions that an object needs."""


class MissingInputError(UsageError, MissingFileError):
    """A setting (model, data, pretrained, resume) names a file that is not there."""


class UnknownModelError(UsageError, ModelError):
    """No description of a network has this name."""


class MissingSettingsFileError(UsageError, MissingFileError):
    """`cfg` names no file."""


class MissingSourceError(UsageError, MissingFileError):
    """There is nothing to predict on under this name."""


class UnreadableSourceError(UsageError, DataError):
    """No picture of the source could be read."""


class Interrupted(SystemExit):
    """A run was told to end by a signal, and has ended in order: its state is on the disk.

    Nothing went wrong, so it is no `SightlineError`: uncaught, it ends the process quietly with the code that shells
    give to that signal (143 after SIGTERM). For SIGINT there is `InterruptedByUser`.

    Attributes:
        signal: its number.
        message: what was saved, and how to go on.
    """

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(128 + signal)
        self.signal = signal
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[type, tuple[int, str]]:
        return type(self), (self.signal, self.message)


class InterruptedByUser(Interrupted, KeyboardInterrupt):
    """The same after Ctrl-C: `except KeyboardInterrupt` catches it, and uncaught the exit code is 130."""
