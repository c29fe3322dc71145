"""Rows of users' files for RT-DETR, and what running the reference (8.4.190) with them showed.

Each case changes a row of a small network. Its facts were recorded from the outside: how many tensors and parameters
the network had, a digest of their names and shapes, and means of its output for one image with the weights of
`filled`. Only facts and our own lines are here; how they were found stands in decision 0177.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

HGNET: dict[str, Any] = {
    "nc": 3,
    "backbone": [
        [-1, 1, "HGStem", [8, 16]],
        [-1, 2, "HGBlock", [16, 32, 3]],
        [-1, 1, "DWConv", [32, 3, 2, 1, False]],
        [-1, 2, "HGBlock", [16, 48, 3]],
        [-1, 1, "DWConv", [48, 3, 2, 1, False]],
        [-1, 2, "HGBlock", [16, 64, 5, True, False]],
        [-1, 2, "HGBlock", [16, 64, 5, True, True]],
    ],
    "head": [
        [-1, 1, "Conv", [32, 1, 1, None, 1, 1, False]],
        [-1, 1, "AIFI", [64, 4]],
        [-1, 1, "Conv", [32, 1, 1]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [3, 1, "Conv", [32, 1, 1, None, 1, 1, False]],
        [[-2, -1], 1, "Concat", [1]],
        [-1, 2, "RepC3", [32]],
        [-1, 1, "Conv", [32, 3, 2]],
        [[-1, 9], 1, "Concat", [1]],
        [-1, 2, "RepC3", [32]],
        [[13, 16], 1, "RTDETRDecoder", ["nc", 32, 50, 4, 4, 2]],
    ],
}
RESNET: dict[str, Any] = {
    "nc": 3,
    "backbone": [
        [-1, 1, "ResNetLayer", [3, 16, 1, True, 1]],
        [-1, 1, "ResNetLayer", [16, 8, 1, False, 1]],
        [-1, 1, "ResNetLayer", [32, 8, 2, False, 2]],
        [-1, 1, "ResNetLayer", [32, 16, 2, False, 1]],
    ],
    "head": [
        [-1, 1, "Conv", [32, 1, 1, None, 1, 1, False]],
        [-1, 1, "AIFI", [64, 4]],
        [[2, 5], 1, "RTDETRDecoder", ["nc", 32, 50, 4, 4, 2]],
    ],
}

# name → layer of HGNET that is changed, and its row there
HGNET_ROWS: dict[str, tuple[int, list[Any]]] = {
    "stem": (0, [-1, 1, "HGStem", [12, 24]]),
    "chain of one": (1, [-1, 1, "HGBlock", [16, 32, 3]]),
    "kernel 5": (1, [-1, 2, "HGBlock", [16, 32, 5]]),
    "light": (1, [-1, 2, "HGBlock", [16, 32, 3, True]]),
    "sum": (6, [-1, 3, "HGBlock", [24, 64, 3, False, True]]),
    "no sum": (6, [-1, 3, "HGBlock", [24, 64, 3, False, False]]),
    "sum of unequal widths": (1, [-1, 2, "HGBlock", [16, 32, 3, False, True]]),
    "depthwise with activation": (2, [-1, 1, "DWConv", [32, 3, 2]]),
    "activation left out": (7, [-1, 1, "Conv", [32, 1]]),
    "activation None": (7, [-1, 1, "Conv", [32, 1, 1, None, 1, 1, None]]),
    "activation None in quotes": (7, [-1, 1, "Conv", [32, 1, 1, "None", 1, 1, "None"]]),
    "activation False in quotes": (7, [-1, 1, "Conv", [32, 1, 1, None, 1, 1, "False"]]),
    "groups and dilation": (7, [-1, 1, "Conv", [32, 3, 1, None, 2, 2]]),
    "norm": (7, [-1, 1, "nn.BatchNorm2d", [64]]),
    "encoder, all defaults": (8, [-1, 1, "AIFI", []]),
    "encoder, hidden": (8, [-1, 1, "AIFI", [48]]),
    "encoder, no dropout": (8, [-1, 1, "AIFI", [48, 8, 0]]),
    "encoder, twice": (8, [-1, 2, "AIFI", [48, 4]]),
    "fusion, narrow": (13, [-1, 3, "RepC3", [32, 0.5]]),
    "fusion, wide": (13, [-1, 3, "RepC3", [64, 1.0]]),
    "C3": (13, [-1, 2, "C3", [32, True, 1, 0.25]]),
    "C2f": (13, [-1, 2, "C2f", [32, True, 1, 0.25]]),
    "C3k2": (13, [-1, 2, "C3k2", [32, False, 0.5, False, 1, False]]),
    "Bottleneck": (13, [-1, 1, "Bottleneck", [32, True, 1, [1, 3], 1.0]]),
    "decoder, width": (17, [[13, 16], 1, "RTDETRDecoder", ["nc", 64]]),
    "decoder, queries": (17, [[13, 16], 1, "RTDETRDecoder", ["nc", 32, 40]]),
    "decoder, points": (17, [[13, 16], 1, "RTDETRDecoder", ["nc", 32, 40, 2]]),
    "decoder, heads": (17, [[13, 16], 1, "RTDETRDecoder", ["nc", 32, 40, 2, 4]]),
    "decoder, layers": (17, [[13, 16], 1, "RTDETRDecoder", ["nc", 32, 40, 2, 4, 3]]),
    "decoder, hidden": (17, [[13, 16], 1, "RTDETRDecoder", ["nc", 32, 40, 2, 4, 3, 96]]),
    "decoder, no dropout": (17, [[13, 16], 1, "RTDETRDecoder", ["nc", 32, 40, 2, 4, 3, 96, 0.0]]),
}
RESNET_ROWS: dict[str, tuple[int, list[Any]]] = {
    "stage, count left out": (1, [-1, 1, "ResNetLayer", [16, 8, 1, False]]),
    "stage of three": (1, [-1, 1, "ResNetLayer", [16, 8, 1, False, 3]]),
    "stem that says a stride": (0, [-1, 1, "ResNetLayer", [3, 16, 2, True, 3]]),
}
# name → keys of the description that are changed
KEYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "half": (HGNET, {"scales": {"n": [0.5, 0.5, 1024]}}),
    "deeper, wider, limited": (HGNET, {"scales": {"n": [1.5, 2.0, 32]}}),
    "half of ResNet": (RESNET, {"scales": {"n": [0.5, 0.5, 1024]}}),
    "ReLU": (HGNET, {"activation": "nn.ReLU()"}),
    "ReLU in ResNet": (RESNET, {"activation": "nn.ReLU()"}),
    "classes": (HGNET, {"nc": 7}),
}

# name → tensors, parameters, digest of names and shapes, means (`means_of`): as the reference gave them, in float64
Facts = tuple[int, int, str, list[float]]
# fmt: off
FACTS: dict[str, Facts] = {
    "HGNet": (359, 270789, "dfec3b94113c", [0.57297, 1.32955, 0.76491, -0.32388, 0.48439]),
    "ResNet": (203, 189733, "451567da3ab0", [0.55916, 0.91744, 0.51196, -0.31047, 0.67201]),
    "stem": (359, 274141, "0ee9790c95b3", [0.40728, 1.05276, 0.62695, -0.32418, 0.47734]),
    "chain of one": (353, 268197, "fdc57f6d00cf", [0.37616, 1.28322, 0.5998, -0.31164, 0.48537]),
    "kernel 5": (359, 278981, "8706b9efb2ef", [0.59514, 1.27762, 0.80131, -0.32456, 0.50056]),
    "light": (371, 267045, "1945e602d897", [0.55856, 1.20658, 0.76715, -0.29969, 0.48502]),
    "sum": (353, 294197, "079c95b3e04d", [0.58015, 1.33145, 0.77166, -0.32412, 0.48446]),
    "no sum": (353, 294197, "079c95b3e04d", [0.57248, 1.3302, 0.76497, -0.32449, 0.48456]),
    "sum of unequal widths": (359, 270789, "dfec3b94113c", [0.57297, 1.32955, 0.76491, -0.32388, 0.48439]),
    "depthwise with activation": (359, 270789, "dfec3b94113c", [0.65602, 1.23504, 0.83336, -0.36347, 0.47102]),
    "activation left out": (359, 270789, "dfec3b94113c", [0.57309, 1.32343, 0.76502, -0.32506, 0.48408]),
    "activation None": (359, 270789, "dfec3b94113c", [0.57297, 1.32955, 0.76491, -0.32388, 0.48439]),
    "activation None in quotes": (359, 270789, "dfec3b94113c", [0.57297, 1.32955, 0.76491, -0.32388, 0.48439]),
    "activation False in quotes": (359, 270789, "dfec3b94113c", [0.57297, 1.32955, 0.76491, -0.32388, 0.48439]),
    "groups and dilation": (359, 277957, "5ae900e6d7a0", [0.55268, 1.3208, 0.7569, -0.32435, 0.48371]),
    "norm": (358, 286501, "eba4696a8be1", [0.57412, 1.32665, 0.76526, -0.32535, 0.48565]),
    "encoder, all defaults": (359, 399749, "8e515ad77207", [0.56574, 1.33778, 0.76208, -0.32367, 0.48569]),
    "encoder, hidden": (359, 269749, "7840be95c02a", [0.57234, 1.33051, 0.76483, -0.3245, 0.4845]),
    "encoder, no dropout": (359, 269749, "7840be95c02a", [0.57234, 1.33051, 0.76483, -0.3245, 0.4845]),
    "encoder, twice": (371, 277253, "253e39391551", [0.57573, 1.31578, 0.76607, -0.32688, 0.48408]),
    "fusion, narrow": (377, 256389, "bcc03d6fe53c", [0.62911, 1.27602, 0.82408, -0.25171, 0.50152]),
    "fusion, wide": (371, 388165, "f8a947246dcd", [0.43645, 2.05064, 0.64989, -0.01742, 0.58502]),
    "C3": (365, 248805, "91acd6805560", [0.52746, 1.21627, 0.73454, -0.29788, 0.49737]),
    "C2f": (359, 250341, "34b3956b21fa", [0.61007, 0.97356, 0.77811, -0.34787, 0.47979]),
    "C3k2": (359, 254757, "dadf80628371", [0.54853, 1.53393, 0.74302, -0.21984, 0.51955]),
    "Bottleneck": (335, 257221, "70d605ae5a01", [0.48214, 1.23158, 0.64761, -0.08217, 0.57831]),
    "decoder, width": (479, 1204449, "7a5baa923a3d", [0.48165, 0.98474, 0.75872, 0.08137, 0.64662]),
    "decoder, queries": (479, 604321, "d7643b1ddfe5", [0.57933, 1.3406, 0.84275, 0.78092, 0.85913]),
    "decoder, points": (479, 585313, "3297cf49d7a3", [0.57933, 1.3406, 0.79455, 0.65921, 0.85019]),
    "decoder, heads": (479, 575809, "bdec05edf03f", [0.57933, 1.3406, 0.82156, 0.83944, 0.80998]),
    "decoder, layers": (389, 344668, "fd2da49eba30", [0.57933, 1.3406, 0.77878, 0.05473, 0.67114]),
    "decoder, hidden": (389, 163708, "83235333454c", [0.57933, 1.3406, 0.66929, 0.12594, 0.69345]),
    "decoder, no dropout": (389, 163708, "83235333454c", [0.57933, 1.3406, 0.66929, 0.12594, 0.69345]),
    "stage, count left out": (203, 189733, "451567da3ab0", [0.55916, 0.91744, 0.51196, -0.31047, 0.67201]),
    "stage of three": (239, 192101, "58dcaed9fef9", [0.49834, 0.85279, 0.47094, -0.59037, 0.63245]),
    "stem that says a stride": (203, 189733, "451567da3ab0", [0.55916, 0.91744, 0.51196, -0.31047, 0.67201]),
    "half": (299, 200709, "1b09726bdb5d", [0.54312, 1.7217, 0.58901, -0.31494, 0.55843]),
    "deeper, wider, limited": (419, 570325, "188a562b4c74", [0.43386, 1.76808, 0.48045, -0.39342, 0.74318]),
    "half of ResNet": (203, 182901, "12c22b30e882", [0.56919, 0.89801, 0.49937, -0.41785, 0.59197]),
    "ReLU": (359, 270789, "dfec3b94113c", [0.57305, 1.32813, 0.76493, -0.3236, 0.48459]),
    "ReLU in ResNet": (203, 189733, "451567da3ab0", [0.56237, 0.84989, 0.51341, -0.3409, 0.64024]),
    "classes": (359, 271313, "a1a512fdf7be", [0.56613, 1.14292, 0.75728, -0.40672, 0.68997]),
}
# fmt: on


def descriptions() -> dict[str, dict[str, Any]]:
    """All cases by name."""
    cases = {"HGNet": HGNET, "ResNet": RESNET}
    for base, rows in ((HGNET, HGNET_ROWS), (RESNET, RESNET_ROWS)):
        for name, (layer, row) in rows.items():
            cases[name] = copy.deepcopy(base)
            section = "backbone" if layer < len(base["backbone"]) else "head"
            cases[name][section][layer - (len(base["backbone"]) if section == "head" else 0)] = row
    for name, (base, keys) in KEYS.items():
        cases[name] = {**copy.deepcopy(base), **keys}
    return cases


def filled(fill: Callable[[str, Any], Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """Weights by the formula of `golden/fill.py`; variances are small, so that the image reaches the output."""
    return {key: fill(key, value) * (0.2 if key.endswith("running_var") else 1) for key, value in state.items()}


def shapes_digest(state: Mapping[str, Any]) -> str:
    """Of names and shapes in their order."""
    lines = "\n".join(f"{key} {tuple(value.shape)}" for key, value in state.items())
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def means_of(boxes: Any, scores: Any, encoder_boxes: Any, encoder_scores: Any, decoded: Any) -> list[float]:
    """What does not depend on the order of queries: (1, K, 4) boxes, (1, K, nc) logits, (1, K, 6) decoded rows."""
    encoder = (encoder_boxes[..., 0].mean(), encoder_scores.std())
    return [float(value) for value in (*encoder, boxes[..., 0].mean(), scores.mean(), decoded[..., 4].mean())]
