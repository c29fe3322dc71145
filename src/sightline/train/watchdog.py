"""Ranks that wait for one that never comes would wait for ever, in silence: somebody has to notice and say which.

Every rank has a thread that publishes once a second what its training thread is doing (backends/pulse.py), in the store
that the ranks met through, and reads what the others publish. When one has made no step for longer than the limit, the
first to notice prints which rank, where in the run, and at which line of Python; then all ranks end.

Who holds up the others? A rank that does not even publish (killed, stopped, or in native code that keeps the
interpreter to itself). Else, of those that do not visibly wait for others, the one that is furthest behind; if all of
them wait, they have called different things, and again the one furthest behind is where to look.
"""

from __future__ import annotations

import datetime
import json
import linecache
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.distributed as dist

from sightline.backends import ranks
from sightline.backends.pulse import PULSE
from sightline.callbacks.base import EVENTS
from sightline.log import LOGGER
from sightline.train.rank import leave_word

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer

INTERVAL = 1.0  # seconds from one look to the next
SLOW_STEPS = 5  # a step may take this many times as long as the longest so far
PATIENCE = 600.0  # seconds for the set-up, the first step, and what is known to take long
EXIT_CODE = 3
SHOWN_FRAMES = 8
# Python frames of torch's collective calls, and of the backward pass, in which DDP averages gradients.
WAITING_PLACES = ("torch/distributed/", "torch/autograd/graph.py", "torch/autograd/__init__.py")


class Sign(NamedTuple):
    """What a rank says of itself, as one line of JSON in the store."""

    number: int  # counts up, so that others see whether it still speaks
    place: tuple[int, ...]
    stage: str
    silent: float  # seconds since the last beat
    limit: float  # how many of them are allowed here
    waits: bool
    frames: tuple[str, ...]  # innermost first; empty while all is well
    done: bool = False

    def dump(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def load(cls, text: bytes | str) -> Sign:
        values = json.loads(text)
        return cls(**{**values, "place": tuple(values["place"]), "frames": tuple(values["frames"])})


class Suspect(NamedTuple):
    rank: int
    mute: bool  # does not even publish
    seconds: float


def find_suspect(signs: Mapping[int, Sign], unheard: Mapping[int, float], limit: float) -> Suspect | None:
    """The rank that holds up the others, if that has lasted too long.

    Args:
        signs: the last of each rank.
        unheard: seconds since each rank's last new sign.
        limit: for those, since signs come every second whatever a rank does; how long a step may take is in its sign.
    """
    running = {rank: sign for rank, sign in signs.items() if not sign.done}
    for rank, sign in running.items():
        if unheard[rank] > limit:
            return Suspect(rank, mute=True, seconds=unheard[rank] + sign.silent)
    free = {rank: sign for rank, sign in running.items() if not sign.waits} or running
    if not free:
        return None
    rank = min(free, key=lambda number: (free[number].place, number))
    sign = free[rank]
    return Suspect(rank, mute=False, seconds=sign.silent) if sign.silent > sign.limit else None


class Watchdog:
    """Runs from `start` to `stop`, on every rank.

    Args:
        limit: seconds; 0 is off, as it is with one process.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._watched = threading.get_ident()
        self._number = 0

    def start(self) -> None:
        if not self.limit or ranks.count() == 1:
            return
        if "MASTER_ADDR" not in os.environ:
            LOGGER.warning("watchdog: the ranks did not meet through a launcher's store, so it is off.")
            return
        PULSE.reset()
        room = ranks.broadcast(f"sightline-watchdog-{time.time_ns()}")
        self._thread = threading.Thread(target=self._run, args=(room,), name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._end.set()
            self._thread.join(timeout=5 * INTERVAL)
            self._thread = None

    # ------------------------------------------------------------------ in the thread

    def _run(self, room: str) -> None:
        """Whatever goes wrong here, the run is well: a rank that falls silent would be taken for dead by the others."""
        said = False
        while not self._end.is_set():
            try:
                self._watch(_Board(room))
                return
            except Exception as error:
                if self._end.wait(INTERVAL):  # the store goes away with the run
                    return
                if not said:
                    LOGGER.warning(f"watchdog: {type(error).__name__}: {error}. It begins again.")
                said = True

    def _watch(self, board: _Board) -> None:
        heard: dict[int, tuple[int, float]] = {}  # rank → number of its last sign, and when that was new
        last_look, parent = time.monotonic(), os.getppid()
        while not self._end.wait(INTERVAL):
            now = time.monotonic()
            if now - last_look > 5 * INTERVAL:  # this process has slept; so may have the others
                heard = {rank: (number, now) for rank, (number, _) in heard.items()}
            last_look = now
            if os.getppid() != parent:  # the launcher was killed, so nobody would end this process
                os._exit(EXIT_CODE)
            board.publish(self._sign())
            signs = board.read()
            for rank, sign in signs.items():
                if rank not in heard or heard[rank][0] != sign.number:
                    heard[rank] = (sign.number, now)
            unheard = {rank: now - moment for rank, (_, moment) in heard.items()}
            suspect = find_suspect(signs, unheard, self.limit)
            if suspect is not None or board.is_alarmed():
                self._give_alarm(board, suspect, signs)
        board.publish(self._sign()._replace(done=True))

    def _sign(self) -> Sign:
        self._number += 1
        beat = PULSE.last
        silent = time.monotonic() - beat.moment
        limit = max(self.limit, SLOW_STEPS * PULSE.longest)
        if beat.patient or not PULSE.warm:
            limit = max(limit, PATIENCE)
        frames = _frames(self._watched) if silent > 2 * INTERVAL else ()
        waits = PULSE.waits or any(place in frame for frame in frames for place in WAITING_PLACES)
        return Sign(self._number, beat.place, f"{beat.where}, {beat.stage}", silent, limit, waits, frames)

    def _give_alarm(self, board: _Board, suspect: Suspect | None, signs: Mapping[int, Sign]) -> None:
        if suspect is not None and board.first_to_alarm():
            message = describe(suspect, signs, self.limit)
            print(f"\n{message}\n", file=sys.stderr, flush=True)
            leave_word({"kind": "TrainingError", "message": message.splitlines()[0], "named": True})
        else:
            time.sleep(INTERVAL)  # until that is printed
        os._exit(EXIT_CODE)


class _Board:
    """Where the ranks leave their signs: the launcher's key-value store, over a connection of this thread's own."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=datetime.timedelta(seconds=30),
        )

    def publish(self, sign: Sign) -> None:
        self.store.set(f"{self.room}/{ranks.rank()}", sign.dump())

    def read(self) -> dict[int, Sign]:
        keys = {rank: f"{self.room}/{rank}" for rank in range(ranks.count())}
        return {rank: Sign.load(self.store.get(key)) for rank, key in keys.items() if self.store.check([key])}

    def first_to_alarm(self) -> bool:
        return self.store.add(f"{self.room}/alarm", 1) == 1

    def is_alarmed(self) -> bool:
        return self.store.check([f"{self.room}/alarm"])


