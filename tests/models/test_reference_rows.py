"""Compact rows of a user's RT-DETR file mean the network that they mean to the reference (facts: reference_rows.py)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden.fill import fill
from models.reference_rows import FACTS, HGNET, descriptions, filled, means_of, shapes_digest
from sightline.errors import ModelError
from sightline.models.build import build_model
from sightline.models.rtdetr import RTDETRDetectionModel

CASES = descriptions()


def changed(layer: int, row: list) -> dict:
    rows = [*HGNET["backbone"], *HGNET["head"]]
    rows[layer] = row
    return {**HGNET, "backbone": rows[:7], "head": rows[7:]}


def check(network: RTDETRDetectionModel, name: str) -> None:
    tensors, parameters, digest, means = FACTS[name]
    state = network.state_dict()
    assert len(state) == tensors
    assert sum(each.numel() for each in network.parameters()) == parameters
    assert shapes_digest(state) == digest
    network.load_state_dict(filled(fill, state))
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 128, 160)))
    with torch.no_grad():
        decoded, raw = network.double().eval()(image)
    found = means_of(raw["boxes"][0], raw["scores"][0], raw["encoder_boxes"], raw["encoder_scores"], decoded)
    np.testing.assert_allclose(found, means, rtol=0, atol=1e-5)  # recorded with five decimals


@pytest.mark.parametrize("name", CASES)
def test_a_row_is_read_as_the_reference_reads_it(name: str):
    network = build_model(CASES[name])
    again = network.yaml  # and what a checkpoint holds of it builds the same
    check(network, name)
    check(build_model(again), name)


@pytest.mark.parametrize(
    ("layer", "row", "words"),
    [
        (1, [-1, 5, "HGBlock", [16, 32]], ["backbone row 2", "kernel", "takes the repeats"]),
        (7, [-1, 1, "Conv", [32, 1, 1, None, 1, 1, "nn.ReLU()"]], ["head row 1", "'nn.ReLU()'", "true, false"]),
        (7, [-1, 1, "Conv", [32, 1, 1, None, 1, 1, 1]], ["activation is 1"]),
        (8, [-1, 1, "AIFI", [64, 4, 0.1]], ["head row 2", "dropout 0.1", "write 0"]),
        (13, [-1, 1, "C2f", [32, True, 2]], ["groups 2", "write 1"]),
        (17, [[13, 16], 1, "RTDETRDecoder", ["nc", 32, 40, 2, 4, 3, 96, 0.1]], ["dropout 0.1"]),
        (17, [[13, 16], 1, "RTDETRDecoder", [5]], ["5 classes", "nc is 3"]),
    ],
)
def test_what_the_reference_reads_in_a_way_that_nobody_means_is_an_error(layer: int, row: list, words: list[str]):
    with pytest.raises(ModelError) as caught:
        build_model(changed(layer, row))
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_in_our_layout_a_block_may_leave_its_kernel_out():
    network = build_model(changed(1, {"block": "HGBlock", "middle": 16, "channels": 32, "repeats": 2}))
    assert network.yaml["backbone"][1] == [-1, 2, "HGBlock", [16, 32, 3]]
    check(network, "HGNet")


def test_a_stem_is_not_repeated():
    with pytest.raises(ModelError, match="only one that keeps its width"):
        build_model(changed(0, [-1, 2, "HGStem", [8, 16]]))


def test_a_norm_that_is_a_row_keeps_what_its_writer_says():
    network = build_model(changed(7, [-1, 1, "nn.BatchNorm2d", [64, 0.01]]))
    assert (network.model[7].eps, network.model[7].momentum) == (0.01, 0.03)


@pytest.mark.parametrize(("side", "queries", "rows"), [(32, 20, 60), (64, 80, 240), (96, 180, 300)])
def test_a_small_image_has_fewer_queries_and_as_many_results_as_they_allow(side: int, queries: int, rows: int):
    """Three classes, 300 queries wanted; the numbers are those of the reference."""
    network = build_model(CASES["decoder, width"]).eval()
    with torch.no_grad():
        decoded, raw = network(torch.rand(1, 3, side, side))
    assert raw["boxes"].shape == (1, 1, queries, 4)
    assert decoded.shape == (1, rows, 6)
    best = raw["scores"][0, 0].sigmoid().flatten().sort(descending=True).values[:rows]
    torch.testing.assert_close(decoded[0, :, 4], best)
