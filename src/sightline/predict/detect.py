"""Prediction of boxes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sightline.backends.postprocess import detections
from sightline.ops.boxes import scale_boxes
from sightline.predict.predictor import BasePredictor
from sightline.structures.pictures import Picture
from sightline.structures.results import Results


class DetectionPredictor(BasePredictor):
    """Boxes with class and confidence, in pixels of the original pictures."""

    task = "detect"

    def postprocess(self, output: Tensor, images: Tensor, originals: Sequence[Picture]) -> list[Results]:
        assert self.model is not None
        rows = detections(
            output,
            end2end=self.model.end2end,
            nc=self.model.nc,
            conf=self.conf,
            iou=self.args.iou,
            classes=self.args.classes,
            agnostic=bool(self.args.agnostic_nms or self.args.single_cls),
            max_det=self.args.max_det,
        )
        return self.construct_results(rows, images, originals)

    def construct_results(self, rows: Sequence[Tensor], images: Tensor, originals: Sequence[Picture]) -> list[Results]:
        """A Results for every picture."""
        shape = (images.shape[2], images.shape[3])
        paths = self.batch[0]
        return [
            self.construct_result(found, shape, original, path)
            for found, original, path in zip(rows, originals, paths, strict=True)
        ]

    def construct_result(self, found: Tensor, shape: tuple[int, int], original: Picture, path: str) -> Results:
        """Boxes (n, 6) xyxy, score, class in a letterbox of `shape` (height, width) → in the original picture."""
        assert self.model is not None
        boxes = scale_boxes(shape, found, (original.shape[0], original.shape[1]))
        # Selection may have brought the rows to the host; people expect them where the model is.
        return Results(original, path, self.model.names, boxes=boxes[:, :6].to(self.model.device))
