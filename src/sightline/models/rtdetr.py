"""RT-DETR: the network whose head has queries, and what it learns from in training beside the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sightline.errors import ModelError
from sightline.models.network import DetectionModel
from sightline.models.spec import ModelSpec


class RTDETRDetectionModel(DetectionModel):
    """A detector that needs no suppression: each of its queries finds another object.

    Called with a batch in training, it also gets noisy copies of its targets to put right (`losses/denoising.py`).

    Source: Lv et al., DETRs Beat YOLOs on Real-time Object Detection, arXiv:2304.08069.
    """

    task = "rtdetr"
    # Settings that its loss does not read, and why; a run that sets one is refused.
    unread_settings = MappingProxyType(
        {"label_smoothing": "the target of its class loss is how well the box fits, which is soft already"}
    )

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any] | ModelSpec = "rtdetr-l.yaml",
        ch: int | None = None,
        nc: int | None = None,
        verbose: bool = True,
        *,
        names: Mapping[int, str] | Sequence[str] | None = None,
        scale: str | None = None,
    ) -> None:
        super().__init__(cfg, ch, nc, verbose, names=names, scale=scale)
        self.stride = self.stride.max().view(1)  # nobody asks this head for a box by its level

    @property
    def end2end(self) -> bool:
        """Whether what it gives needs no suppression: always."""
        return True

    def use_end2end(self, on: bool) -> None:
        """Nothing to switch.

        Raises:
            ModelError: predictions for suppression are wanted.
        """
        if not on:
            raise ModelError(f"{self.spec.file} gives one box an object; there is nothing for NMS: leave nms out.")

    def predict_batch(self, batch: Mapping[str, Any]) -> Any:
        """The head's output for a batch; in training with denoising queries made of its targets."""
        from sightline.losses.denoising import make_denoising
        from sightline.losses.targets import target_rows

        images, most = batch["img"], self.head.num_denoising
        if not (self.training and most):
            return self.predict(images)
        targets = target_rows(batch, len(images), self.nc)
        return self.predict(images, denoising=make_denoising(targets, nc=self.nc, most=most, device=images.device))

    def init_criterion(self) -> Any:
        """The model's own loss. What a subclass with another one replaces."""
        from sightline.losses.rtdetr import RTDETRDetectionLoss

        return RTDETRDetectionLoss(self)
