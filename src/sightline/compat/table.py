"""THE table: what an import of `ultralytics…` gets, and what is said about names that are missing.

docs/migrating.md is generated from it (`python -m sightline.compat.document`). A task or network that is built moves
its rows from `LATER` to `TABLE`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple

OLD = "ultralytics"
DOCUMENT = "docs/migrating.md"

_DETECT = {
    "DetectionTrainer": "sightline.train.detect:DetectionTrainer",
    "DetectionValidator": "sightline.validate.detect:DetectionValidator",
    "DetectionPredictor": "sightline.predict.detect:DetectionPredictor",
}
_POSE = {
    "PoseTrainer": "sightline.train.pose:PoseTrainer",
    "PoseValidator": "sightline.validate.pose:PoseValidator",
    "PosePredictor": "sightline.predict.pose:PosePredictor",
}
_RTDETR = {
    "RTDETRTrainer": "sightline.train.rtdetr:RTDETRTrainer",
    "RTDETRValidator": "sightline.validate.rtdetr:RTDETRValidator",
    "RTDETRPredictor": "sightline.predict.rtdetr:RTDETRPredictor",
}
_YOLO = {"YOLO": "sightline.facade:YOLO"}
_RTDETR_FACADE = {"RTDETR": "sightline.facade:RTDETR"}
_RESULTS = {
    "Results": "sightline.structures.results:Results",
    "Boxes": "sightline.structures.boxes:Boxes",
    "Keypoints": "sightline.structures.keypoints:Keypoints",
}
_CONV = {
    "Conv": "sightline.nn.conv:Conv",
    "DWConv": "sightline.nn.conv:DWConv",
    "Concat": "sightline.nn.routing:Concat",
    "LightConv": "sightline.nn.hgnet:LightConv",
    "RepConv": "sightline.nn.reparameterised:RepConv",
}
_BLOCK = {
    "Bottleneck": "sightline.nn.csp:Bottleneck",
    "C2f": "sightline.nn.csp:C2f",
    "C3": "sightline.nn.csp:C3",
    "C3k": "sightline.nn.csp:C3k",
    "C3k2": "sightline.nn.csp:C3k2",
    "SPPF": "sightline.nn.pooling:SPPF",
    "Attention": "sightline.nn.attention:Attention",
    "PSABlock": "sightline.nn.attention:PSABlock",
    "C2PSA": "sightline.nn.attention:C2PSA",
    "AAttn": "sightline.nn.area_attention:AreaAttention",
    "ABlock": "sightline.nn.area_attention:AreaBlock",
    "A2C2f": "sightline.nn.area_attention:A2C2f",
    "DFL": "sightline.nn.heads.detect:DFL",
    "RepC3": "sightline.nn.reparameterised:RepC3",
    "HGStem": "sightline.nn.hgnet:HGStem",
    "HGBlock": "sightline.nn.hgnet:HGBlock",
    "ResNetLayer": "sightline.nn.resnet:ResNetLayer",
}
_TRANSFORMER = {
    "AIFI": "sightline.nn.transformer:AIFI",
    "MLP": "sightline.nn.transformer:MLP",
    "MSDeformAttn": "sightline.nn.deformable:MSDeformAttn",
    "DeformableTransformerDecoderLayer": "sightline.nn.deformable:DeformableDecoderLayer",
}
_HEAD = {
    "Detect": "sightline.nn.heads.detect:Detect",
    "Pose": "sightline.nn.heads.pose:Pose",
    "Pose26": "sightline.nn.heads.pose:Pose26",
    "RTDETRDecoder": "sightline.nn.heads.rtdetr:RTDETRDecoder",
}
_NETWORKS = {
    "DetectionModel": "sightline.models.network:DetectionModel",
    "PoseModel": "sightline.models.network:PoseModel",
    "RTDETRDetectionModel": "sightline.models.rtdetr:RTDETRDetectionModel",
}
_DATA = {
    "build_dataloader": "sightline.compat.adapters.data:build_dataloader",
    "build_yolo_dataset": "sightline.compat.adapters.data:build_yolo_dataset",
}
_CALLBACKS = {"get_default_callbacks": "sightline.callbacks.base:empty_table"}
_NMS = {"non_max_suppression": "sightline.compat.adapters.boxes:non_max_suppression"}

# Old module → name in it → our object, as `module:name`.
TABLE: dict[str, dict[str, str]] = {
    "ultralytics": {**_YOLO, **_RTDETR_FACADE, "__version__": "sightline.compat.adapters.version:VERSION"},
    "ultralytics.models": {**_YOLO, **_RTDETR_FACADE},
    "ultralytics.models.yolo": dict(_YOLO),
    "ultralytics.models.yolo.model": dict(_YOLO),
    "ultralytics.models.yolo.detect": dict(_DETECT),
    "ultralytics.models.yolo.detect.train": {"DetectionTrainer": _DETECT["DetectionTrainer"]},
    "ultralytics.models.yolo.detect.val": {"DetectionValidator": _DETECT["DetectionValidator"]},
    "ultralytics.models.yolo.detect.predict": {"DetectionPredictor": _DETECT["DetectionPredictor"]},
    "ultralytics.models.yolo.pose": dict(_POSE),
    "ultralytics.models.yolo.pose.train": {"PoseTrainer": _POSE["PoseTrainer"]},
    "ultralytics.models.yolo.pose.val": {"PoseValidator": _POSE["PoseValidator"]},
    "ultralytics.models.yolo.pose.predict": {"PosePredictor": _POSE["PosePredictor"]},
    "ultralytics.models.rtdetr": {
        **_RTDETR_FACADE,
        "RTDETRValidator": _RTDETR["RTDETRValidator"],
        "RTDETRPredictor": _RTDETR["RTDETRPredictor"],
    },
    "ultralytics.models.rtdetr.model": dict(_RTDETR_FACADE),
    "ultralytics.models.rtdetr.train": {"RTDETRTrainer": _RTDETR["RTDETRTrainer"]},
    "ultralytics.models.rtdetr.val": {"RTDETRValidator": _RTDETR["RTDETRValidator"]},
    "ultralytics.models.rtdetr.predict": {"RTDETRPredictor": _RTDETR["RTDETRPredictor"]},
    "ultralytics.engine": {},
    "ultralytics.engine.model": {"Model": "sightline.facade:YOLO"},
    "ultralytics.engine.trainer": {"BaseTrainer": "sightline.train.trainer:BaseTrainer"},
    "ultralytics.engine.validator": {"BaseValidator": "sightline.validate.validator:BaseValidator"},
    "ultralytics.engine.predictor": {"BasePredictor": "sightline.predict.predictor:BasePredictor"},
    "ultralytics.engine.results": dict(_RESULTS),
    "ultralytics.nn": {"DetectionModel": _NETWORKS["DetectionModel"]},
    "ultralytics.nn.tasks": dict(_NETWORKS),
    "ultralytics.nn.modules": {**_CONV, **_BLOCK, **_TRANSFORMER, **_HEAD},
    "ultralytics.nn.modules.conv": dict(_CONV),
    "ultralytics.nn.modules.block": dict(_BLOCK),
    "ultralytics.nn.modules.transformer": dict(_TRANSFORMER),
    "ultralytics.nn.modules.head": dict(_HEAD),
    "ultralytics.cfg": {
        "get_cfg": "sightline.compat.adapters.settings:get_cfg",
        "DEFAULT_CFG": "sightline.compat.adapters.settings:DEFAULT_CFG",
        "DEFAULT_CFG_DICT": "sightline.compat.adapters.settings:DEFAULT_CFG_DICT",
    },
    "ultralytics.data": dict(_DATA),
    "ultralytics.data.build": dict(_DATA),
    "ultralytics.data.utils": {"check_det_dataset": "sightline.compat.adapters.data:check_det_dataset"},
    "ultralytics.utils": {
        "LOGGER": "sightline.log:LOGGER",
        "RANK": "sightline.compat.process:RANK",
        "LOCAL_RANK": "sightline.compat.process:LOCAL_RANK",
        "colorstr": "sightline.compat.console:colorstr",
        "DEFAULT_CFG": "sightline.compat.adapters.settings:DEFAULT_CFG",
        "DEFAULT_CFG_DICT": "sightline.compat.adapters.settings:DEFAULT_CFG_DICT",
    },
    "ultralytics.utils.callbacks": dict(_CALLBACKS),
    "ultralytics.utils.callbacks.base": dict(_CALLBACKS),
    "ultralytics.utils.files": {"increment_path": "sightline.compat.adapters.files:increment_path"},
    "ultralytics.utils.loss": {
        "v8DetectionLoss": "sightline.losses.detect:v8DetectionLoss",
        "v8PoseLoss": "sightline.losses.pose:v8PoseLoss",
        "E2ELoss": "sightline.losses.end_to_end:E2ELoss",
        "E2EDetectLoss": "sightline.losses.end_to_end:E2EDetectLoss",
    },
    "ultralytics.utils.metrics": {
        "DetMetrics": "sightline.metrics.detect:DetMetrics",
        "PoseMetrics": "sightline.metrics.pose:PoseMetrics",
        "Metric": "sightline.metrics.metric:Metric",
        "ConfusionMatrix": "sightline.metrics.confusion:ConfusionMatrix",
        "ap_per_class": "sightline.compat.adapters.overlaps:ap_per_class",
        "compute_ap": "sightline.metrics.average_precision:compute_ap",
        "smooth": "sightline.metrics.average_precision:smooth",
        "box_iou": "sightline.compat.adapters.overlaps:box_iou",
        "bbox_iou": "sightline.compat.adapters.overlaps:bbox_iou",
        "probiou": "sightline.compat.adapters.overlaps:probiou",
        "batch_probiou": "sightline.compat.adapters.overlaps:batch_probiou",
    },
    "ultralytics.utils.nms": dict(_NMS),
    "ultralytics.utils.ops": {
        "xyxy2xywh": "sightline.ops.boxes:xyxy_to_xywh",
        "xywh2xyxy": "sightline.ops.boxes:xywh_to_xyxy",
        "xyxy2ltwh": "sightline.ops.boxes:xyxy_to_ltwh",
        "ltwh2xyxy": "sightline.ops.boxes:ltwh_to_xyxy",
        "xywh2ltwh": "sightline.ops.boxes:xywh_to_ltwh",
        "ltwh2xywh": "sightline.ops.boxes:ltwh_to_xywh",
        "xywhn2xyxy": "sightline.compat.adapters.boxes:xywhn2xyxy",
        "xyxy2xywhn": "sightline.compat.adapters.boxes:xyxy2xywhn",
        "clip_boxes": "sightline.compat.adapters.boxes:clip_boxes",
        "scale_boxes": "sightline.compat.adapters.boxes:scale_boxes",
        "scale_coords": "sightline.compat.adapters.boxes:scale_coords",
        **_NMS,
    },
    "ultralytics.utils.plotting": {
        "plot_results": "sightline.compat.adapters.files:plot_results",
    },
    "ultralytics.utils.tal": {
        "TaskAlignedAssigner": "sightline.losses.assign.task_aligned:TaskAlignedAssigner",
        "make_anchors": "sightline.compat.adapters.anchors:make_anchors",
        "dist2bbox": "sightline.compat.adapters.anchors:dist2bbox",
        "bbox2dist": "sightline.ops.anchors:encode_distances",
    },
    "ultralytics.utils.torch_utils": {
        "unwrap_model": "sightline.train.ema:unwrap",
        "de_parallel": "sightline.train.ema:unwrap",
        "ModelEMA": "sightline.train.ema:ModelEMA",
        "EarlyStopping": "sightline.callbacks.early_stop:EarlyStopping",
        "fuse_conv_and_bn": "sightline.nn.conv:fold_batch_norm",
        "select_device": "sightline.compat.adapters.networks:select_device",
        "init_seeds": "sightline.compat.adapters.networks:init_seeds",
        "is_parallel": "sightline.compat.adapters.networks:is_parallel",
        "intersect_dicts": "sightline.compat.adapters.networks:intersect_dicts",
        "get_num_params": "sightline.compat.adapters.networks:get_num_params",
    },
}

# What a reader of the table should know about one of our objects.
REMARKS: dict[str, str] = {
    "sightline.facade:YOLO": "Also the class behind `engine.model.Model`.",
    "sightline.compat.adapters.version:VERSION": "The version whose names these are, then ours.",
    "sightline.train.detect:DetectionTrainer": "Methods and attributes below.",
    "sightline.structures.results:Results": "`masks`, `obb`, `probs` are None so far.",
    "sightline.nn.conv:Conv": "Arguments in the same order; ours are called kernel, stride, padding, groups, …",
    "sightline.nn.conv:DWConv": "As `Conv`.",
    **dict.fromkeys(
        [*_BLOCK.values(), *_TRANSFORMER.values(), *_HEAD.values(), _CONV["LightConv"], _CONV["RepConv"]],
        "The same layer and weight names; behind the widths, arguments are given by name (repeats, shortcut, …).",
    ),
    "sightline.models.rtdetr:RTDETRDetectionModel": "As `DetectionModel`; raw predictions are a dict of named tensors.",
    "sightline.models.network:DetectionModel": "`init_criterion` chooses the loss, as before.",
    "sightline.callbacks.base:empty_table": "Lists to append to; none of our own callbacks is in them.",
    "sightline.losses.detect:v8DetectionLoss": "`bce`, `assigner`, `bbox_loss`, `proj` may be replaced. `bbox_loss` "
    "is called as `losses.terms.boxes.BoxLoss`.",
    "sightline.losses.end_to_end:E2ELoss": "Has a `state_dict`; the trainer calls `update()` once an epoch.",
    "sightline.metrics.detect:DetMetrics": "Results have the same names; it is filled by `update` and `compute`.",
    "sightline.metrics.confusion:ConfusionMatrix": "`matrix`, `tp_fp()`, `summary()`; it is filled by `update`.",
    "sightline.ops.anchors:encode_distances": "Returns a new tensor.",
    "sightline.compat.adapters.settings:DEFAULT_CFG": "`Settings()`, with every default.",
    "sightline.compat.adapters.settings:get_cfg": "Natively: `Settings(**values)`.",
    "sightline.compat.adapters.data:build_yolo_dataset": "Natively: `sightline.data.loader.build_dataset`.",
    "sightline.compat.adapters.data:build_dataloader": "Natively: `sightline.data.loader.build_loader`.",
    "sightline.compat.adapters.data:check_det_dataset": "Natively: `sightline.data.spec.load_dataset_spec`.",
    "sightline.compat.adapters.files:increment_path": "Natively: `sightline.artifacts.run_dir.increment_path`.",
    "sightline.compat.adapters.overlaps:box_iou": "Natively: `sightline.ops.iou.pairwise_iou`.",
    "sightline.compat.adapters.overlaps:bbox_iou": "Natively: `sightline.ops.iou.matched_iou`, corners by default.",
    "sightline.compat.adapters.overlaps:probiou": "Natively: `sightline.ops.iou.matched_probabilistic_iou`.",
    "sightline.compat.adapters.overlaps:batch_probiou": "Natively: `sightline.ops.iou.pairwise_probabilistic_iou`.",
    "sightline.compat.adapters.overlaps:ap_per_class": "Natively: `sightline.metrics.average_precision.ap_per_class`.",
    "sightline.compat.adapters.boxes:non_max_suppression": "Natively: `sightline.ops.nms.non_max_suppression`, which "
    "is told the class count and has no time limit.",
    "sightline.compat.adapters.boxes:xywhn2xyxy": "Natively: `sightline.ops.boxes.xywhn_to_xyxy`.",
    "sightline.compat.adapters.boxes:xyxy2xywhn": "Natively: `sightline.ops.boxes.xyxy_to_xywhn`.",
    "sightline.compat.adapters.boxes:clip_boxes": "Writes into its argument, as there; "
    "`sightline.ops.boxes.clip_boxes` does not.",
    "sightline.compat.adapters.boxes:scale_boxes": "Writes into its argument, as there; "
    "`sightline.ops.boxes.scale_boxes` does not.",
    "sightline.compat.adapters.boxes:scale_coords": "Natively: `sightline.ops.keypoints.scale_keypoints`.",
    "sightline.compat.adapters.files:plot_results": "Natively: `sightline.artifacts.plots.plot_results`.",
    "sightline.compat.adapters.anchors:make_anchors": "Natively: `sightline.ops.anchors.make_anchors`.",
    "sightline.compat.adapters.anchors:dist2bbox": "Natively: `sightline.ops.anchors.decode_distances`.",
    "sightline.compat.adapters.networks:select_device": "Natively: `sightline.backends.device.select_device`.",
}

# Old module or name → what it comes with. The longest that fits counts, here and in `INSTEAD`.
LATER: dict[str, str] = {
    "ultralytics.models.yolo.segment": "segmentation",
    "ultralytics.nn.SegmentationModel": "segmentation",
    "ultralytics.nn.tasks.SegmentationModel": "segmentation",
    "ultralytics.utils.loss.v8SegmentationLoss": "segmentation",
    "ultralytics.utils.metrics.SegmentMetrics": "segmentation",
    "ultralytics.utils.metrics.mask_iou": "segmentation",
    "ultralytics.engine.results.Masks": "segmentation",
    "ultralytics.models.yolo.obb": "oriented boxes",
    "ultralytics.nn.tasks.OBBModel": "oriented boxes",
    "ultralytics.utils.loss.v8OBBLoss": "oriented boxes",
    "ultralytics.utils.tal.RotatedTaskAlignedAssigner": "oriented boxes",
    "ultralytics.utils.metrics.OBBMetrics": "oriented boxes",
    "ultralytics.engine.results.OBB": "oriented boxes",
    "ultralytics.models.yolo.classify": "classification",
    "ultralytics.nn.ClassificationModel": "classification",
    "ultralytics.nn.tasks.ClassificationModel": "classification",
    "ultralytics.utils.loss.v8ClassificationLoss": "classification",
    "ultralytics.utils.metrics.ClassifyMetrics": "classification",
    "ultralytics.engine.results.Probs": "classification",
    "ultralytics.engine.exporter": "export",
    "ultralytics.engine.tuner": "tuning",
    "ultralytics.utils.tuner": "tuning",
    "ultralytics.trackers": "tracking",
}

# Old module or name → what to do here instead.
INSTEAD: dict[str, str] = {
    "ultralytics.utils.loss.KeypointLoss": "sightline.losses.terms.keypoints.keypoint_similarity_loss",
    "ultralytics.utils.metrics.kpt_iou": "sightline.metrics.keypoint_similarity.keypoint_similarity",
    "ultralytics.settings": "settings of a run are keywords; there is no settings file",
    "ultralytics.utils.SETTINGS": "settings of a run are keywords; there is no settings file",
    "ultralytics.checks": "run `sightline checks`",
    "ultralytics.download": "sightline.download.download(url, target)",
    "ultralytics.hub": "nothing: sightline uses no service",
    "ultralytics.solutions": "build on the Results of YOLO(…).predict(stream=True); docs/predict.md shows how",
    "ultralytics.assets": "a picture of your own, or the built-in data set data=shapes",
    "ultralytics.ASSETS": "a picture of your own, or the built-in data set data=shapes",
    "ultralytics.utils.ASSETS": "a picture of your own, or the built-in data set data=shapes",
    "ultralytics.models.sam": "nothing: sightline trains detectors",
    "ultralytics.models.SAM": "nothing: sightline trains detectors",
    "ultralytics.models.fastsam": "nothing: sightline trains detectors",
    "ultralytics.models.FastSAM": "nothing: sightline trains detectors",
    "ultralytics.models.yolo.world": "nothing: open-vocabulary detection is outside of sightline",
    "ultralytics.models.yolo.yoloe": "nothing: open-vocabulary detection is outside of sightline",
    "ultralytics.YOLOWorld": "nothing: open-vocabulary detection is outside of sightline",
    "ultralytics.YOLOE": "nothing: open-vocabulary detection is outside of sightline",
    "ultralytics.SAM": "nothing: sightline trains detectors",
    "ultralytics.FastSAM": "nothing: sightline trains detectors",
    "ultralytics.cfg.entrypoint": "sightline.cli.main.main(words)",
    "ultralytics.nn.tasks.BaseModel": "sightline.DetectionModel, the one class of networks",
    "ultralytics.nn.tasks.parse_model": "sightline.models.build.build_model; own layers go into "
    "sightline.models.layers.LAYERS (docs/models.md)",
    "ultralytics.nn.tasks.yaml_model_load": "sightline.models.network.load_spec(name).to_dict()",
    "ultralytics.nn.tasks.load_checkpoint": "YOLO(file).model, or sightline.artifacts.weights_file.read_weights(file)",
    "ultralytics.nn.tasks.attempt_load_one_weight": "YOLO(file).model",
    "ultralytics.nn.tasks.attempt_load_weights": "YOLO(file).model",
    "ultralytics.nn.tasks.torch_safe_load": "sightline.artifacts.weights_file.read_weights(file)",
    "ultralytics.nn.autobackend": "YOLO(file).predict(source)",
    "ultralytics.data.YOLODataset": "sightline.data.dataset.DetectionDataset, made by build_yolo_dataset",
    "ultralytics.data.dataset": "sightline.data.dataset.DetectionDataset, made by build_yolo_dataset",
    "ultralytics.data.base": "sightline.data.dataset.DetectionDataset, made by build_yolo_dataset",
    "ultralytics.data.BaseDataset": "sightline.data.dataset.DetectionDataset, made by build_yolo_dataset",
    "ultralytics.data.build.InfiniteDataLoader": "sightline.data.loader.build_loader",
    "ultralytics.data.augment": "sightline.data.transforms; docs/augmentation.md shows own transforms",
    "ultralytics.data.loaders": "YOLO(…).predict(source) takes files, folders, videos and streams",
    "ultralytics.data.converter": "nothing: COCO and VOC data sets are read as they are (docs/data.md)",
    "ultralytics.utils.callbacks.default_callbacks": "get_default_callbacks()",
    "ultralytics.utils.callbacks.add_integration_callbacks": "model.add_callback(event, function)",
    "ultralytics.utils.checks": "sightline checks what it needs by itself and installs nothing; `sightline checks` "
    "prints the versions",
    "ultralytics.utils.downloads": "sightline.download.download(url, target)",
    "ultralytics.utils.dist": "device=[0,1] starts the processes",
    "ultralytics.utils.autobatch": "batch=16 or another number",
    "ultralytics.utils.benchmarks": "YOLO(…).val() and its speed",
    "ultralytics.utils.TQDM": "tqdm.tqdm of the package tqdm",
    "ultralytics.utils.YAML": "yaml.safe_load and yaml.safe_dump of the package PyYAML",
    "ultralytics.utils.yaml_load": "yaml.safe_load of the package PyYAML",
    "ultralytics.utils.yaml_save": "yaml.safe_dump of the package PyYAML",
    "ultralytics.utils.IterableSimpleNamespace": "sightline.Settings, or types.SimpleNamespace",
    "ultralytics.utils.loss.BboxLoss": "sightline.losses.terms.boxes.BoxLoss, which is called with other arguments",
    "ultralytics.utils.loss.DFLoss": "sightline.losses.terms.boxes.distribution_focal_loss",
    "ultralytics.utils.metrics.bbox_ioa": "sightline.ops.iou.pairwise_ioa, of tensors",
    "ultralytics.utils.plotting.plot_images": "sightline.artifacts.plots.plot_images(batch, file=…, names=…)",
    "ultralytics.utils.plotting.plot_labels": "sightline.artifacts.plots.plot_labels",
    "ultralytics.utils.plotting.Annotator": "Results.plot(), or sightline.structures.draw.draw_boxes",
    "ultralytics.utils.plotting.colors": "sightline.structures.draw.class_colour(index), BGR",
    "ultralytics.utils.plotting.Colors": "sightline.structures.draw.class_colour(index), BGR",
    "ultralytics.utils.plotting.save_one_box": "Results.save_crop(folder)",
    "ultralytics.utils.torch_utils.strip_optimizer": "YOLO(file).save(target), which writes the network alone",
    "ultralytics.utils.torch_utils.model_info": "model.info()",
}


class Row(NamedTuple):
    """One name of the table."""

    module: str
    name: str
    new: str  # module:name

    @property
    def old(self) -> str:
        return f"{self.module}.{self.name}"


def rows() -> Iterator[Row]:
    """Every name of every module, in the order of the table."""
    return (Row(module, name, new) for module, names in TABLE.items() for name, new in names.items())


def load(new: str) -> Any:
    """Our object behind `module:name`."""
    module, _, name = new.partition(":")
    return getattr(importlib.import_module(module), name)


def why_missing(old: str) -> str:
    """What to tell somebody who asks for a module or name that is not in the table: what to use, or what to read."""
    parts = old.split(".")
    for length in range(len(parts), 1, -1):
        part = ".".join(parts[:length])
        if part in LATER:
            return f"{old} is not in sightline yet: it comes with {LATER[part]}. {DOCUMENT} lists what is there."
        if part in INSTEAD:
            return f"{old} is not in sightline. Instead: {INSTEAD[part]}. See {DOCUMENT}."
    module, _, name = old.rpartition(".")
    known = [*TABLE.get(module, {}), *(each.rpartition(".")[2] for each in TABLE if each.rpartition(".")[0] == module)]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f" Near names: {', '.join(near)}." if near else ""
    return f"{old} is not in sightline.{hint} {DOCUMENT} lists what is, and what to use instead."
