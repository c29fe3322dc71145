"""The study: prepared and checked once, then trial after trial until there are enough."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.artifacts.run_dir import make_run_dir
from sightline.config.kinds import FIND
from sightline.config.load import RECIPES
from sightline.config.settings import AUTO, Settings
from sightline.errors import SettingsError, SettingValueError, TrainingError, UsageError
from sightline.log import LOGGER
from sightline.tune.in_force import Probe, check_names, without_effect
from sightline.tune.ledger import RUNNING, Ledger, Row, Ticket, wait_until_gone
from sightline.tune.plan import FILE, Options, Plan
from sightline.tune.results import TuneResult, write
from sightline.tune.space import Factor, OpenSpace, Space, read_space
from sightline.tune.trial import (
    COMPLETE,
    FAILED,
    Outcome,
    RunTrial,
    TrainTrial,
    check_can_travel,
    check_one_device,
)

# A trial is one of many: its pictures, trackers and progress would bury what matters. Whoever sets them gets them.
QUIET: dict[str, Any] = {"plots": False, "report": False, "loggers": [], "verbose": False}
FAIL_ALIKE = 3  # trials from the first one; more of the same would tell nothing new
WAIT_FOR_OTHERS = 10.0  # seconds for the workers of a study that was just killed to be gone


def prepare(
    settings: Settings, options: Options, space: str | Path | Mapping[str, Any] | None = None, *, run: TrainTrial
) -> Plan:
    """Check everything that can be checked before hours of training, and make the folder of the study.

    Args:
        settings: of every trial; what the user set stays as it is.
        space: a YAML file, a dict, or None for the built-in one, of which only what is in force is searched.
        run: makes the trainers.

    Raises:
        UsageError: something is missing, wrong, or would not be in force; nothing was started.
    """
    _refuse_what_is_no_study(settings)
    check_can_travel(run, options, settings.objects())
    settings = settings.copy()
    wanted, called = read_space(space)
    check_names(wanted)
    left_out = _what_is_set(settings, wanted, "" if space is None else called)
    probe = Probe(settings, run.make)
    searched, useless = _what_acts({name: wanted[name] for name in wanted if name not in left_out}, probe)
    left_out |= useless
    reasons = "\n".join(f"  {name}: {reason}." for name, reason in left_out.items())
    if useless and space is not None:
        raise SettingValueError(
            f"{called}: of what is to be searched, this is not in force in these runs, so that its search would only "
            f"find noise. Take it out, or change what keeps it from acting:\n{reasons}"
        )
    if not searched:
        raise SettingValueError(f"Of the built-in space nothing is left to search:\n{reasons}")
    for name, value in QUIET.items():
        if not settings.is_user_set(name):
            settings.assign(name, value, origin=AUTO)
    if settings.batch < 1:  # found once, or every trial would look for its own
        settings.assign("batch", probe.base.batch, origin=AUTO)
    folder = make_run_dir(settings, settings.task, "tune")
    if (folder / FILE).exists():
        raise SettingValueError(
            f"{folder} holds a study already. Go on with it: resume={folder}. Or give another name."
        )
    start = {name: getattr(probe.base, name) for name in searched}
    plan = Plan(folder, settings, searched, options, start, left_out, settings.objects())
    plan.save()
    _say_what_is_searched(plan, probe)
    return plan


def _refuse_what_is_no_study(settings: Settings) -> None:
    if settings.model is None or settings.data is None:
        missing = " and ".join(f"{name}=" for name in ("model", "data") if getattr(settings, name) is None)
        raise UsageError(f"tune needs {missing}. Example: sightline tune model=yolo26n.yaml data=shapes trials=30")
    if settings.dry_run:
        raise UsageError("dry_run=True: a trial that trains nothing has no fitness. Leave dry_run out.")
    if not settings.val:
        raise SettingValueError("val=False: trials are compared by their validation. Leave val out.")
    if settings.lr0 == FIND:
        raise SettingValueError(
            "lr0=find: every trial would look for its own, and they could not be compared. Find it first, by "
            "`sightline lr-find`, and give it; or leave lr0 to the search."
        )
    check_one_device(settings)


def _what_is_set(settings: Settings, wanted: OpenSpace, own: str) -> dict[str, str]:
    """Settings of the space that the user set as well → what to say; an error where `own` names a space of the user."""
    fixed = [name for name in wanted if settings.is_user_set(name) and settings.origin(name) not in RECIPES]
    if fixed and own:
        said = ", ".join(f"{name}={getattr(settings, name)} ({settings.origin(name)})" for name in fixed)
        raise SettingValueError(f"{said}: set, and in the space as well ({own}). Leave out one of them.")
    return {name: f"you set {name}={getattr(settings, name)}" for name in fixed}


def _what_acts(wanted: OpenSpace, probe: Probe) -> tuple[Space, dict[str, str]]:
    """The space with numbers in the place of factors, without what would not act; and why that would not."""
    closed: Space = {}
    useless: dict[str, str] = {}
    for name, dimension in wanted.items():
        if not isinstance(dimension, Factor):
            closed[name] = dimension
            continue
        try:
            closed[name] = dimension.around(name, getattr(probe.base, name))
        except SettingsError as error:
            useless[name] = str(error).removeprefix(f"{name}: ")
    useless |= without_effect(closed, probe)
    return {name: dimension for name, dimension in closed.items() if name not in useless}, useless


def _say_what_is_searched(plan: Plan, probe: Probe) -> None:
    LOGGER.info(f"study in {plan.folder}: {plan.options.trials} trials of {plan.settings.epochs} epochs")
    width = max(map(len, plan.space))
    for name, dimension in plan.space.items():
        start = plan.start[name]
        shown = f"{start:.4g}" if isinstance(start, float) else str(start)
        LOGGER.info(f"  {name.ljust(width)}  {dimension.describe()}; without the search {shown}")
    for name, reason in plan.left_out.items():
        LOGGER.info(f"  {name.ljust(width)}  not searched: {reason}")
    if plan.settings.optimizer == "auto" and "optimizer" not in plan.space:
        LOGGER.info(
            f"optimizer=auto is {probe.base.optimizer} in every trial. What is searched takes the place of what auto "
            "would fill in; the rest it fills in as ever."
        )
    if not plan.start_is_inside:
        outside = [name for name, dimension in plan.space.items() if not dimension.contains(plan.start[name])]
        LOGGER.info(
            f"{', '.join(f'{name}={plan.start[name]}' for name in outside)}: what it would be without the search lies "
            "outside of the space, so that no trial shows what the search is worth."
        )


def continued(folder: str | Path, given: Mapping[str, Any], changed: Mapping[str, Any]) -> Plan:
    """A study that is there, to go on with.

    Args:
        given: settings of this call; where a run computes may differ from before, and objects must be given again.
        changed: options of this call.

    Raises:
        MissingInputError: there is none.
        SettingValueError: something that cannot change any more.
    """
    plan = Plan.load(folder)
    free = {"trials", "parallel", "address", "gpu_per_trial", "cpu_per_trial"}
    for name, value in changed.items():
        if name not in free and value != getattr(plan.options, name):
            raise SettingValueError(
                f"{name}={value}, but the study in {folder} was begun with {name}={getattr(plan.options, name)}, and "
                f"its trials must stay comparable. Leave {name} out, or start another study."
            )
    objects = plan.objects
    for name, value in given.items():
        if name in ("model", "data") and str(value) == str(getattr(plan.settings, name)):
            continue
        if name not in ("device", "workers", "verbose") and name not in objects:
            raise SettingValueError(
                f"{name}={value!s:.80} with resume: the trials of a study must stay comparable, so only device, "
                "workers, verbose, trials= and parallel= may change."
            )
        plan.settings.assign(name, value, origin="code")
    lacking = [f"{name}={what}" for name, what in objects.items() if name not in given]
    if lacking:
        raise SettingValueError(f"The study in {folder} was begun with {', '.join(lacking)}: give it again.")
    plan = plan.with_options(**changed)
    plan.save()
    return plan


def run_study(plan: Plan, run: RunTrial) -> TuneResult:
    """Run what is left to run, and write what came out.

    Raises:
        TrainingError: another process runs this study; or the first trials fail, all for one reason.
    """
    check_can_travel(run, plan.options, plan.objects)
    ledger = Ledger(plan)
    busy = wait_until_gone(ledger, WAIT_FOR_OTHERS)
    if busy:
        raise TrainingError(
            f"{plan.folder}: process {busy[0]} runs trials of this study. Wait for it, or end it first."
        )
    again = ledger.recover()
    if ledger.ended() or again:
        LOGGER.info(
            f"{len(ledger.ended())} of {plan.options.trials} trials are there already"
            + (f"; {again} that were interrupted go on" if again else "")
        )
    try:
        if plan.options.engine == "ray":
            from sightline.tune.ray_engine import run_on_ray  # loads Ray

            run_on_ray(plan, ledger)
        elif plan.options.parallel > 1:
            from sightline.tune.processes import run_in_processes

            run_in_processes(plan, ledger)
        else:
            work(plan, ledger, run)
    except BaseException as error:
        if not isinstance(error, Exception):  # an interrupt
            LOGGER.info(f"The study goes on with: sightline tune resume={plan.folder}")
        raise
    finally:
        result = write(plan, ledger, pictures=True)
    for line in result.lines():
        LOGGER.info(line)
    return result


def work(plan: Plan, ledger: Ledger, run: RunTrial) -> None:
    """One trial after another, in this process, until there is none left to take."""
    while (ticket := ledger.next()) is not None:
        LOGGER.info(f"{_title(plan, ticket)}: {_values(ticket.values)}")
        try:
            outcome = run_ticket(plan, ledger, run, ticket)
        except BaseException:
            with contextlib.suppress(
                Exception
            ):  # where the disk is gone, that is what must be said; resume does it, too
                ledger.recover(os.getpid(), "interrupted")
            raise
        ledger.end(ticket.number, outcome)
        after_trial(plan, ledger, ticket.number)


def run_ticket(plan: Plan, ledger: Ledger, run: RunTrial, ticket: Ticket) -> Outcome:
    """Run a trial, also one that was interrupted: what is known of its epochs is not asked again."""
    known = ledger.reported(ticket.number)
    ends = False
    for epoch, fitness in sorted(known.items()):
        ends = ledger.report(ticket.number, epoch, fitness)
    if known and max(known) + 1 >= plan.settings.epochs:  # killed between its last epoch and the note about it
        return Outcome(COMPLETE, max(known.values()))

    def report(epoch: int, fitness: float) -> bool:
        nonlocal ends
        if epoch not in known:
            ends = ledger.report(ticket.number, epoch, fitness)
            known[epoch] = fitness
        return ends

    outcome = run(plan, ticket.values, ticket.folder, report)
    if outcome.state == FAILED:
        return outcome
    return Outcome(outcome.state, max([outcome.fitness, *known.values()]))


def after_trial(plan: Plan, ledger: Ledger, number: int) -> TuneResult:
    """Say how it ended, write the tables, and stop a study in which nothing can work.

    Raises:
        TrainingError: the first trials have all failed for one reason.
    """
    result = write(plan, ledger)
    say_outcome(plan, next(row for row in result.rows if row.number == number), result.rows)
    stop_if_all_fail(result.rows)
    return result


def say_outcome(plan: Plan, row: Row, rows: list[Row]) -> None:
    """One line on a trial that has ended."""
    best = TuneResult(plan.folder, rows).best
    so_far = "" if best is None else f"; best so far {best.fitness:.4f} (trial {best.number})"
    how = f"failed: {row.reason}" if row.state == FAILED else f"fitness {row.fitness:.4f}"
    early = f", ended early after {row.epochs} of {plan.settings.epochs} epochs" if row.state == "pruned" else ""
    tell = LOGGER.warning if row.state == FAILED else LOGGER.info
    tell(f"trial {row.number}: {how}{early}{so_far}")


def stop_if_all_fail(rows: list[Row]) -> None:
    """
    Raises:
        TrainingError: the first trials have all failed for one reason.
    """
    ended = [row for row in rows if row.state != RUNNING]
    if len(ended) < FAIL_ALIKE or any(row.state != FAILED for row in ended):
        return
    reasons = [_without_numbers(row.reason) for row in ended]
    if reasons.count(reasons[0]) >= FAIL_ALIKE:
        raise TrainingError(
            f"The first {len(ended)} trials have failed, all alike, so the study ends here: {ended[0].reason}\n"
            "Try one run with `sightline train` and the same settings."
        )


def _without_numbers(reason: str) -> str:
    return re.sub(r"[-+]?\d[\d.e+-]*", "#", reason)


def _title(plan: Plan, ticket: Ticket) -> str:
    return f"trial {ticket.number} of {plan.options.trials}"


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items()
    )
