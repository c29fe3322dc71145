"""`engine=ray`: the same study, its trials run by Ray Tune on a cluster.

Optuna still chooses the values and keeps the trials, so that space, files and resume are the same as without Ray; Ray
places the trials on machines (parts of a GPU, if asked), begins those again whose machine dies, and its scheduler ASHA
ends those that are behind. The folder of the study must be one that all machines see.

Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, arXiv:1810.05934.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline.errors import MissingExtraError, TrainingError
from sightline.log import LOGGER
from sightline.tune.ledger import Ledger, Ticket, grace_period
from sightline.tune.plan import Plan
from sightline.tune.search import after_trial
from sightline.tune.trial import FAILED, Outcome, TrainTrial

METRIC, EPOCH = "fitness", "training_iteration"
MOST_FAILURES = 2  # of the machine or process of one trial; what training itself raises is an outcome
REDUCTION = 3  # of ASHA: the best third goes on
ENDS_EARLY = "ends-early"  # a file in the folder of a trial, by which the driver asks it to end
# Nothing is sent home; results.csv is a table already; relative paths mean what they meant when the study was begun.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
LONGEST_SOCKET_FOLDER = 40  # letters: Ray puts Unix sockets below it, whose whole path may have 107


def run_on_ray(plan: Plan, ledger: Ledger) -> None:
    """Run what is left to run; returns when it has ended.

    Raises:
        MissingExtraError: Ray is not installed.
        TrainingError: the cluster cannot be reached or has not what a trial asks for; or the first trials fail alike.
    """
    with _environment():
        try:
            import ray
            from ray import tune
        except ImportError as error:
            raise MissingExtraError(f"engine=ray needs Ray ({error}). Install: pip install 'sightline[ray]'") from None
        started = _connect(ray, plan)
        try:
            _check_resources(ray, plan)
            searcher = _searcher(plan, ledger)
            tuner = tune.Tuner(
                tune.with_resources(tune.with_parameters(_train, folder=str(plan.folder)), _resources(plan)),
                tune_config=tune.TuneConfig(
                    metric=METRIC,
                    mode="max",
                    search_alg=searcher,
                    scheduler=_scheduler(plan),
                    num_samples=ledger.left_to_take(),
                    max_concurrent_trials=plan.options.parallel if plan.options.parallel > 1 else None,
                ),
                run_config=tune.RunConfig(
                    name="ray",
                    storage_path=str(plan.folder.absolute()),
                    failure_config=tune.FailureConfig(max_failures=MOST_FAILURES),
                    verbose=0,
                ),
            )
            tuner.fit()
            if searcher.problem is not None:
                raise searcher.problem
        finally:
            if started:
                ray.shutdown()


def _train(config: dict[str, Any], *, folder: str) -> None:
    """One trial, in a process of Ray's, perhaps on another machine."""
    from ray import tune

    plan = Plan.load(folder)
    ticket = Ticket(config["number"], config["values"], Path(config["folder"]))
    known = {int(epoch): fitness for epoch, fitness in config["known"].items()}
    if plan.settings.device is None and not _has_gpu():
        plan.settings.assign("device", "cpu", origin="tune")
    flag = ticket.folder / ENDS_EARLY
    flag.unlink(missing_ok=True)

    def report(epoch: int, fitness: float) -> bool:
        if epoch in known:
            return False
        known[epoch] = fitness
        tune.report({METRIC: fitness, "epoch": epoch, "outcome": "", "reason": ""})  # returns when the driver has it
        return flag.exists()

    outcome = TrainTrial()(plan, ticket.values, ticket.folder, report)
    best = 0.0 if outcome.state == FAILED else max([*known.values(), outcome.fitness])
    tune.report({METRIC: best, "epoch": -1, "outcome": outcome.state, "reason": outcome.reason})


