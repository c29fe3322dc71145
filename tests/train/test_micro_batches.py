"""A batch in pieces: how it is cut, and that several ranks make the same step although one of them runs out of memory.

What happens in a run of one process: e2e/faults/test_memory.py.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.data.collate import split_batch
from sightline.losses.normalise import WholeBatch, divisor_and_batch, mean_over_ranks, of_whole
from train.test_distributed import in_ranks


def batch() -> dict[str, Any]:
    """Five images with 2, 0, 1, 3 and 0 objects, rows not in order."""
    owner = torch.tensor([3, 0, 3, 2, 0, 3]).float()
    return {
        "img": torch.arange(5).view(5, 1, 1, 1).expand(5, 3, 2, 2),
        "cls": torch.arange(6).view(6, 1),
        "bboxes": torch.arange(24).view(6, 4),
        "batch_idx": owner,
        "im_file": tuple("abcde"),
        "weight_of_image": torch.arange(5),
        "note": "same for all",
    }


def test_pieces_are_even_and_lose_nothing():
    whole = batch()
    pieces = split_batch(whole, 2)
    assert [len(piece["img"]) for piece in pieces] == [1, 2, 2]
    assert [piece["im_file"] for piece in pieces] == [("a",), ("b", "c"), ("d", "e")]
    assert [piece["weight_of_image"].tolist() for piece in pieces] == [[0], [1, 2], [3, 4]]
    assert [piece["batch_idx"].tolist() for piece in pieces] == [[0, 0], [1], [0, 0, 0]]
    assert [piece["cls"].flatten().tolist() for piece in pieces] == [[1, 4], [3], [0, 2, 5]]
    for piece in pieces:
        assert torch.equal(piece["bboxes"][:, 0], piece["cls"][:, 0] * 4)
        assert piece["note"] == "same for all"


def test_as_many_objects_as_images():
    """Then the length alone does not say what a tensor belongs to."""
    whole = {
        "img": torch.zeros(2, 3, 4, 4),
        "cls": torch.tensor([[7], [8]]),
        "bboxes": torch.zeros(2, 4),
        "batch_idx": torch.tensor([1.0, 1.0]),
        "weight": torch.tensor([5, 6]),
    }
    first, second = split_batch(whole, 1)
    assert (first["cls"].tolist(), second["cls"].tolist()) == ([], [[7], [8]])
    assert (first["weight"].tolist(), second["weight"].tolist()) == ([5], [6])


def test_a_batch_that_fits_stays_whole():
    (piece,) = split_batch(batch(), 8)
    assert piece.keys() == batch().keys()
    assert torch.equal(piece["bboxes"], batch()["bboxes"])


def test_divisors_are_those_of_the_whole_batch():
    """Two pieces with two calls each, as a loss with two branches makes them."""
    whole = WholeBatch()
    with of_whole(whole):
        whole.begin_counting()
        for counts in ((2.0, 30.0), (5.0, 1.0)):
            whole.begin_piece()
            for count in counts:
                divisor, images = divisor_and_batch(torch.tensor(count), 3)
                assert (float(divisor), int(images)) == (count, 3)  # alone, as without pieces
        whole.counting = False
        assert whole.used
        for counts in ((2.0, 30.0), (5.0, 1.0)):
            whole.begin_piece()
            for total, count in zip((7.0, 31.0), counts, strict=True):
                divisor, images = divisor_and_batch(torch.tensor(count), 3)
                assert (float(divisor), int(images)) == (total, 6)
    assert mean_over_ranks(torch.tensor(4.0)) == 4  # outside of it nothing is remembered


@pytest.fixture(scope="module")
def ranks(tiny_data: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    out = tmp_path_factory.mktemp("ranks")
    seven = shutil.copytree(tiny_data.parent, out / "seven") / tiny_data.name
    seven.write_text(re.sub("^path:.*", f"path: {seven.parent}", seven.read_text(), flags=re.MULTILINE))
    sorted((seven.parent / "images" / "train").iterdir())[0].unlink()
    in_ranks(2, Path(__file__).with_name("two_ranks_memory.py"), tiny_data, seven, tiny_model, out)
    return [torch.load(out / f"rank{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.slow
def test_a_rank_that_runs_out_of_memory_makes_the_step_of_the_others(ranks: list[Any]):
    expected = ranks[0][""]["weights"]
    for where in ("", "forward", "backward"):
        for name, value in ranks[0][where]["weights"].items():
            assert torch.equal(value, ranks[1][where]["weights"][name]), name
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
        assert ranks[0][where]["history"].keys() == ranks[0][""]["history"].keys()
    # Rank 1 goes on by itself in the epoch in which it happened; from the next on both take smaller pieces.
    assert [found["forward"]["limits"] for found in ranks] == [[None, None, 1, 1], [None, None, 1, 1]]
    for found in ranks:  # and what rank 0 says is what people see
        assert found["forward"]["in_force"] == "at most 1 images at once, since memory ran out"
    assert "rank 1" in ranks[0]["forward"]["events"][0]


@pytest.mark.slow
def test_a_step_that_runs_out_of_memory_on_one_rank_is_undone_on_all(ranks: list[Any]):
    for found in ranks:
        run = found["step"]
        assert run["limits"] == [None, None, 1, 1]
        assert "out of memory (MemoryError, on rank 1)" in run["events"][0]
        assert "undone" in run["events"][1]
        for name, value in run["weights"].items():
            assert torch.equal(value, ranks[0]["step"]["weights"][name]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wheres"),
    [("sync_bn", ("layer", "gradient", "forward")), ("sync_bn, uneven", ("layer",))],
)
def test_ranks_that_share_batch_norm_begin_again_together(name: str, wheres: tuple[str, ...], ranks: list[Any]):
    """As if all of them had known before: compared with pieces from the start."""
    expected = ranks[0][f"{name}, from the start"]
    for where in wheres:
        for found in ranks:
            run = found[f"{name}, {where}"]
            assert run["limits"] == [None, None, 1, 1]
            assert "out of memory" in run["events"][0]
            for key, value in run["weights"].items():
                assert value.isfinite().all()
                if "running" not in key and "tracked" not in key:  # the failed attempt moved the statistics, too
                    torch.testing.assert_close(value, expected["weights"][key], rtol=1e-5, atol=1e-7)
