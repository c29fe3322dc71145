"""Who holds up the others: the verdict on made-up signs, and on processes that are really stuck."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sightline import YOLO
from sightline.backends.pulse import Pulse
from sightline.errors import TrainingError
from sightline.train import watchdog
from sightline.train.watchdog import Sign, Suspect, describe, find_suspect

LIMIT = 50.0


def sign(*place: int, silent: float = 0.0, limit: float = LIMIT, waits: bool = False, done: bool = False) -> Sign:
    return Sign(1, place, "epoch 1, batch 2, forward pass", silent, limit, waits, ("f (mine.py:3: g())",), done)


HEARD = {0: 0.0, 1: 0.0}


def test_all_is_well():
    assert find_suspect({0: sign(0, 5, silent=3), 1: sign(0, 5, silent=20)}, HEARD, LIMIT) is None


def test_who_waits_is_no_suspect_however_far_behind():
    """Rank 0 is at something that only it does, while the others wait for it at an earlier point."""
    signs = {0: sign(0, 9, silent=60), 1: sign(0, 7, silent=60, waits=True)}
    assert find_suspect(signs, HEARD, LIMIT) == Suspect(0, mute=False, seconds=60)


def test_of_those_that_do_not_wait_the_one_behind():
    """On a GPU ranks wait where nobody sees it: for the device."""
    signs = {0: sign(0, 9, silent=60), 1: sign(0, 7, silent=60)}
    assert find_suspect(signs, HEARD, LIMIT) == Suspect(1, mute=False, seconds=60)


def test_all_wait_for_different_things():
    signs = {0: sign(0, 9, silent=60, waits=True), 1: sign(0, 7, silent=60, waits=True)}
    assert find_suspect(signs, HEARD, LIMIT) == Suspect(1, mute=False, seconds=60)


def test_a_rank_that_may_take_long_is_waited_for():
    signs = {0: sign(0, 7, silent=60, limit=600), 1: sign(0, 9, silent=60, waits=True)}
    assert find_suspect(signs, HEARD, LIMIT) is None


def test_who_is_mute_is_the_one():
    signs = {0: sign(0, 7, silent=60, waits=True), 1: sign(0, 9, silent=1)}
    assert find_suspect(signs, {0: 0.5, 1: 55.0}, LIMIT) == Suspect(1, mute=True, seconds=56)


def test_who_is_done_is_left_alone():
    signs = {0: sign(0, 9, silent=3), 1: sign(0, 9, silent=100, done=True)}
    assert find_suspect(signs, {0: 0.0, 1: 100.0}, LIMIT) is None


def test_the_message_names_rank_place_and_call():
    signs = {0: sign(0, 9, silent=60), 1: sign(0, 9, silent=60, waits=True)}
    text = describe(Suspect(0, mute=False, seconds=60), signs, LIMIT)
    first = text.splitlines()[0]
    assert "rank 0 of 2 has been stuck for 60 s" in first
    assert "epoch 1, batch 2, forward pass" in first
    assert "f (mine.py:3: g())" in first
    assert "watchdog above 50 seconds" in first
    assert "rank 1 waits" in text


def test_a_sign_survives_the_store():
    before = sign(1, 2, silent=3.5, waits=True)
    assert Sign.load(before.dump().encode()) == before


def test_the_longest_step_is_remembered_but_not_what_is_known_to_take_long(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pulse = Pulse()
    for seconds, patient in ((100, False), (7, False), (3, True), (200, False), (1, False)):
        now[0] += seconds
        pulse.beat("x", patient=patient)
    assert pulse.longest == 7  # neither the 100 s of the start nor the 200 s after the patient beat
    with pulse.waiting():
        now[0] += 50
    now[0] += 2
    pulse.beat("y")
    assert pulse.longest == 7  # for others one waits without being slow


def test_a_frame_between_two_lines_has_a_place(monkeypatch: pytest.MonkeyPatch):
    code = SimpleNamespace(co_filename="mine.py", co_firstlineno=3, co_name="f")
    frame = SimpleNamespace(f_code=code, f_lineno=None, f_back=None)
    monkeypatch.setattr(sys, "_current_frames", lambda: {7: frame})
    assert watchdog._frames(7) == ("f (mine.py:3)",)


def test_a_rank_whose_watchdog_fails_does_not_fall_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    dog, published = watchdog.Watchdog(50), []

    class Board:
        def __init__(self, room: str) -> None:
            pass

        def publish(self, sign: Sign) -> None:
            published.append(sign.number)
            if sign.number in (1, 3):
                raise TypeError("of its own")
            if sign.number == 4:
                dog._end.set()

        def read(self) -> dict[int, Sign]:
            return {}

        def is_alarmed(self) -> bool:
            return False

    monkeypatch.setattr(watchdog, "_Board", Board)
    monkeypatch.setattr(watchdog, "INTERVAL", 0.01)
    dog._run("room")
    assert published == [1, 2, 3, 4, 5]  # the last says that this rank is done
    assert caplog.text.count("TypeError: of its own") == 1


# ------------------------------------------------------------------ processes


def sleeps(trainer: Any) -> None:
    if trainer.rank == 1:
        while True:
            time.sleep(100)


def is_stopped(trainer: Any) -> None:
    if trainer.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)


def is_killed(trainer: Any) -> None:
    if trainer.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def receives_what_nobody_sends(trainer: Any) -> None:
    if trainer.rank == 1:
        import torch

        torch.distributed.recv(torch.zeros(1), src=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "function", "message"),
    [
        ("on_train_batch_end", sleeps, r"rank 1 of 2 has been stuck .*callbacks at on_train_batch_end, at sleeps \("),
        (
            "on_val_batch_start",
            sleeps,
            r"rank 1 of 2 has been stuck .*validation batch 1, .*on_val_batch_start, at sle",
        ),
        ("on_train_batch_end", is_stopped, "rank 1 of 2 has not been heard of"),
        ("on_train_batch_end", is_killed, "rank 1 of 2 was killed by SIGKILL"),
        (
            "on_train_epoch_end",
            receives_what_nobody_sends,
            "rank 1 of 2 has been stuck .*at receives_what_nobody_sends",
        ),
    ],
)
def test_a_stuck_rank_is_named_and_all_are_ended(
    event: str, function: Any, message: str, tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    def act(trainer: Any) -> None:
        owner = trainer if hasattr(trainer, "batch_index") else None
        if owner is None:  # the validator has no rank
            from types import SimpleNamespace

            from sightline.backends import ranks

            owner = SimpleNamespace(rank=ranks.rank())
        function(owner)

    model = YOLO("yolo26n.yaml")
    model.add_callback(event, act)
    with pytest.raises(TrainingError, match=message):
        model.train(
            data=str(tiny_data), project=str(tmp_path), imgsz=64, batch=2, epochs=1, workers=0, plots=False, amp=False,
            verbose=False, device="cpu", nproc=2, watchdog=4,
        )  # fmt: skip
    printed = capfd.readouterr().err
    if "killed" not in message:
        assert printed.count("watchdog:") == 1
    assert "Traceback" not in printed
