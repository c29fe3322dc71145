"""What a study is: the settings of all its trials, what is searched and how. study.json in its folder keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sightline.config.settings import Settings
from sightline.errors import MissingInputError, OutputError, SettingTypeError, SettingValueError
from sightline.files import atomic_write
from sightline.tune.space import Dimension, Factor, Space, read_space, to_plain

FILE = "study.json"
METHODS = ("tpe", "random", "evolve")
ENGINES = ("optuna", "ray")
PRUNERS = ("median", "hyperband", "none")


@dataclass(frozen=True)
class Options:
    """How a study searches; what is not a setting of its trials.

    Attributes:
        trials: that end, one way or the other, before the study does.
        method: tpe (learns from the trials so far), random, or evolve (changes the best ones).
        engine: optuna, or ray for a cluster; both keep the trials in the same file.
        pruner: which trials end early: those below the median of the others at the same epoch, or by hyperband.
        parallel: trials at a time.
        gpu_per_trial, cpu_per_trial: what Ray reserves for each; parts of a GPU are allowed.
        grace_period: epochs that no trial is ended before; None is the warm-up and a quarter of the run.
        address: of a Ray cluster that is there; None starts one on this machine.
    """

    trials: int = 30
    method: str = "tpe"
    engine: str = "optuna"
    pruner: str = "median"
    parallel: int = 1
    gpu_per_trial: float | None = None
    cpu_per_trial: float | None = None
    grace_period: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("method", METHODS), ("engine", ENGINES), ("pruner", PRUNERS)):
            value = getattr(self, name)
            if value not in allowed:
                raise SettingValueError(f"{name}={value} is not allowed. It must be {' or '.join(allowed)}.")
        for name in ("trials", "parallel", "grace_period"):
            value = getattr(self, name)
            if name == "grace_period" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise SettingTypeError(f"{name}={value!r} is not allowed. It must be a whole number from 1.")
            if value < 1:
                raise SettingValueError(f"{name}={value} is not allowed. It must be a whole number from 1.")
        for name in ("gpu_per_trial", "cpu_per_trial"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise SettingTypeError(f"{name}={value!r} is not allowed. It must be a number from 0.")
        if self.address is not None and not isinstance(self.address, str):
            raise SettingTypeError(f"address={self.address!r} is not allowed. It must be text, such as auto.")
        for name in ("gpu_per_trial", "cpu_per_trial", "address"):
            if self.engine != "ray" and getattr(self, name) is not None:
                raise SettingValueError(f"{name}={getattr(self, name)} is for engine=ray. Add it, or leave {name} out.")


OPTIONS = tuple(Options.__dataclass_fields__)


@dataclass(frozen=True)
class Plan:
    """A study.

    Attributes:
        folder: where all of it goes.
        settings: of every trial, but for what is searched.
        space: what is searched.
        start: what the searched settings would be without a search; the first trial has them, where all lie in the
            space.
        left_out: settings of the built-in space that are not searched → why.
        objects: settings that no file can hold → what they were; a study that is resumed wants them again.
    """

    folder: Path
    settings: Settings
    space: Space
    options: Options = field(default_factory=Options)
    start: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    objects: Mapping[str, str] = field(default_factory=dict)

    @property
    def start_is_inside(self) -> bool:
        return all(dimension.contains(self.start.get(name)) for name, dimension in self.space.items())

    def folder_of(self, number: int) -> Path:
        return self.folder / f"trial-{number:04d}"

    def with_options(self, **changed: Any) -> Plan:
        return replace(self, options=replace(self.options, **changed))

    def save(self) -> None:
        """
        Raises:
            OutputError: study.json cannot be written.
        """
        content = {
            "settings": self.settings.to_dict(),
            "origins": {name: origin for name, origin in self.settings.origins().items() if origin != "default"},
            "space": to_plain(self.space),
            "options": asdict(self.options),
            "start": dict(self.start),
            "left_out": dict(self.left_out),
            "objects": dict(self.objects),
        }
        with atomic_write(self.folder / FILE, "w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Plan:
        """
        Raises:
            MissingInputError: there is no study in that folder.
            OutputError: its file is damaged.
        """
        place = Path(folder).expanduser()
        file = place / FILE
        if not file.is_file():
            raise MissingInputError(
                f"resume={folder}: there is no {file}, so this is no study. Give the folder of one."
            )
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            space: dict[str, Dimension] = {}
            for name, dimension in read_space(content["space"])[0].items():
                assert not isinstance(dimension, Factor)  # numbers stand there
                space[name] = dimension
            return cls(
                place,
                Settings.from_dict(content["settings"], content["origins"]),
                space,
                Options(**content["options"]),
                content["start"],
                content["left_out"],
                content["objects"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{file} cannot be read ({error}). Start a new study in another folder.") from None
