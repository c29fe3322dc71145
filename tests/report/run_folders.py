"""Run folders as a run leaves them, written by hand: no training is needed to look at a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sightline.artifacts.showcase import Showcase
from sightline.artifacts.validation_record import record_of, write_validation
from sightline.metrics.confusion import ConfusionMatrix
from sightline.metrics.detect import DetMetrics
from sightline.metrics.matching import match_predictions

EVIL = "<script>throw 'ran'</script>"  # a class that must stay text
MAPS = [0.1, 0.3, 0.5, 0.45, 0.4]  # the best is epoch 3


def make_run(folder: Path, *, names: tuple[str, ...] = (EVIL, "beta", "gamma"), lr0: float = 0.01) -> Path:
    """Five epochs of a run with everything in it."""
    (folder / "weights").mkdir(parents=True)
    for name in ("best.pt", "last.pt"):
        (folder / "weights" / name).write_bytes(b"")
    lines = ["epoch,time,train/box_loss,val/box_loss,metrics/mAP50(B),metrics/mAP50-95(B),lr/pg0,lr/pg1"]
    lines += [f"{i + 1},{10 * (i + 1)},{5 - i},{4 - i / 2},{m + 0.2},{m},0.01,0.01" for i, m in enumerate(MAPS)]
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    (folder / "args.yaml").write_text(
        f"task: detect\nmode: train\nmodel: yolo26n.yaml  # command line\ndata: my data.yaml  # command line\n"
        f"epochs: 5  # command line\nimgsz: 64\nlr0: {lr0}  # code\nnbs: 16  # auto\nsave_dir: {folder}\n"
    )
    events: list[dict[str, Any]] = [
        {"event": "setup", "train_images": 8, "class_names": list(names), "class_counts": [4, 1, 2], "objects": 7},
        {"event": "environment", "torch": "2", "folder": "/home"},
        {"event": "finding", "rule": "box_noise", "severity": "warning", "epoch": 2, "evidence": EVIL, "remedy": "x"},
        *({"event": "skipped_step", "epoch": 3, "reason": "loss is not finite"} for _ in range(3)),
        *({"event": "epoch", "epoch": i + 1, "grad_norm": 10.0 * (i + 1)} for i in range(5)),
        *({"event": "trace", "epoch": i + 1, "momentum": 0.9, "seconds": seconds(i)} for i in range(5)),
        {"event": "end", "epoch": 5},
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    cv2.imwrite(str(folder / "val_batch0_pred.jpg"), np.full((900, 1600, 3), 90, np.uint8))
    write_validation(folder, {**validation(dict(enumerate(names))), "showcase": showcase(names[0]).rows()})
    return folder


def seconds(epoch: int) -> dict[str, float]:
    """The first epoch is slow for reasons of its own."""
    return {"wait for batches": 100.0 if epoch == 0 else 4.0, "forward": 2.0, "backward": 3.0, "optimizer": 1.0}


def validation(names: dict[int, str]) -> dict[str, Any]:
    """Of two images; class 2 has no objects."""
    metrics = DetMetrics(names)
    confusion = ConfusionMatrix(names)
    for predicted, true in (([0, 1, 1], [0, 1]), ([0], [0, 0])):
        overlap = np.eye(len(true), len(predicted)) * 0.8
        classes, labels = np.array(predicted, float), np.array(true, float)
        scores = np.linspace(0.9, 0.5, len(predicted))
        right = match_predictions(classes, labels, overlap)
        metrics.update(tp=right, conf=scores, pred_cls=classes, target_cls=labels, path=f"{len(true)}.png")
        confusion.update(overlap, scores, classes, labels)
    metrics.compute()
    metrics.confusion_matrix = confusion
    return record_of(metrics, images=2, speed={"inference": 1.5}, conf=0.25)


def showcase(name: str) -> Showcase:
    shown = Showcase()
    picture = np.full((40, 60, 3), 120, np.uint8)
    box = {"kind": "missed", "box": [0.1, 0.1, 0.5, 0.5], "text": name}
    shown.add("bad.png", lambda: picture, right=1, wrong=1, missed=2, boxes=lambda: [box])
    return shown
