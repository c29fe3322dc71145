"""MLflow: a run in the store that MLFLOW_TRACKING_URI names, or in files beside the run folders."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sightline.callbacks.loggers.base import Run, Tracker

ALLOW_FILES = "MLFLOW_ALLOW_FILE_STORE"  # newer versions refuse folders without it
KEY = "sightline.key"  # a tag: by it a resumed run finds its own, whether or not the server had answered by then
LONGEST = 500  # characters of a parameter; older servers take no more
MOST_PARAMETERS = 100  # in one call
ARTIFACTS = ("args.yaml", "results.csv", "results.png", "weights/best.pt")


class MLflowTracker(Tracker):
    """Parameters, metrics by epoch, and at the end the files that make the run.

    The experiment is MLFLOW_EXPERIMENT_NAME, else `project`, else "sightline"; the run is MLFLOW_RUN, else named like
    the run folder. Names of metrics lose their brackets, which MLflow does not take: `metrics/mAP50B`.
    """

    title = "MLflow"

    def __init__(self) -> None:
        super().__init__()
        self.key = ""
        self.client: Any = None
        self.run_id = ""
        self.folder = Path()
        self.there: set[tuple[str, int]] = set()  # points that a resumed run has already

    def state_dict(self) -> dict[str, Any]:
        return {"key": self.key} if self.key else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.key = str(state.get("key", ""))

    def where(self, run: Run) -> str:
        self.key = self.key or uuid.uuid4().hex  # now, so that the first checkpoint has it
        uri = store(run)
        allow = f"{ALLOW_FILES}=true " if uri.startswith("file:") else ""
        return f"{allow}mlflow ui --backend-store-uri {uri}"

    def open(self, run: Run) -> None:
        from mlflow.tracking import MlflowClient

        self.folder = run.folder
        with _files_allowed():
            self.client = MlflowClient(tracking_uri=store(run))
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.project or "sightline"
            found = self.client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self.client.create_experiment(name)
        before = self.client.search_runs([experiment], filter_string=f"tags.`{KEY}` = '{self.key}'", max_results=1)
        if before:
            self._go_on(before[0])
        else:
            self._begin(experiment, run)

    def _begin(self, experiment: str, run: Run) -> None:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_RUN") or run.folder.name
        made = self.client.create_run(experiment, run_name=name, tags={KEY: self.key, "folder": str(run.folder)})
        self.run_id = made.info.run_id
        parameters = [Param(key, str(value)[:LONGEST]) for key, value in run.settings.items()]
        for first in range(0, len(parameters), MOST_PARAMETERS):
            self.client.log_batch(self.run_id, params=parameters[first : first + MOST_PARAMETERS])

    def _go_on(self, run: Any) -> None:
        """MLflow cannot take points back, so those of epochs that come again are left as they are."""
        self.run_id = run.info.run_id
        self.client.update_run(self.run_id, status="RUNNING")
        for name in run.data.metrics:
            self.there |= {(name, point.step) for point in self.client.get_metric_history(self.run_id, name)}

    def write_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        named = {name.replace("(", "").replace(")", ""): value for name, value in numbers.items()}
        points = [Metric(name, value, now, step) for name, value in named.items() if (name, step) not in self.there]
        self.client.log_batch(self.run_id, metrics=points)

    def write_result(self, step: int, numbers: Mapping[str, float]) -> None:
        self.write_numbers(step, numbers)

    def close(self, *, finished: bool) -> None:
        if not self.run_id:
            return
        try:
            if finished:
                pictures = (file.name for file in sorted(self.folder.glob("*.*g")) if file.suffix in (".jpg", ".png"))
                for name in dict.fromkeys((*ARTIFACTS, *pictures)):
                    if (self.folder / name).is_file():
                        below = os.path.dirname(name) or None
                        self.client.log_artifact(self.run_id, str(self.folder / name), below)
        finally:
            self.client.set_terminated(self.run_id, "FINISHED" if finished else "FAILED")


def store(run: Run) -> str:
    """Where MLflow keeps its runs: what the user has set, or files beside the run folders."""
    return os.environ.get("MLFLOW_TRACKING_URI") or (run.folder.parent / "mlruns").as_uri()


@contextlib.contextmanager
def _files_allowed() -> Iterator[None]:
    """Say yes to files while the store is opened, unless the user has said something about it."""
    if ALLOW_FILES in os.environ:
        yield
        return
    os.environ[ALLOW_FILES] = "true"
    try:
        yield
    finally:
        os.environ.pop(ALLOW_FILES, None)
