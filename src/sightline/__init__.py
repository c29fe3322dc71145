"""sightline: train object detectors. Public names load on first use; importing does nothing else."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sightline import compat
    from sightline.callbacks.base import Callback
    from sightline.callbacks.early_stop import EarlyStopping
    from sightline.compat.console import colorstr
    from sightline.compat.process import LOCAL_RANK, RANK
    from sightline.config.settings import Settings
    from sightline.facade import RTDETR, YOLO
    from sightline.log import LOGGER
    from sightline.losses.assign.task_aligned import TaskAlignedAssigner
    from sightline.losses.detect import v8DetectionLoss
    from sightline.losses.end_to_end import E2EDetectLoss, E2ELoss
    from sightline.losses.pose import v8PoseLoss
    from sightline.losses.rtdetr import RTDETRDetectionLoss
    from sightline.metrics.confusion import ConfusionMatrix
    from sightline.metrics.detect import DetMetrics
    from sightline.metrics.pose import PoseMetrics
    from sightline.models.network import DetectionModel, PoseModel
    from sightline.models.rtdetr import RTDETRDetectionModel
    from sightline.predict.detect import DetectionPredictor
    from sightline.predict.pose import PosePredictor
    from sightline.predict.predictor import BasePredictor
    from sightline.predict.rtdetr import RTDETRPredictor
    from sightline.structures.boxes import Boxes
    from sightline.structures.keypoints import Keypoints
    from sightline.structures.results import Results
    from sightline.train.detect import DetectionTrainer
    from sightline.train.ema import ModelEMA
    from sightline.train.ema import unwrap as unwrap_model
    from sightline.train.pose import PoseTrainer
    from sightline.train.rtdetr import RTDETRTrainer
    from sightline.train.trainer import BaseTrainer
    from sightline.validate.detect import DetectionValidator
    from sightline.validate.pose import PoseValidator
    from sightline.validate.rtdetr import RTDETRValidator
    from sightline.validate.validator import BaseValidator

# Name → where it is, `module` or `module:name`. docs/migrating.md lists them beside the names of other libraries.
_PUBLIC = {
    "YOLO": "sightline.facade",
    "RTDETR": "sightline.facade",
    "Settings": "sightline.config.settings",
    # what people subclass
    "DetectionTrainer": "sightline.train.detect",
    "DetectionValidator": "sightline.validate.detect",
    "DetectionPredictor": "sightline.predict.detect",
    "DetectionModel": "sightline.models.network",
    "PoseTrainer": "sightline.train.pose",
    "PoseValidator": "sightline.validate.pose",
    "PosePredictor": "sightline.predict.pose",
    "PoseModel": "sightline.models.network",
    "RTDETRTrainer": "sightline.train.rtdetr",
    "RTDETRValidator": "sightline.validate.rtdetr",
    "RTDETRPredictor": "sightline.predict.rtdetr",
    "RTDETRDetectionModel": "sightline.models.rtdetr",
    "BaseTrainer": "sightline.train.trainer",
    "BaseValidator": "sightline.validate.validator",
    "BasePredictor": "sightline.predict.predictor",
    "Callback": "sightline.callbacks.base",
    "v8DetectionLoss": "sightline.losses.detect",
    "v8PoseLoss": "sightline.losses.pose",
    "RTDETRDetectionLoss": "sightline.losses.rtdetr",
    "E2ELoss": "sightline.losses.end_to_end",
    "E2EDetectLoss": "sightline.losses.end_to_end",
    "TaskAlignedAssigner": "sightline.losses.assign.task_aligned",
    # what they get back
    "Results": "sightline.structures.results",
    "Boxes": "sightline.structures.boxes",
    "Keypoints": "sightline.structures.keypoints",
    "DetMetrics": "sightline.metrics.detect",
    "PoseMetrics": "sightline.metrics.pose",
    "ConfusionMatrix": "sightline.metrics.confusion",
    # parts and helpers
    "ModelEMA": "sightline.train.ema",
    "EarlyStopping": "sightline.callbacks.early_stop",
    "unwrap_model": "sightline.train.ema:unwrap",
    "LOGGER": "sightline.log",
    "RANK": "sightline.compat.process",
    "LOCAL_RANK": "sightline.compat.process",
    "colorstr": "sightline.compat.console",
}
# Written out, because type checkers and editors read it.
__all__ = [
    "LOCAL_RANK",
    "LOGGER",
    "RANK",
    "RTDETR",
    "YOLO",
    "BasePredictor",
    "BaseTrainer",
    "BaseValidator",
    "Boxes",
    "Callback",
    "ConfusionMatrix",
    "DetMetrics",
    "DetectionModel",
    "DetectionPredictor",
    "DetectionTrainer",
    "DetectionValidator",
    "E2EDetectLoss",
    "E2ELoss",
    "EarlyStopping",
    "Keypoints",
    "ModelEMA",
    "PoseMetrics",
    "PoseModel",
    "PosePredictor",
    "PoseTrainer",
    "PoseValidator",
    "RTDETRDetectionLoss",
    "RTDETRDetectionModel",
    "RTDETRPredictor",
    "RTDETRTrainer",
    "RTDETRValidator",
    "Results",
    "Settings",
    "TaskAlignedAssigner",
    "__version__",
    "colorstr",
    "compat",
    "unwrap_model",
    "v8DetectionLoss",
    "v8PoseLoss",
]


def __getattr__(name: str) -> Any:
    if name == "compat":
        return importlib.import_module("sightline.compat")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted(__all__)
