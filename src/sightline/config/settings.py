"""`Settings`: one checked object with every setting of a run, and where each value came from.

The fields stand in groups/, what they accept in kinds.py, misspelt and old names in names.py; load.py puts an object
together from defaults, files, the command line and keywords.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, PrivateAttr, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from sightline.config import names, table
from sightline.config.groups.augmentation import AugmentationSettings
from sightline.config.groups.batch_find import BatchFindSettings
from sightline.config.groups.data import DataSettings
from sightline.config.groups.diagnosis import DiagnosisSettings
from sightline.config.groups.guards import GuardSettings
from sightline.config.groups.loss import LossSettings
from sightline.config.groups.lr_find import LrFindSettings
from sightline.config.groups.model import ModelSettings
from sightline.config.groups.optimisation import OptimisationSettings
from sightline.config.groups.output import OutputSettings
from sightline.config.groups.prediction import PredictionSettings
from sightline.config.groups.run import RunSettings
from sightline.config.groups.saving import SavingSettings
from sightline.config.groups.schedule import ScheduleSettings, WarmupSettings
from sightline.config.groups.stages import StageSettings
from sightline.config.groups.trackers import TrackerSettings
from sightline.config.groups.validation import ValidationSettings
from sightline.config.kinds import FIND, WRONG_TYPE
from sightline.errors import SettingsError, SettingTypeError, SettingValueError

DEFAULT, PRESET, MODEL_FILE, COMMAND_LINE, CODE, AUTO, CHECKPOINT = (
    "default",
    "preset",
    "model file",
    "command line",
    "code",
    "auto",
    "checkpoint",
)

# Objects that live only in this process; args.yaml and checkpoints leave them out.
PYTHON_ONLY = frozenset({"augmentations", "loss"})
# Settings that may be functions, or lists or dicts with some: left out only then. Text is written like any other.
TEXT_OR_FUNCTION = frozenset({"fitness"})

_OF_MANY_IMAGES = {"mosaic", "mosaic_prob", "mixup", "copy_paste"}
_TYPE_ERRORS = (WRONG_TYPE, "missing")
_JOINED = "joined_settings"


class Settings(
    RunSettings,
    DataSettings,
    ModelSettings,
    OptimisationSettings,
    ScheduleSettings,
    WarmupSettings,
    LrFindSettings,
    BatchFindSettings,
    StageSettings,
    AugmentationSettings,
    LossSettings,
    GuardSettings,
    ValidationSettings,
    DiagnosisSettings,
    PredictionSettings,
    OutputSettings,
    SavingSettings,
    TrackerSettings,
):
    """All settings under flat names: `settings.lr0`, `settings.lr0 = 0.02` (checked; its origin is then "code").

    Raises:
        UnknownSettingError: no setting has the name, or it is not here yet; the message has the nearest names.
        SettingTypeError: with the setting, the value found and what is allowed.
        SettingValueError: the same for a value out of range.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, arbitrary_types_allowed=True)

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)  # only names that are not "default"
    _version: int = PrivateAttr(default=0)

    def __init__(self, **values: Any) -> None:
        current = names.current_names(values, DEFAULTS)
        try:
            super().__init__(**current)
        except ValidationError as error:
            raise _translate(error, current) from None
        self._origins = dict.fromkeys(current, CODE)

    def __eq__(self, other: object) -> bool:
        """Equal values from equal origins, however they came about."""
        return (
            isinstance(other, Settings)
            and dict(self.items()) == dict(other.items())
            and (self.origins() == other.origins())
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.assign(name, value, origin=CODE)

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        """Rules that join two settings. Each message names both."""
        if self.cos_lr and self.scheduler not in (None, "cosine"):
            raise _joined(
                f"cos_lr=True is the older way to say scheduler=cosine, but scheduler={self.scheduler} is given, too: "
                "keep one of them."
            )
        if self.scheduler == "step" and self.lrf == 0:
            raise _joined(
                "lrf=0 would take the learning rate to 0 at the first drop of scheduler=step: give lrf a value above "
                "0, such as 0.01, or another scheduler."
            )
        if self.mode == "train":
            if self.lr0 == FIND and (self.resume or self.dry_run):
                other = f"resume={self.resume}" if self.resume else "dry_run=True"
                why = "goes on with the rate that it has" if self.resume else "makes two steps, which shows no rate"
                raise _joined(
                    f"lr0=find looks for the rate of a run that begins, but one with {other} {why}: leave one out."
                )
            if self.lr_find_min >= self.lr_find_max:
                raise _joined(
                    f"lr_find_min={self.lr_find_min:g} is not below lr_find_max={self.lr_find_max:g}: there is nothing "
                    "between them to try."
                )
            if not self.save and self.save_period > 0:
                raise _joined(
                    f"save_period={self.save_period} asks for extra checkpoints, but save=False writes none: "
                    "set save=True, or leave save_period out."
                )
            if not self.save and self.save_every_steps > 0:
                raise _joined(
                    f"save_every_steps={self.save_every_steps} asks for checkpoints in the middle of an epoch, but "
                    "save=False writes none: set save=True, or leave save_every_steps out."
                )
            if not self.val and self.val_interval > 1:
                raise _joined(
                    f"val_interval={self.val_interval} asks for a validation every {self.val_interval} epochs, "
                    "but val=False asks for none: leave one of them out."
                )
            if self.norm == "gn" and self.sync_bn is True:
                raise _joined("sync_bn=True synchronises BatchNorm, but norm=gn leaves none: leave one of them out.")
            if self.rect and self.repeat_factor > 0:
                raise _joined(
                    f"repeat_factor={self.repeat_factor} repeats single images, but rect=True keeps images of like "
                    "shape together in fixed batches: leave one of them out."
                )
            mixed = sorted({name for stage in self.augment_schedule or () for name in stage} & _OF_MANY_IMAGES)
            if self.rect and mixed:
                raise _joined(
                    f"augment_schedule changes {', '.join(mixed)}, but rect=True combines no images: leave one of them "
                    "out."
                )
        if self.single_cls and self.cls_pw > 0:
            raise _joined(
                f"cls_pw={self.cls_pw} weighs classes against each other, but single_cls=True leaves only one: "
                "leave one of them out."
            )
        if self.class_weights is not None and (self.single_cls or self.cls_pw > 0):
            other = "single_cls=True leaves only one class" if self.single_cls else f"cls_pw={self.cls_pw} does so, too"
            raise _joined(
                f"class_weights={self.class_weights} weighs classes against each other, but {other}: "
                "leave one of them out."
            )
        if self.single_cls and self.label_smoothing > 0:
            raise _joined(
                f"label_smoothing={self.label_smoothing} spreads a target over the classes, but single_cls=True leaves "
                "only one: leave one of them out."
            )
        return self

    # Values with an origin

    def assign(self, name: str, value: Any, *, origin: str) -> None:
        """Set one value after checking it; on an error the old one stays."""
        resolved = names.current_names({name: value}, DEFAULTS)
        for current, checked in resolved.items():
            before = self.__dict__[current]
            try:
                super().__setattr__(current, checked)
            except ValidationError as error:
                self.__dict__[current] = before  # a rule that joins settings runs after the value has been set
                raise _translate(error, {**self.__dict__, current: checked}) from None
            self._origins[current] = origin
            self._version += 1

    def fill_auto(self, name: str, value: Any) -> bool:
        """Set a value that nobody asked for; returns False, and does nothing, where somebody did."""
        if self.is_user_set(name):
            return False
        self.assign(name, value, origin=AUTO)
        return True

    @property
    def version(self) -> int:
        """Grows with every assignment, so that whoever holds copies of values can see that it has to look again."""
        return self._version

    def origin(self, name: str) -> str:
        """Where a value came from: default, preset, model file, file:…, command line, code, auto or checkpoint."""
        if name not in DEFAULTS:
            names.current_names({name: None}, DEFAULTS)  # raises with suggestions, or it is an old name
            name = names.RENAMED[name][0] if name in names.RENAMED else names.SYNONYMS.get(name, name)
        return self._origins.get(name, DEFAULT)

    def is_user_set(self, name: str) -> bool:
        return self.origin(name) not in (DEFAULT, AUTO)

    def origins(self) -> dict[str, str]:
        """Setting → origin, for every setting."""
        return {name: self._origins.get(name, DEFAULT) for name in DEFAULTS}

    def changed(self) -> dict[str, tuple[Any, str]]:
        """What differs from the defaults: setting → (value, origin)."""
        return {name: (value, self.origin(name)) for name, value in self.items() if not _same(value, DEFAULTS[name])}

    # As plain values, and back

    def items(self) -> Iterator[tuple[str, Any]]:
        """Pairs of setting and value, in the order of the groups."""
        return ((name, self.__dict__[name]) for name in DEFAULTS)

    def get(self, name: str, default: Any = None) -> Any:
        return self.__dict__[name] if name in DEFAULTS else default

    def to_dict(self) -> dict[str, Any]:
        """Plain values that YAML and JSON can hold, without what lives only in this process."""
        return {name: _plain(value) for name, value in self.items() if not lives_in_process(name, value)}

    def objects(self) -> dict[str, str]:
        """What `to_dict` leaves out, as text that says what it was: setting → names of classes and functions."""
        objects = ((name, value) for name, value in self.items() if value is not None and lives_in_process(name, value))
        return {name: _named(value) for name, value in objects}

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], origins: Mapping[str, str] | None = None, *, skip_unknown: bool = False
    ) -> Settings:
        """The way back from `to_dict`.

        Args:
            values: setting → value.
            origins: setting → origin, as `origins()` gives them; without, what differs from the default came from a
                "checkpoint".
            skip_unknown: leave out names that this version does not know (files of other versions and programs).
        """
        if skip_unknown:
            known = {*DEFAULTS, *names.RENAMED, *names.SYNONYMS}
            values = {name: value for name, value in values.items() if name in known}
        settings = cls(**_independent(values))
        settings._origins = {}
        for name, value in settings.items():
            origin = (origins or {}).get(name, DEFAULT if _same(value, DEFAULTS[name]) else CHECKPOINT)
            if origin != DEFAULT:
                settings._origins[name] = origin
        return settings

    def copy(self, **updates: Any) -> Settings:  # pydantic's own is deprecated
        """An independent copy with the same origins; `updates` are checked together and count as set in code."""
        current = names.current_names(updates, DEFAULTS)
        twin = type(self)(**{**_independent(dict(self.items())), **current})
        twin._origins = {**self._origins, **dict.fromkeys(current, CODE)}
        return twin

    def __copy__(self) -> Settings:  # pydantic's own shares the origins: what is set on one would show on the other
        return self.copy()


