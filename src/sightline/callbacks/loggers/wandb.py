"""Weights & Biases: a run on its server, or offline in the run folder where nobody is logged in."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping
from typing import Any

from sightline.callbacks.loggers.base import BEST, Picture, PrecisionRecall, Run, Tracker
from sightline.log import LOGGER


class WandbTracker(Tracker):
    """Settings, numbers and pictures by epoch, precision-recall tables, the result of best.pt, and best.pt itself.

    WANDB_MODE, WANDB_PROJECT and their like are followed. Without WANDB_MODE and without a key the run is kept
    offline, which is said, because asking for a key would stop the run.
    """

    title = "Weights & Biases"

    def __init__(self) -> None:
        super().__init__()
        self.id = ""  # by which a resumed run is the same run there
        self.run: Any = None
        self.best = ""

    def state_dict(self) -> dict[str, Any]:
        return {"id": self.id} if self.id else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.id = str(state.get("id", ""))

    def where(self, run: Run) -> str:
        self.id = self.id or uuid.uuid4().hex[:8]  # now, so that the first checkpoint has it
        return f"run {self.id}, files in {run.folder / 'wandb'}"

    def open(self, run: Run) -> None:
        import wandb

        mode = os.environ.get("WANDB_MODE")
        if mode is None and not _has_key(wandb):
            mode = "offline"
            LOGGER.info(
                f"{self.title}: no key is found, so the run is kept offline. `wandb sync {run.folder / 'wandb'}/*` "
                "sends it; `wandb login` before the next run sends that at once."
            )
        self.best = str(run.folder / "weights" / "best.pt")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or _project_name(run.project),
            name=os.environ.get("WANDB_NAME") or run.folder.name,
            id=self.id,
            resume="allow",
            dir=str(run.folder),
            mode=mode,
            config=run.settings,
            allow_val_change=True,
            # The run's own log stays the only one: no lines in between, no capture of what is printed.
            settings=wandb.Settings(silent=True, console="off"),
        )
        # Charts count epochs, not calls.
        self.run.define_metric("epoch")
        self.run.define_metric("*", step_metric="epoch")

    def write_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        self.run.log({**numbers, "epoch": step}, step=step)

    def write_pictures(self, step: int, pictures: list[Picture]) -> None:
        import wandb
        from PIL import Image

        images = {f"pictures/{p.name}": wandb.Image(Image.open(io.BytesIO(p.content))) for p in pictures}
        self.run.log({**images, "epoch": step}, step=step)

    def write_curves(self, step: int, curves: list[PrecisionRecall]) -> None:
        import wandb

        for curve in curves:
            if not curve.name.startswith(BEST):
                continue  # a table is a file of its own, so the epochs have none
            rows = [list(row) for row in zip(curve.recall[::10].tolist(), curve.precision[::10].tolist(), strict=True)]
            plot = wandb.plot.line(
                wandb.Table(data=rows, columns=["recall", "precision"]), "recall", "precision", title=curve.name
            )
            self.run.log({f"precision-recall/{curve.name}": plot, "epoch": step}, step=step)

    def write_result(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self.run.summary[name] = value

    def close(self, *, finished: bool) -> None:
        if self.run is None:
            return
        try:
            if finished and os.path.isfile(self.best):
                self.run.log_artifact(self.best, name=f"run_{self.id}_model", type="model")
        finally:
            self.run.finish(exit_code=0 if finished else 1)


def _project_name(project: str) -> str:
    """W&B takes no separators of folders in it."""
    return project.replace("/", "-").replace("\\", "-").replace(":", "-").strip("-.") or "sightline"


def _has_key(wandb: Any) -> bool:
    """Whether somebody is logged in, without asking anybody."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return bool(wandb.login(prompt=False))
    except TypeError:  # a version that always asks; it has this instead
        return bool(wandb.api.api_key)