def _scheduler(plan: Plan) -> Any:
    """ASHA that asks a trial to end, because Ray's own way to stop one kills it in the middle of a write."""
    from ray.tune.schedulers import ASHAScheduler, TrialScheduler

    if plan.options.pruner == "none":
        return None

    class EndsInOrder(ASHAScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
            decision = super().on_trial_result(tune_controller, trial, result)
            if decision == TrialScheduler.STOP:
                (Path(trial.config["folder"]) / ENDS_EARLY).touch()
            return TrialScheduler.CONTINUE

    return EndsInOrder(
        time_attr=EPOCH,
        max_t=plan.settings.epochs + 1,  # the last report is how the trial ended
        grace_period=min(grace_period(plan), plan.settings.epochs),
        reduction_factor=REDUCTION,
    )


def _searcher(plan: Plan, ledger: Ledger) -> Any:
    """What Ray asks for values and tells results, in front of the ledger."""
    from ray.tune.search import Searcher

    class FromLedger(Searcher):
        """Ray's trials by their id, the ledger's by their number."""

        def __init__(self) -> None:
            super().__init__(metric=METRIC, mode="max")
            self.tickets: dict[str, Ticket] = {}
            self.problem: TrainingError | None = None

        def set_search_properties(self, *_: Any, **__: Any) -> bool:
            return True

        def suggest(self, trial_id: str) -> Any:
            if self.problem is not None:
                return self.FINISHED
            ticket = ledger.next()
            if ticket is None:
                return self.FINISHED
            self.tickets[trial_id] = ticket
            known = ledger.reported(ticket.number)
            for epoch, fitness in sorted(known.items()):
                ledger.report(ticket.number, epoch, fitness)
            return {
                "number": ticket.number,
                "values": dict(ticket.values),
                "folder": str(ticket.folder.absolute()),
                "known": {str(epoch): fitness for epoch, fitness in known.items()},
            }

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            self._note(trial_id, result)

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            ticket = self.tickets.pop(trial_id, None)
            if ticket is None:
                return
            result = result or {}
            self._note(trial_id, result, ticket)
            if result.get("outcome") and not error:
                outcome = Outcome(result["outcome"], float(result[METRIC]), str(result["reason"]))
            else:
                outcome = Outcome(FAILED, math.nan, f"its process ended {MOST_FAILURES + 1} times")
            ledger.end(ticket.number, outcome)
            try:
                after_trial(plan, ledger, ticket.number)
            except TrainingError as problem:  # raised here, it would only be a line in a log of Ray's
                self.problem = problem

        def _note(self, trial_id: str, result: dict[str, Any], ticket: Ticket | None = None) -> None:
            ticket = ticket or self.tickets.get(trial_id)
            epoch = int(result.get("epoch", -1))
            if ticket is not None and epoch >= 0:
                ledger.report(ticket.number, epoch, float(result[METRIC]))

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the ledger is a file."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: the ledger is a file."""

    return FromLedger()


def _connect(ray: Any, plan: Plan) -> bool:
    """Use the cluster that is there, or start one on this machine; returns whether this call did either."""
    if ray.is_initialized():
        return False
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    options["runtime_env"] = {"env_vars": ENVIRONMENT}
    if plan.options.address is not None:
        options["address"] = plan.options.address
    else:
        options |= {"include_dashboard": False, "_temp_dir": _socket_folder()}
    try:
        ray.init(**options)
    except Exception as error:
        where = f"address={plan.options.address}" if plan.options.address else "a cluster on this machine"
        raise TrainingError(f"Ray: {where} cannot be reached or started ({error}).") from error
    return True


def _socket_folder() -> str | None:
    """A short one, where that of the system is too long for sockets."""
    usual = tempfile.gettempdir()
    return None if len(usual) <= LONGEST_SOCKET_FOLDER or not Path("/tmp").is_dir() else "/tmp/ray"


def _resources(plan: Plan) -> dict[str, float]:
    gpu = plan.options.gpu_per_trial
    if gpu is None:
        gpu = 1.0 if _has_gpu() and str(plan.settings.device) != "cpu" else 0.0
    return {"cpu": float(1 if plan.options.cpu_per_trial is None else plan.options.cpu_per_trial), "gpu": float(gpu)}


def _check_resources(ray: Any, plan: Plan) -> None:
    """Else Ray would wait for ever for a machine that nobody adds."""
    wanted, there = _resources(plan), ray.cluster_resources()
    for name, amount in wanted.items():
        if amount > there.get(name.upper(), 0):
            raise TrainingError(
                f"A trial asks for {amount:g} {name.upper()}, but the cluster has {there.get(name.upper(), 0):g}. "
                f"Lower {name}_per_trial."
            )
    LOGGER.info(
        f"Ray: {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs; {wanted['cpu']:g} and {wanted['gpu']:g} "
        "for each trial"
    )


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


__all__ = ["run_on_ray"]
