"""Settings: how raw output becomes boxes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from sightline.config.groups.field import setting
from sightline.config.kinds import Number, Switch, Whole


class PredictionSettings(BaseModel):
    """How raw output becomes boxes, and what to predict on."""

    conf: Number | None = setting(None, "Lowest score kept; None is 0.25 in predict, 0.001 in val.", ge=0, le=1)
    iou: Number = setting(0.7, "Overlap above which NMS removes a box.", ge=0, le=1)
    max_det: Whole = setting(300, "Most boxes of one image.", ge=1)
    nms: Switch | None = setting(
        None, "True: one-to-many branch and NMS. False: NMS-free branch. None: NMS-free where the model has it."
    )
    agnostic_nms: Switch = setting(False, "Boxes of different classes suppress each other, too.")
    source: Any = setting(
        None,
        "Images or videos: file, folder, pattern, list, address, camera number, array.",
        "predict",
        allowed="any source",
    )
    vid_stride: Whole = setting(1, "Use every n-th frame of a video.", "predict", ge=1)
    stream_buffer: Switch = setting(False, "Keep every frame of a live stream instead of the latest.", "predict")
    visualize: Switch = setting(
        False, "Pictures of hits and misses (val); of activations (predict): not yet.", "val", "predict"
    )
