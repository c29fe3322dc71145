"""Losses of models with two branches: one learns with many anchors a target, the other with one, and needs no NMS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from sightline.losses.detect import SHARED, Items, v8DetectionLoss


class E2ELoss:
    """Both branches, the weight moving from one-to-many to one-to-one as training goes on.

    Rich supervision first, then what will be deployed: from 0.8 : 0.2 to 0.1 : 0.9, in equal steps, one an epoch.

    Args:
        model: as for `loss_fn`; its `args.epochs` is read at each `update`, so it may change during a run.
        loss_fn: makes the loss of a branch. The instance needs `loss(raw, batch)`, `parse_output` and `hyp`.
    """

    def __init__(self, model: Any, loss_fn: Callable[..., Any] = v8DetectionLoss) -> None:
        self.one2many = loss_fn(model, tal_topk=10)
        self.one2one = loss_fn(model, tal_topk=7, tal_topk2=1)
        self.updates = 0
        self.total = 1.0
        self.o2m = 0.8
        self.o2o = self.total - self.o2m
        self.o2m_copy = self.o2m
        self.final_o2m = 0.1

    def __call__(self, preds: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Items]:
        """Weighted sum of both branches; the items are those of the one-to-one branch, which is the one deployed.

        Args:
            preds: {"one2many": raw, "one2one": raw}, or (decoded, that).
            batch: as `v8DetectionLoss.loss`.
        """
        preds = self.one2many.parse_output(preds)
        batch = {**batch, SHARED: {}}  # padded targets and candidate pairs are the same for both
        many, _ = self.one2many.loss(preds["one2many"], batch)
        one, items = self.one2one.loss(preds["one2one"], batch)
        return many * self.o2m + one * self.o2o, items

    def update(self) -> None:
        """One epoch has ended: move the weights on."""
        self.updates += 1
        self.o2m = self.decay(self.updates)
        self.o2o = max(self.total - self.o2m, 0)

    def decay(self, updates: int) -> float:
        """Weight of the one-to-many branch after this many epochs."""
        steps: int = max(self.one2one.hyp.epochs - 1, 1)
        return max(1 - updates / steps, 0) * (self.o2m_copy - self.final_o2m) + self.final_o2m

    def state_dict(self) -> dict[str, float]:
        """What a resumed run needs to go on with the same weights."""
        return {"updates": self.updates, "o2m": self.o2m, "o2o": self.o2o}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on where `state_dict` was taken."""
        self.updates = int(state["updates"])
        self.o2m, self.o2o = float(state["o2m"]), float(state["o2o"])


class E2EDetectLoss:
    """Both branches with equal weight, as older two-branch checkpoints were trained.

    Args:
        model: as for `v8DetectionLoss`.

    Source: Wang et al., YOLOv10, arXiv:2405.14458, section 3.1.
    """

    def __init__(self, model: Any) -> None:
        self.one2many = v8DetectionLoss(model, tal_topk=10)
        self.one2one = v8DetectionLoss(model, tal_topk=1)

    def __call__(self, preds: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Items]:
        """Sum of both branches, and of their items."""
        preds = self.one2many.parse_output(preds)
        batch = {**batch, SHARED: {}}
        many, many_items = self.one2many.loss(preds["one2many"], batch)
        one, one_items = self.one2one.loss(preds["one2one"], batch)
        return many + one, {name: many_items[name] + one_items[name] for name in many_items}
