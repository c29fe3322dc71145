"""`engine=ray` on a cluster of this machine: a head without processors and two workers with one each."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sightline import YOLO
from sightline.config.load import make_settings
from sightline.errors import TrainingError
from sightline.tune import results
from sightline.tune.ledger import Ledger
from sightline.tune.plan import Options, Plan
from sightline.tune.trial import COMPLETE, PRUNED

pytestmark = pytest.mark.slow
SMALL = {"imgsz": 64, "batch": 4, "epochs": 3, "close_mosaic": 1, "workers": 0, "device": "cpu"}
SPACE = {"lr0": {"factor": 10}, "mosaic": (0.0, 1.0)}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    ray = pytest.importorskip("ray")
    from ray._common.utils import get_default_ray_temp_dir
    from ray.cluster_utils import Cluster

    Path(get_default_ray_temp_dir()).mkdir(exist_ok=True)  # Cluster writes its address there, whatever temp_dir says
    folder = tempfile.mkdtemp(dir="/tmp", prefix="r")  # a short name: sockets lie below it
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "temp_dir": folder,
            "object_store_memory": 100 << 20,
        },
    )
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "plot_history", lambda *_, **__: None)
    monkeypatch.setattr(results, "plot_importance", lambda *_, **__: None)


def test_four_trials_on_two_workers(address: str, tiny_data: Path, tiny_model: str):
    import ray

    found = YOLO(tiny_model).tune(
        use_ray=True, data=str(tiny_data), trials=4, space=SPACE, address=address, save_dir="study", **SMALL
    )
    assert not ray.is_initialized()
    assert len(found.rows) == 4
    assert {row.state for row in found.rows} <= {COMPLETE, PRUNED}
    assert found.rows[0].values == pytest.approx(dict(found.start))
    for row in found.rows:
        assert (found.folder / row.folder / "weights" / "best.pt").is_file()
        with open(found.folder / row.folder / "results.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) >= row.epochs
        assert row.epochs == 3 or row.state == PRUNED
    assert found.best_file.is_file()
    assert len(Ledger(Plan.load("study")).rows()) == 4

    # The same study goes on without Ray's memory of it.
    longer = YOLO(tiny_model).tune(resume="study", trials=5, address=address)
    assert len(longer.rows) == 5


def test_what_the_cluster_has_not_is_said(address: str, tiny_data: Path, tiny_model: str):
    with pytest.raises(TrainingError, match=r"asks for 0.5 GPU, but the cluster has 0. Lower gpu_per_trial"):
        YOLO(tiny_model).tune(
            engine="ray", data=str(tiny_data), trials=4, space=SPACE, address=address, gpu_per_trial=0.5, **SMALL
        )


def test_who_is_behind_is_asked_to_end_and_not_killed(tmp_path: Path):
    """The scheduler's own decisions, without a cluster."""
    tune = pytest.importorskip("ray.tune")
    from sightline.tune.ray_engine import ENDS_EARLY, EPOCH, METRIC, _scheduler

    settings = make_settings("train", {"epochs": 6, "warmup_epochs": 0})
    plan = Plan(tmp_path, settings, {}, Options(engine="ray", grace_period=2))
    scheduler = _scheduler(plan)
    scheduler.set_search_properties(METRIC, "max")
    trials = [
        SimpleNamespace(trial_id=f"t{number}", config={"folder": str(tmp_path / str(number))}) for number in range(4)
    ]
    for number, trial in enumerate(trials):
        (tmp_path / str(number)).mkdir()
        scheduler.on_trial_add(None, trial)
    for epoch in (1, 2):
        for number, trial in enumerate(trials):  # the later, the worse
            decision = scheduler.on_trial_result(None, trial, {EPOCH: epoch, METRIC: (4 - number) * epoch / 10})
            assert decision == tune.schedulers.TrialScheduler.CONTINUE
        asked = [number for number in range(4) if (tmp_path / str(number) / ENDS_EARLY).exists()]
        assert asked == ([] if epoch == 1 else [1, 2, 3])
    assert _scheduler(plan.with_options(pruner="none")) is None
