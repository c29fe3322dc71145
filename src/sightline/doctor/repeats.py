"""`sightline compare repeats=3 a.yaml b.yaml`: each settings file is run with several seeds; what is done is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.artifacts.run_record import SETTINGS, TABLE, read_run, read_settings
from sightline.config.load import make_settings
from sightline.config.settings import COMMAND_LINE, DEFAULTS
from sightline.doctor.recipes import NOT_THE_RECIPE, Recipe, key_of
from sightline.errors import OutputError, SettingValueError, UsageError
from sightline.files import atomic_write, previous_of
from sightline.log import LOGGER
from sightline.models.training_settings import settings_in_file

STATE = "repeats.json"
# A comparison may go on elsewhere: where a run computes is no part of what is compared.
WHERE = frozenset({"device", "workers", "cache", "cache_budget_gb"})


@dataclass(frozen=True)
class PlannedRun:
    """One settings file with one seed.

    Attributes:
        recipe: name of the settings file.
        folder: of the run.
        words: of the command that starts it, after `sightline`.
        settings: what it is to run with, to be compared with what it was begun with.
    """

    recipe: str
    seed: int
    folder: Path
    words: tuple[str, ...]
    settings: Mapping[str, Any]


class Repeats:
    """All runs of a comparison, and which of them are done.

    `repeats.json` in the folder holds for every run that was begun what it was begun with, and whether it has finished,
    so that the same command goes on where the last one ended.

    Args:
        files: of settings, two or more.
        repeats: seeds 0 to repeats - 1 for each.
        folder: where all of it goes.
        words: settings for all runs, as on the command line of train; `given` are the same, parsed.

    Raises:
        SettingsError, MissingSettingsFileError: a file is wrong; nothing was started.
        UsageError: a file names no model or data, or the request is no comparison.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        repeats: int,
        folder: Path,
        *,
        words: Sequence[str] = (),
        given: Mapping[str, Any] | None = None,
    ) -> None:
        if len(files) < 2:
            raise UsageError(
                "repeats= compares settings files, so give two or more. "
                "Example: sightline compare repeats=3 a.yaml b.yaml"
            )
        if repeats < 1:
            raise SettingValueError(f"repeats={repeats} is not allowed. It must be a whole number from 1.")
        owned = {"seed", "save_dir", "name", "project", "cfg", "resume"} & set(given or {})
        if owned:
            raise UsageError(f"compare repeats= chooses {sorted(owned)[0]} itself: leave it out.")
        self.folder = folder
        self.names = _names(files)
        self.plan = [
            self._planned(name, Path(file), seed, words, given or {})
            for seed in range(repeats)  # seed by seed, so that a comparison cut short has both sides
            for name, file in zip(self.names, files, strict=True)
        ]
        self.state: dict[str, dict[str, Any]] = self._read_state()
        self._refuse_changed()

    def run(self, train: Callable[[list[str]], int]) -> int:
        """Do what is left to do, by `train(words)`, and return the first exit code that is not 0.

        A run that has a last.pt goes on from it.
        """
        done = [run for run in self.plan if self.is_done(run)]
        if done:
            LOGGER.info(f"{len(done)} of {len(self.plan)} runs are there already")
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, run in enumerate(self.plan, 1):
            if self.is_done(run):
                self._note(run, finished=True)
                continue
            self._note(run, finished=False)
            last = run.folder / "weights" / "last.pt"
            goes_on = last.is_file() or previous_of(last).is_file()
            words = ["train", f"resume={run.folder}"] if goes_on else list(run.words)
            LOGGER.info(f"run {number} of {len(self.plan)}: sightline {' '.join(words)}")
            code = train(words)
            if code != 0:
                return code
            self._note(run, finished=True)
        return 0

    def is_done(self, run: PlannedRun) -> bool:
        """Whether it has finished, or has written its last epoch and was ended between that and the note about it."""
        if not (run.folder / TABLE).is_file():
            return False
        if self.state.get(run.folder.name, {}).get("finished"):
            return True
        epochs = read_settings(run.folder / SETTINGS)[0].get("epochs")
        lines = (run.folder / TABLE).read_text(encoding="utf-8").splitlines()
        return isinstance(epochs, int) and len(lines) > epochs

    def recipes(self) -> list[Recipe]:
        """The runs that are done, by settings file; equal files stay two recipes, because somebody asked for both."""
        return [
            Recipe(name, [read_run(run.folder) for run in self.plan if run.recipe == name and self.is_done(run)])
            for name in self.names
        ]

    def _planned(self, name: str, file: Path, seed: int, words: Sequence[str], given: Mapping[str, Any]) -> PlannedRun:
        settings = make_settings(
            "train", given, cfg=file, origin=COMMAND_LINE, quiet=seed > 0, in_model_file=settings_in_file
        )
        for needed in ("model", "data"):
            if settings.get(needed) is None:
                raise UsageError(f"{file} names no {needed}. Write it there, or give {needed}=… for all of them.")
        if seed == 0 and settings.is_user_set("seed"):
            LOGGER.info(f"{file}: seed={settings.seed} is left aside, the seeds of repeats= take its place")
        folder = self.folder / f"{name}-seed{seed}"
        plain = {key: value for key, value in settings.to_dict().items() if key not in NOT_THE_RECIPE | WHERE}
        command = ("train", f"cfg={file}", *words, f"seed={seed}", f"save_dir={folder}")
        return PlannedRun(name, seed, folder, command, json.loads(json.dumps(plain, default=str)))

    def _refuse_changed(self) -> None:
        for run in self.plan:
            before = self.state.get(run.folder.name, {}).get("settings")
            if before is None and run.folder.exists() and any(run.folder.iterdir()):
                raise SettingValueError(
                    f"{run.folder} holds something that this comparison did not make. Give save_dir= another folder."
                )
            if before is None or not run.folder.exists():
                continue
            before = {**DEFAULTS, **before}  # a setting that an older version did not have was at its default
            changed = [
                f"{name}: {before.get(name)} → {run.settings[name]}"
                for name in run.settings
                if key_of(before.get(name)) != key_of(run.settings[name])
            ]
            if changed:
                raise SettingValueError(
                    f"{run.recipe} has changed since {run.folder} was run ({', '.join(changed)}). Give save_dir= "
                    "another folder for the new comparison, or remove the runs that are there."
                )

    def _read_state(self) -> dict[str, dict[str, Any]]:
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{self.folder / STATE} cannot be read ({error}). Give save_dir= another folder."
            ) from None
        return state if isinstance(state, dict) else {}

    def _note(self, run: PlannedRun, *, finished: bool) -> None:
        self.state[run.folder.name] = {"settings": dict(run.settings), "finished": finished}
        with atomic_write(self.folder / STATE, "w", encoding="utf-8") as file:
            file.write(json.dumps(self.state, indent=1, ensure_ascii=False) + "\n")


def default_folder(files: Sequence[str | Path]) -> Path:
    """runs/compare/a-b: the same for the same command, which is how it finds what it has done already."""
    return Path("runs", "compare", "-".join(_names(files)))


def _names(files: Sequence[str | Path]) -> list[str]:
    """`a` for a.yaml; with its folder where two files have one name."""
    stems = [Path(file).stem for file in files]
    if len(set(stems)) < len(stems):
        stems = [f"{Path(file).resolve().parent.name}-{Path(file).stem}" for file in files]
    if len(set(stems)) < len(stems):
        stems = [f"{stem}-{number}" for number, stem in enumerate(stems, 1)]
    return stems
