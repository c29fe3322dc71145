"""Training samples per second and core: mosaic, affine, colour, flips, batching, in one process.

    python benchmarks/loader.py --peer-python ../peer-env/bin/python --data ../shared/data/bccd/bccd.yaml

Sides alternate (A B A B). Time is processor time of the process, so a busy machine disturbs little; an epoch before the
first counted one warms caches up.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable

import side_by_side as bench


def worker(options, side: str) -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    loader = ours(options) if side == "ours" else peer(options)
    rates = []
    for epoch in range(options.epochs + 1):
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(epoch)
        start, images = time.process_time(), 0
        for batch in loader:
            images += len(batch["img"])
        rates.append(images / (time.process_time() - start))
    print(json.dumps({"rates": rates[1:], "opencv": cv2.__version__, **bench.versions(side)}))


def ours(options) -> Iterable:
    from sightline.config.load import make_settings
    from sightline.data.loader import build_dataset, build_loader
    from sightline.data.spec import load_dataset_spec

    values = {"model": "yolo26n.yaml", "data": options.data, "imgsz": options.imgsz, "cache": options.cache or False}
    settings = make_settings("train", values)
    dataset = build_dataset(settings, load_dataset_spec(options.data), mode="train", batch_size=options.batch)
    return build_loader(dataset, options.batch, shuffle=True, workers=0)


def peer(options) -> Iterable:
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_dataloader, build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(bench.absolute_data(options.data, tempfile.mkdtemp()))
    cfg = get_cfg(overrides={"imgsz": options.imgsz, "cache": options.cache or False, "task": "detect"})
    dataset = build_yolo_dataset(cfg, data["train"], options.batch, data, mode="train", stride=32)
    return build_dataloader(dataset, options.batch, workers=0, shuffle=True)


def main() -> None:
    parser = bench.parser(__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--cache", default="", help="ram, disk or nothing, as the setting")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.worker:
        return worker(options, options.worker)
    return bench.alternate(__file__, options, ("data", "imgsz", "batch", "cache", "epochs"), unit="samples/s/core")


if __name__ == "__main__":
    main()
