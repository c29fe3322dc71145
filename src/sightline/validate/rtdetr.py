"""Validation of RT-DETR: boxes come as shares of a stretched image, and need no suppression."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sightline.backends.postprocess import rows_in_pixels
from sightline.backends.torch_model import TorchModel
from sightline.log import LOGGER
from sightline.models.contract import head_of
from sightline.validate.detect import DetectionValidator


class RTDETRValidator(DetectionValidator):
    """As `DetectionValidator`, on images that are stretched to a square instead of letterboxed."""

    task = "rtdetr"
    stretch = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.input_hw = (0, 0)  # height and width of the images at hand
        self._warned_of_queries = False

    def init_metrics(self, model: TorchModel) -> None:
        super().init_metrics(model)
        queries = getattr(head_of(model.network), "num_queries", self.max_det)
        wanted = self.max_det > self.args.max_det or self.args.is_user_set("max_det")  # by the labels, or the user
        if wanted and self.max_det > queries and not self._warned_of_queries:
            self._warned_of_queries = True
            LOGGER.warning(
                f"max_det={self.max_det}, but the network has {queries} queries, each of which finds one object: "
                f"no image gets more than {queries} boxes. A description with more `queries` finds more."
            )

    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        moved = super().preprocess(batch)
        self.input_hw = (int(moved["img"].shape[2]), int(moved["img"].shape[3]))
        return moved

    def postprocess(self, preds: Any) -> list[dict[str, Tensor]]:
        decoded = preds[0] if isinstance(preds, (tuple, list)) else preds
        return super().postprocess(rows_in_pixels(decoded, self.input_hw))
