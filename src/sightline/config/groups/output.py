"""Settings: what is kept and shown."""

from __future__ import annotations

from pydantic import BaseModel

from sightline.config.groups.field import setting
from sightline.config.kinds import Switch, Whole


class OutputSettings(BaseModel):
    """What is kept and shown."""

    save: Switch = setting(True, "Write checkpoints (train) or pictures (predict).", "train", "predict")
    report: Switch = setting(
        True, "Write report.html at the end, and the numbers it needs on the way (docs/report.md).", "train", new=True
    )
    show: Switch = setting(False, "Show pictures in a window.", "predict")
    save_frames: Switch = setting(False, "Write each frame of a video as a picture.", "predict")
    save_txt: Switch = setting(False, "Write boxes as text.", "val", "predict")
    save_conf: Switch = setting(False, "Write scores into those text files, too.", "val", "predict")
    save_crop: Switch = setting(False, "Write a picture of each box.", "predict")
    show_labels: Switch = setting(True, "Draw class names.", "predict")
    show_conf: Switch = setting(True, "Draw scores.", "predict")
    show_boxes: Switch = setting(True, "Draw boxes.", "predict")
    line_width: Whole | None = setting(None, "Width of drawn lines in pixels; None fits the image.", "predict", ge=1)