def describe(suspect: Suspect, signs: Mapping[int, Sign], limit: float) -> str:
    """What is printed: the rank, where it is in the run and in the code; then the others in a line each."""
    sign = signs[suspect.rank]
    name = f"rank {suspect.rank} of {len(signs)}"
    if suspect.mute:
        first = (
            f"watchdog: {name} has not been heard of for {suspect.seconds:.0f} s, last {sign.stage}: its process is "
            "gone, stopped, or in native code that never returns."
        )
    else:
        call = next((frame for frame in sign.frames if _is_telling(frame)), sign.frames[0] if sign.frames else "")
        alone = any(not other.waits for other in signs.values())
        why = "" if alone else ", where the other ranks do not come: they wait at another call"
        first = f"watchdog: {name} has been stuck for {suspect.seconds:.0f} s, {sign.stage}, at {call}{why}."
    lines = [f"{first} All ranks are ended. If this may take so long, set watchdog above {limit:g} seconds (0 is off)."]
    lines += [f"  {frame}" for frame in sign.frames[:SHOWN_FRAMES]]
    for rank, other in signs.items():
        if rank != suspect.rank:
            where = next((f", at {frame}" for frame in other.frames if _is_telling(frame)), "")
            waits = "waits" if other.waits else "is at work"
            lines.append(f"  rank {rank} {waits}, {other.stage}, for {other.silent:.0f} s{where}")
    return "\n".join(lines)


def _frames(thread: int) -> tuple[str, ...]:
    """`function (file:line: text)` of a thread, innermost first."""
    frame = sys._current_frames().get(thread)
    found = []
    while frame is not None and len(found) < 40:
        # Between two lines Python has no number for a frame.
        file, line = frame.f_code.co_filename, frame.f_lineno or frame.f_code.co_firstlineno
        text = linecache.getline(file, line).strip()
        found.append(f"{frame.f_code.co_name} ({file}:{line}{': ' + text if text else ''})")
        frame = frame.f_back
    return tuple(found)


_PYTHON, _TORCH, _RANKS = (str(Path(file).parent) for file in (os.__file__, torch.__file__, ranks.__file__))


def _is_telling(frame: str) -> bool:
    """Whether a frame is of the user or of this library, and not of torch, Python or the calls between ranks."""
    of_python = f"({_PYTHON}" in frame and "-packages" not in frame
    return not of_python and f"({_TORCH}" not in frame and f"({_RANKS}" not in frame


# What begins when the callbacks of an event are through.
NEXT = {
    "on_pretrain_routine_start": "set-up",
    "on_train_epoch_start": "loading a batch",
    "on_train_batch_start": "forward pass",
    "on_before_backward": "backward pass",
    "on_before_optimizer_step": "optimizer step",
    "on_after_optimizer_step": "end of the batch",
    "on_train_batch_end": "loading a batch",
    "on_train_epoch_end": "validation",
    "on_model_save": "end of the epoch",
}
_ORDER = {event: number for number, event in enumerate(EVENTS)}
_EPOCH_END = _ORDER["on_train_epoch_end"]


def note(trainer: BaseTrainer, event: str, *, through: bool) -> None:
    """A beat of the training loop, before and after the callbacks of an event."""
    if event == "on_train_batch_end":
        PULSE.warm = True
    number = _ORDER.get(event, 0)
    in_batches = number < _EPOCH_END
    PULSE.beat(
        NEXT.get(event, f"after {event}") if through else f"callbacks at {event}",
        where=f"epoch {trainer.epoch + 1}" + (f", batch {trainer.batch_index + 1}" if in_batches else ""),
        place=(trainer.epoch, int(not in_batches), trainer.batch_index, number, int(through)),
        patient=through and event.startswith("on_pretrain"),
    )
