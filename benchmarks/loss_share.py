"""The loss's share of a training step: forward and backward of the loss against those of the network and the optimizer.

    python benchmarks/loss_share.py --model rtdetr-l.yaml --batch 2 --imgsz 320

Images and targets are random (`--objects` an image). The loss ends where its gradients reach the predictions.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from typing import Any

import side_by_side as bench
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="rtdetr-l.yaml")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--objects", type=int, default=12)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    from sightline.models.build import build_model

    torch.manual_seed(0)
    network = build_model(options.model, nc=3).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    batch = random_batch(options)
    shares = []
    for step in range(options.steps + 1):
        parts = one_step(network, optimizer, batch)
        if step:  # the first one warms up
            shares.append(parts["loss"] / sum(parts.values()))
            print({name: round(seconds, 4) for name, seconds in parts.items()}, flush=True)
    print(f"{bench.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"loss: {statistics.median(shares):.2%} of a step (median of {len(shares)}; worst {max(shares):.2%})")


def random_batch(options: argparse.Namespace) -> dict[str, torch.Tensor]:
    count = options.batch * options.objects
    size = torch.rand(count, 2) * 0.3 + 0.05
    return {
        "img": torch.rand(options.batch, 3, options.imgsz, options.imgsz).to(memory_format=torch.channels_last),
        "batch_idx": torch.arange(options.batch).repeat_interleave(options.objects).float(),
        "cls": torch.randint(0, 3, (count, 1)).float(),
        "bboxes": torch.cat([torch.rand(count, 2) * 0.6 + 0.2, size], 1),
    }


def one_step(network: Any, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    """Seconds of the parts of a step."""
    marks = [time.perf_counter()]
    preds = network.predict_batch(batch)
    marks.append(time.perf_counter())
    outputs = differentiable(preds)
    cut = [each.detach().requires_grad_() for each in outputs]
    loss, _ = network.loss(batch, replaced(preds, iter(cut)))
    gradients = torch.autograd.grad(loss.sum(), cut, allow_unused=True)
    marks.append(time.perf_counter())
    pairs = [(output, gradient) for output, gradient in zip(outputs, gradients, strict=True) if gradient is not None]
    torch.autograd.backward([output for output, _ in pairs], [gradient for _, gradient in pairs])
    torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
    optimizer.step()
    optimizer.zero_grad()
    marks.append(time.perf_counter())
    names = ("forward", "loss", "backward and step")
    return {name: after - before for name, (before, after) in zip(names, itertools.pairwise(marks), strict=True)}


def differentiable(preds: Any) -> list[torch.Tensor]:
    """All tensors of raw predictions that have a gradient."""
    if isinstance(preds, torch.Tensor):
        return [preds] if preds.requires_grad else []
    values = preds.values() if isinstance(preds, dict) else preds if isinstance(preds, (list, tuple)) else ()
    return [tensor for value in values for tensor in differentiable(value)]


def replaced(preds: Any, cut: Any) -> Any:
    """The same predictions with these tensors in their places."""
    if isinstance(preds, torch.Tensor):
        return next(cut) if preds.requires_grad else preds
    if isinstance(preds, dict):
        return {name: replaced(value, cut) for name, value in preds.items()}
    return type(preds)(replaced(value, cut) for value in preds) if isinstance(preds, (list, tuple)) else preds


if __name__ == "__main__":
    main()
