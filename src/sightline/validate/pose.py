"""Validation of pose estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.backends.torch_model import TorchModel
from sightline.errors import ModelError
from sightline.metrics.coco import AREA_SHARE, KEYPOINT_NAMES
from sightline.metrics.keypoint_similarity import keypoint_similarity
from sightline.metrics.matching import match_predictions
from sightline.metrics.pose import PoseMetrics
from sightline.ops.keypoints import keypoint_sigmas, scale_keypoints
from sightline.validate.coco_files import CocoRecord
from sightline.validate.detect import DetectionValidator


class PoseValidator(DetectionValidator):
    """As `DetectionValidator`, and the same numbers with the similarity of keypoints in the place of the overlap.

    Attributes:
        metrics: PoseMetrics.
        kpt_shape: (K, D) of the model.
        sigmas: (K,) how far a keypoint may be off, relative to the size of the object.
    """

    task = "pose"
    annotations_kind = "person_keypoints"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.metrics: PoseMetrics = PoseMetrics()
        self.kpt_shape = (0, 0)
        self.sigmas: np.ndarray = np.zeros(0)

    def init_metrics(self, model: TorchModel) -> None:
        self.kpt_shape = tuple(model.network.kpt_shape)
        of_data = self.data.get("kpt_shape")
        if of_data is not None and of_data[0] != self.kpt_shape[0]:
            raise ModelError(
                f"The model finds {self.kpt_shape[0]} keypoints an object, but data={self.args.data} has "
                f"{of_data[0]} (kpt_shape). Validate on data of the same kind, or train a model on this one."
            )
        self.sigmas = np.array(keypoint_sigmas(self.kpt_shape, self.data.get("kpt_oks_sigmas")))
        super().init_metrics(model)

    def make_metrics(self) -> PoseMetrics:
        return PoseMetrics(self.names, self.save_dir or ".")

    @property
    def coco_names(self) -> list[str]:
        return [*super().coco_names, *(f"pose_{name}" for name in KEYPOINT_NAMES)]

    def make_coco_record(self, category_ids: list[int] | None) -> CocoRecord:
        return CocoRecord(self.names, category_ids, sigmas=self.sigmas.tolist())

    def labelled(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """As before, and keypoints (N, K, 3) x, y in pixels of the network input, visibility."""
        height, width = batch["img"].shape[2:]
        keypoints = batch["keypoints"].cpu().float() * torch.tensor([width, height, 1.0])
        return {**super().labelled(batch), "keypoints": keypoints}

    def matches(
        self, prediction: dict[str, Tensor], truth: dict[str, Tensor], overlap: np.ndarray
    ) -> dict[str, np.ndarray]:
        boxes = truth["bboxes"].numpy()
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * AREA_SHARE
        similarity = keypoint_similarity(truth["keypoints"].numpy(), prediction["keypoints"].numpy(), area, self.sigmas)
        right = match_predictions(prediction["cls"].numpy(), truth["cls"].numpy(), similarity)
        return {**super().matches(prediction, truth, overlap), "tp_pose": right}

    def _prediction(self, rows: Tensor) -> dict[str, Tensor]:
        return {**super()._prediction(rows), "keypoints": rows[:, 6:].unflatten(1, self.kpt_shape)}

    def get_desc(self) -> str:
        return super().get_desc() + ("%11s" * 4) % ("Pose(P", "R", "mAP50", "mAP50-95)")

    def _more_results(self, prediction: dict[str, Tensor], batch: dict[str, Any], i: int) -> dict[str, Any]:
        return {"keypoints": self._original_keypoints(prediction["keypoints"], batch, i)}

    def _original_keypoints(self, keypoints: Tensor, batch: dict[str, Any], i: int) -> Tensor:
        """(n, K, D) in pixels of the network input → of the original image."""
        ratio_pad = batch["ratio_pad"][i] if batch.get("ratio_pad") is not None else None
        return scale_keypoints(tuple(batch["img"].shape[2:]), keypoints, batch["ori_shape"][i], ratio_pad)

    def coco_parts(
        self, prediction: dict[str, Tensor], truth: dict[str, Tensor], batch: dict[str, Any], i: int
    ) -> dict[str, np.ndarray]:
        return {
            **super().coco_parts(prediction, truth, batch, i),
            "keypoints": self._original_keypoints(prediction["keypoints"], batch, i).numpy(),
            "true_keypoints": self._original_keypoints(truth["keypoints"], batch, i).numpy(),
        }
