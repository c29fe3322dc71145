"""Training of pose estimators: what differs from boxes alone."""

from __future__ import annotations

from typing import Any

from sightline.artifacts.weights_file import WeightsFile
from sightline.errors import DataError, SettingValueError
from sightline.train.detect import DetectionTrainer
from sightline.train.ema import unwrap
from sightline.validate.pose import PoseValidator


class PoseTrainer(DetectionTrainer):
    """Trains a detector that gives each object K keypoints.

    A batch is that of `DetectionTrainer`, and keypoints (N, K, 3): x, y divided by the image size, visibility.
    """

    task = "pose"

    def get_dataset(self) -> dict[str, Any]:
        data = super().get_dataset()
        if not data.get("kpt_shape"):
            raise DataError(
                f"data={self.args.data} has no `kpt_shape`, so its rows have no keypoints to learn. Add kpt_shape: "
                "[K, 2] (x, y) or [K, 3] (x, y, visibility), or train task=detect."
            )
        return data

    def setup_model(self) -> WeightsFile | None:
        before = None if self.checkpoint is None else (self.checkpoint.get("yaml") or {}).get("kpt_shape")
        if before is not None and list(before) != list(self.data["kpt_shape"]):
            raise SettingValueError(
                f"resume={self.args.resume}: the run knows kpt_shape {list(before)}, but data={self.args.data} has "
                f"{self.data['kpt_shape']}. Resume with its own data, or start a new run from the weights."
            )
        return super().setup_model()

    def _model_arguments(self) -> dict[str, Any]:
        return {**super()._model_arguments(), "kpt_shape": self.data["kpt_shape"]}

    def set_model_attributes(self) -> None:
        super().set_model_attributes()
        self.model.kpt_oks_sigmas = self.data.get("kpt_oks_sigmas")

    def get_validator(self) -> PoseValidator:
        likelihood = ("rle_loss",) if hasattr(unwrap(self.model).model[-1], "flow_model") else ()
        self.loss_names = ("box_loss", "pose_loss", "kobj_loss", "cls_loss", "dfl_loss", *likelihood)
        return PoseValidator(self.test_loader, save_dir=self.save_dir, args=self.args.copy(), _callbacks=self.callbacks)
