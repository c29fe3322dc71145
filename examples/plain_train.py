"""The same training without the trainer: every part by hand, in one file, for reading and for taking apart.

    python examples/plain_train.py data=shapes epochs=3 imgsz=256

What the trainer adds to this: logging, resuming, early stopping, pictures, a time budget, and care for bad steps.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from sightline.artifacts.checkpoint import save_checkpoint
from sightline.config.load import make_settings, parse_command_line
from sightline.data.loader import build_dataset, build_loader
from sightline.data.spec import load_dataset_spec
from sightline.metrics.detect import DetMetrics
from sightline.metrics.matching import match_predictions
from sightline.models.build import build_model
from sightline.ops.boxes import xywh_to_xyxy
from sightline.ops.iou import pairwise_iou
from sightline.ops.nms import select_end_to_end
from sightline.train.ema import ModelEMA
from sightline.train.optim import build_optimizer
from sightline.train.precision import choose
from sightline.train.schedule import Schedule, scaled_weight_decay


def main(words: list[str]) -> float:
    settings = make_settings("train", parse_command_line(["train", *words]).overrides)
    settings.optimizer, settings.momentum, settings.nbs = "MuSGD", 0.9, settings.batch
    torch.manual_seed(settings.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    # data: description → samples → batches
    data = load_dataset_spec(settings.data or "shapes")
    loaders = {}
    for mode in ("train", "val"):
        dataset = build_dataset(settings, data, mode, mode=mode, batch_size=settings.batch)
        loaders[mode] = build_loader(dataset, settings.batch, shuffle=mode == "train", workers=settings.workers)

    # network, optimizer, schedule, average
    model = build_model(settings.model or "yolo26n.yaml", nc=data.nc, names=data.names)
    model = model.to(device, memory_format=torch.channels_last)
    model.args = settings  # the loss reads its gains from there
    decay = scaled_weight_decay(settings.weight_decay, settings.batch, settings.nbs)
    optimizer = build_optimizer(model, settings.optimizer, lr=settings.lr0, momentum=settings.momentum, decay=decay)
    schedule = Schedule.from_settings(optimizer, settings, batches=len(loaders["train"]))
    precision = choose(settings.amp, device)
    ema = ModelEMA(model)

    score = 0.0
    for epoch in range(settings.epochs):
        schedule.at_epoch_start(epoch)
        mixing = epoch < settings.epochs - settings.close_mosaic
        loaders["train"].set_epoch(epoch, mixing=mixing)
        loss = train_epoch(model, loaders["train"], epoch, optimizer, schedule, precision, ema, device)
        model.criterion.update()  # the one-to-one branch counts more with every epoch
        score = validate(ema.ema, loaders["val"], data.names, device)
        print(f"epoch {epoch + 1}/{settings.epochs}  loss {loss:.2f}  mAP50-95 {score:.4f}", flush=True)

    state = {
        "format": "sightline",
        "yaml": model.yaml,
        "names": data.names,
        "nc": data.nc,
        "task": "detect",
        "args": {},
    }
    save_checkpoint(Path("plain.pt"), {**state, "model": ema.ema.state_dict()})
    for loader in loaders.values():
        loader.close()
    return score


def train_epoch(model: nn.Module, loader, epoch: int, optimizer, schedule, precision, ema, device) -> float:
    """Batch → forward → backward → step → average. Returns the mean loss of an image."""
    model.train()
    total = torch.zeros((), device=device)
    for i, batch in enumerate(loader):
        schedule.at_iteration(i + epoch * len(loader), epoch)
        batch = to_device(batch, device)
        with precision.autocast():
            loss, _ = model(batch)
        precision.scaler.scale(loss.sum()).backward()
        precision.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        precision.scaler.step(optimizer)
        precision.scaler.update()
        optimizer.zero_grad()
        ema.update(model, norm.isfinite())
        total += loss.detach().sum()
    return float(total) / len(loader.dataset)


@torch.no_grad()
def validate(model: nn.Module, loader, names: dict[int, str], device) -> float:
    """mAP50-95 of the NMS-free branch."""
    model.eval()
    model.use_end2end(True)
    metrics = DetMetrics(names)
    for batch in loader:
        batch = to_device(batch, device)
        rows, _ = model(batch["img"])  # (B, K, 6): box, score, class
        size = torch.tensor(batch["img"].shape[-2:], device=device).flip(0).repeat(2)  # W, H, W, H
        for image, found in enumerate(select_end_to_end(rows, conf=0.001)):
            mine = batch["batch_idx"] == image
            truth = batch["cls"][mine].flatten().cpu().numpy()
            overlap = pairwise_iou(xywh_to_xyxy(batch["bboxes"][mine]) * size, found[:, :4]).cpu().numpy()
            scores, classes = found[:, 4].cpu().numpy(), found[:, 5].cpu().numpy()
            tp = match_predictions(classes, truth, overlap)
            metrics.update(tp=tp, conf=scores, pred_cls=classes, target_cls=truth)
    metrics.compute()
    return metrics.box.map


def to_device(batch: dict, device: torch.device) -> dict:
    """Bytes travel, floats are made on the device."""
    batch = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    batch["img"] = batch["img"].to(memory_format=torch.channels_last).float() / 255
    return batch


if __name__ == "__main__":
    main(sys.argv[1:])
