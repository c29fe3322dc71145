"""A small RT-DETR as a user would write it, in the reference's layout and in ours."""

from __future__ import annotations

HGNET = {
    "nc": 3,
    "backbone": [
        [-1, 1, "HGStem", [8, 16]],
        [-1, 2, "HGBlock", [16, 32, 3]],
        [-1, 1, "DWConv", [32, 3, 2, 1, False]],
        [-1, 2, "HGBlock", [16, 48, 3]],
        [-1, 1, "DWConv", [48, 3, 2, 1, False]],
        [-1, 2, "HGBlock", [16, 64, 5, True, False]],
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
        [[-1, 8], 1, "Concat", [1]],
        [-1, 2, "RepC3", [32]],
        [[12, 15], 1, "RTDETRDecoder", ["nc", 32, 50, 4, 4, 2]],
    ],
}

RESNET = {
    "nc": 3,
    "backbone": [
        [-1, 1, "ResNetLayer", [3, 16, 1, True, 1]],
        [-1, 1, "ResNetLayer", [16, 8, 1, False, 1]],
        {"block": "ResNetLayer", "width": 8, "stride": 2, "count": 2},
        {"block": "ResNetLayer", "width": 16, "stride": 2, "count": 1},
    ],
    "head": [
        {"block": "Conv", "channels": 32, "activation": False},
        {"block": "AIFI", "hidden": 64, "heads": 4},
        {
            "block": "RTDETRDecoder",
            "from": [2, -1],
            "width": 32,
            "queries": 50,
            "heads": 4,
            "layers": 2,
            "hidden": 64,
            "denoising": 20,
        },
    ],
}
