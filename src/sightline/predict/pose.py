"""Prediction of boxes with keypoints."""

from __future__ import annotations

from torch import Tensor

from sightline.ops.boxes import scale_boxes
from sightline.ops.keypoints import scale_keypoints
from sightline.predict.detect import DetectionPredictor
from sightline.structures.pictures import Picture
from sightline.structures.results import Results


class PosePredictor(DetectionPredictor):
    """Boxes as `DetectionPredictor` gives them, each with its keypoints."""

    task = "pose"

    def construct_result(self, found: Tensor, shape: tuple[int, int], original: Picture, path: str) -> Results:
        """Rows (n, 6 + K·D) xyxy, score, class, keypoints in a letterbox of `shape` → in the original picture."""
        assert self.model is not None
        to_hw, device = (original.shape[0], original.shape[1]), self.model.device
        points = found[:, 6:].unflatten(1, self.model.network.kpt_shape)  # (n, K, D)
        return Results(
            original,
            path,
            self.model.names,
            boxes=scale_boxes(shape, found, to_hw)[:, :6].to(device),
            keypoints=scale_keypoints(shape, points, to_hw).to(device),
        )
