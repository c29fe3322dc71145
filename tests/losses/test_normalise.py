"""Two ranks with a half of the batch each get the gradients of one with the whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from losses.rank import NETWORKS, TARGETS
from sightline.losses.normalise import divisor_and_batch, mean_over_ranks, over_ranks, rank_count

SCRIPT = Path(__file__).with_name("rank.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What rank.py found: of one process, and of each of two."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    for ranks in (1, 2):
        started = [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), str(rank), str(ranks), str(folder)],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(ranks)
        ]
        try:
            for process in started:
                _, errors = process.communicate(timeout=120)
                assert process.returncode == 0, errors
        finally:
            for process in started:
                process.kill()
    names = {"one": "0of1", "first": "0of2", "second": "1of2"}
    return {key: torch.load(folder / f"{name}.pt") for key, name in names.items()}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("case", TARGETS)
def test_gradients_are_those_of_the_joined_batch(results: dict[str, Any], network: str, case: str):
    one, first, second = (results[key][network][case] for key in ("one", "first", "second"))
    largest = max(float(gradient.abs().max()) for gradient in one["gradients"].values())
    assert largest > 0
    for name, expected in one["gradients"].items():
        torch.testing.assert_close(first["gradients"][name], expected, rtol=1e-5, atol=1e-9 * largest)
        assert torch.equal(first["gradients"][name], second["gradients"][name])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("case", TARGETS)
def test_the_mean_of_the_items_is_that_of_the_joined_batch(results: dict[str, Any], network: str, case: str):
    one, first, second = (results[key][network][case]["items"] for key in ("one", "first", "second"))
    for name, expected in one.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_outside_a_rank_may_be_alone(results: dict[str, Any], network: str):
    assert results["first"][network]["alone"] == results["one"][network]["objects on both"]["items"]


def test_users_can_average_counts_of_their_own(results: dict[str, Any]):
    assert [results[key]["ranks"] for key in ("one", "first", "second")] == [1, 2, 2]
    for key in ("first", "second"):
        assert results[key]["mean"].tolist() == [1.5, 2.5]
    assert results["one"]["mean"].tolist() == [1, 2]


def test_with_one_process_the_numbers_pass_through():
    total = torch.tensor(0.25, requires_grad=True)
    with over_ranks():
        assert rank_count() == 1
        divisor, images = divisor_and_batch(total, 4)
        assert mean_over_ranks(total).item() == 0.25
        assert not mean_over_ranks(total).requires_grad
    assert (divisor.item(), images) == (1.0, 4)
    assert divisor_and_batch(torch.tensor(7.5), 4)[0].item() == 7.5
