"""A small RT-DETR as a user would write it, in the reference's layout and in ours."""

from __future__ import annotations

from pathlib import Path

import yaml

HGNET_FILE = Path(__file__).with_name("small-rtdetr.yaml")
HGNET = yaml.safe_load(HGNET_FILE.read_text(encoding="utf-8"))

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