# Setting → default, in the order of the groups. Everything that needs a list of the settings takes this one.
DEFAULTS: dict[str, Any] = {row.name: row.default for row in table.ROWS}

# Images in memory and transforms are large or refuse to be copied; they are not ours to change anyway.
_SHARED = PYTHON_ONLY | TEXT_OR_FUNCTION | {"source"}


def lives_in_process(name: str, value: Any) -> bool:
    """Whether the value of this setting is an object that no file can hold."""
    if name not in TEXT_OR_FUNCTION:
        return name in PYTHON_ONLY
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return any(callable(part) for part in parts)


def _independent(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if name in _SHARED else copy.deepcopy(value) for name, value in values.items()}


def _joined(message: str) -> PydanticCustomError:
    # Braces in the values must not be read as places to fill in.
    return PydanticCustomError(_JOINED, "{message}", {"message": message})


def _translate(error: ValidationError, values: Mapping[str, Any]) -> SettingsError:
    """One error of ours for all that pydantic found, a line each; the class is that of the first."""
    details = error.errors(include_url=False)
    message = "\n".join(_describe(detail, values) for detail in details)
    is_type = details[0]["type"] in _TYPE_ERRORS or details[0]["type"].endswith("_type")
    return SettingTypeError(message) if is_type else SettingValueError(message)


