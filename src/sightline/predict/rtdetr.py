"""Prediction of RT-DETR: boxes come as shares of a stretched picture, and need no suppression."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sightline.backends.postprocess import rows_in_pixels
from sightline.data.loader import refuse_rect
from sightline.data.transforms.letterbox import letterbox_image
from sightline.ops.boxes import scale_boxes
from sightline.ops.letterbox import letterbox_geometry
from sightline.predict.detect import DetectionPredictor
from sightline.structures.pictures import Picture
from sightline.structures.results import Results


class RTDETRPredictor(DetectionPredictor):
    """As `DetectionPredictor`, on pictures that are stretched to the network's size instead of letterboxed."""

    task = "rtdetr"

    def pre_transform(self, images: Sequence[Picture]) -> list[Picture]:
        """Stretch (H, W, C) pictures to one size."""
        shapes = [(image.shape[0], image.shape[1]) for image in images]
        frames = [letterbox_geometry(shape, self.imgsz, scale_fill=True) for shape in shapes]
        return [letterbox_image(image, frame) for image, frame in zip(images, frames, strict=True)]

    def postprocess(self, output: Tensor, images: Tensor, originals: Sequence[Picture]) -> list[Results]:
        return super().postprocess(rows_in_pixels(output, (images.shape[2], images.shape[3])), images, originals)

    def construct_result(self, found: Tensor, shape: tuple[int, int], original: Picture, path: str) -> Results:
        """Boxes (n, 6) xyxy, score, class in a picture stretched to `shape` (height, width) → in the original one."""
        assert self.model is not None
        to_hw = (original.shape[0], original.shape[1])
        gains = (shape[0] / to_hw[0], shape[1] / to_hw[1])
        boxes = scale_boxes(shape, found, to_hw, (gains, (0.0, 0.0)))
        return Results(original, path, self.model.names, boxes=boxes.to(self.model.device))

    def _check_settings(self) -> None:
        super()._check_settings()
        refuse_rect(self.args)
