"""Things done in order in a thread, whatever happens."""

from __future__ import annotations

import threading

from sightline.callbacks.loggers.worker import Worker


def test_everything_is_done_in_order_and_failures_are_handed_over():
    done: list[int] = []
    failures: list[BaseException] = []
    worker = Worker("test", failures.append)

    def task(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt  # of a package; the user's comes to the main thread
        done.append(number)

    for number in range(5):
        worker.put(lambda number=number: task(number))
    assert worker.finish(10)
    assert done == [0, 1, 3, 4]
    assert [type(error) for error in failures] == [KeyboardInterrupt]


def test_waiting_has_an_end():
    release = threading.Event()
    worker = Worker("test", lambda error: None)
    worker.put(lambda: release.wait(60))
    assert not worker.finish(0.05)
    release.set()
    assert worker.finish(10)


def test_one_without_tasks_has_no_thread():
    worker = Worker("test", lambda error: None)
    assert worker.finish(0.01)
    assert not worker.thread.is_alive()