def _describe(detail: ErrorDetails, values: Mapping[str, Any]) -> str:
    if detail["type"] == _JOINED or not detail["loc"]:
        return detail["msg"]
    name = str(detail["loc"][0])
    value = values.get(name)
    row = table.ROW[name]
    found = repr(value)
    found = found if len(found) <= 80 else found[:77] + "..."
    reason = (detail.get("ctx") or {}).get("detail") or ""
    kind = f" ({type(value).__name__})" if value is not None else ""
    text = f"{name}={found}{kind} is not allowed{': ' + reason if reason else ''}. It must be {row.allowed}"
    return f"{text}; the default is {row.default}."


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key) if not isinstance(key, int) else key: _plain(item) for key, item in value.items()}
    if hasattr(value, "__fspath__"):
        return str(value.__fspath__())
    return f"<{type(value).__name__}>"  # an image in memory: say what it was


def _named(value: Any) -> str:
    """What the user would have written for an object: the name of a class or function, else that of its class."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_named(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_named(item)}' for key, item in value.items())}}}"
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, functools.partial):
        return _named(value.func)
    name = getattr(value, "__name__", None)
    return str(name) if name is not None else f"{type(value).__name__}(…)"


def _same(value: Any, default: Any) -> bool:
    if value is default:
        return True
    # bool first: 1 == True. Arrays are never equal to a default, and comparing them gives no bool.
    return (
        isinstance(value, bool) == isinstance(default, bool)
        and type(value).__module__ == "builtins"
        and bool(value == default)
    )
