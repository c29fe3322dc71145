"""Shared by all tests: one thread per process, because `make test` runs two processes on two cores."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)
