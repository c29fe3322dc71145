"""`make demo`: train a detector on the built-in data set, validate it, look at what it finds.

Takes a few minutes on two CPU cores. The same from the command line:

    sightline train model=yolo26n.yaml data=shapes imgsz=256 epochs=22 \
        optimizer=AdamW lr0=0.006 momentum=0.9 warmup_bias_lr=0 nbs=16 ema_tau=100 val_interval=2
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from sightline import YOLO

EPOCHS, IMAGE_SIZE, GOAL = 22, 256, 0.60
# 418 steps from random weights are few: AdamW at a high rate finds its way in them faster than the MuSGD of
# optimizer=auto does (docs/decisions/0056), and the average of the weights must look back over fewer steps than usual.
FEW_STEPS = {
    "optimizer": "AdamW",
    "lr0": 0.006,
    "momentum": 0.9,
    "warmup_bias_lr": 0.0,
    "nbs": 16,
    "ema_tau": 100,
}


def main() -> int:
    start = time.perf_counter()
    model = YOLO("yolo26n.yaml")
    model.train(data="shapes", epochs=EPOCHS, imgsz=IMAGE_SIZE, batch=16, val_interval=2, name="demo", **FEW_STEPS)
    minutes = (time.perf_counter() - start) / 60

    run = Path(model.trainer.save_dir)
    metrics = model.val(data="shapes", imgsz=IMAGE_SIZE, plots=False, save_dir=run / "val")
    images = sorted(Path(model.trainer.data["path"], "images", "val").glob("*.png"))[:6]
    results = model.predict([str(path) for path in images], imgsz=IMAGE_SIZE, save=True, save_dir=run / "predict")

    print(f"\ntrained {EPOCHS} epochs in {minutes:.1f} minutes; mAP50-95 {metrics.box.map:.3f} (goal {GOAL:.2f})")
    print(f"found {sum(len(result) for result in results)} objects in {len(results)} images")
    print(f"weights   {model.trainer.best}")
    print(f"curves    {run / 'results.png'}")
    print(f"pictures  {run / 'predict'}")
    return 0 if metrics.box.map >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
