"""Validation of box detectors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.artifacts import plots
from sightline.artifacts.showcase import Showcase
from sightline.backends import ranks
from sightline.backends.postprocess import detections
from sightline.backends.torch_model import TorchModel
from sightline.config.image_size import fit_imgsz
from sightline.config.settings import Settings
from sightline.data.loader import build_dataset, build_loader
from sightline.data.spec import load_dataset_spec
from sightline.errors import DataError, SettingValueError, UsageError
from sightline.files import atomic_write
from sightline.log import LOGGER
from sightline.metrics.coco import COCO_NAMES
from sightline.metrics.confusion import ConfusionMatrix
from sightline.metrics.detect import DetMetrics
from sightline.metrics.logged import chosen_keys, loggable_keys, logged_values
from sightline.metrics.matching import IOU_THRESHOLDS, match_predictions
from sightline.metrics.metric import Metric
from sightline.ops.boxes import scale_boxes, xywhn_to_xyxy, xyxy_to_ltwh
from sightline.ops.iou import pairwise_iou
from sightline.structures.results import Results
from sightline.validate.classes import ClassMap, match_classes
from sightline.validate.coco_files import COCO_CATEGORY_IDS, CocoAnnotations, CocoRecord, find_annotations
from sightline.validate.error_pictures import write_error_picture
from sightline.validate.exhibits import exhibit
from sightline.validate.validator import BaseValidator

# The confidence of the confusion matrix when `conf` is left alone: at 0.001 every column would drown in inventions.
CONFUSION_CONF = 0.25
CONFUSION_IOU = 0.45


class DetectionValidator(BaseValidator):
    """Precision, recall, AP and a confusion matrix of boxes.

    Matching is done in pixels of the network input; what is written to files is scaled back to the original images.
    Arguments and attributes as in `BaseValidator`, and:

    Attributes:
        metrics: DetMetrics.
        confusion_matrix: of this validation, at confidence 0.25 unless `conf` is set.
        iouv: (10,) the IoU thresholds.
        classes: how class numbers of the model become those of the data set.
    """

    task = "detect"
    annotations_kind = "instances"  # the first word of COCO's annotation files
    stretch = False  # images fill a square, whatever their shape

    def __init__(
        self,
        dataloader: Any = None,
        save_dir: str | Path | None = None,
        args: Settings | Mapping[str, Any] | None = None,
        _callbacks: dict[str, list[Any] | None] | None = None,
    ) -> None:
        super().__init__(dataloader, save_dir, args, _callbacks)
        self.metrics: DetMetrics = DetMetrics()
        self.confusion_matrix = ConfusionMatrix({})
        self.iouv = IOU_THRESHOLDS
        self.classes: ClassMap | None = None
        self._coco: CocoRecord | None = None
        self._annotations: CocoAnnotations | None = None
        self._image_root = ""
        self._warned_of_no_labels = False

    @property
    def image_metrics(self) -> dict[str, dict[str, float | int]]:
        """File name → precision, recall, f1, tp, fp, fn of that image; see `Metric.image_metrics`."""
        return self.metrics.box.image_metrics

    @property
    def confusion_conf(self) -> float:
        """From which score on a prediction counts in the confusion matrix and in pictures of mistakes."""
        return CONFUSION_CONF if self.args.conf is None else self.conf

    # ------------------------------------------------------------------ before the first batch

    def build_loader(self, stride: int, device: torch.device) -> Any:
        """The loader of `args.split` of `args.data`; with `single_cls` the data has one class."""
        if self.args.data is None:
            raise UsageError("Validation needs a data set: data=file.yaml, or data=shapes for the built-in one.")
        batch = self.args.batch
        if not isinstance(batch, int) or batch < 1:
            raise SettingValueError(f"batch={batch}: validation needs a number of images, for example batch=16.")
        spec = load_dataset_spec(self.args.data, split=self.split)
        self.data = spec.as_dict()
        if self.args.single_cls:
            self.data |= {"names": {0: "item"}, "nc": 1}
        fit_imgsz(self.args, stride, max_dim=1)
        dataset = build_dataset(
            self.args,
            spec,
            self.split,
            mode="val",
            batch_size=batch,
            stride=stride,
            task=self.task,
            stretch=self.stretch,
        )
        on_accelerator = device.type != "cpu"
        return build_loader(
            dataset,
            batch,
            shuffle=False,
            workers=self.args.workers,
            pin_memory=device.type == "cuda",
            accelerator=on_accelerator,
        )

    def fit_to_data(self, model_names: dict[int, str], data_names: dict[int, str]) -> None:
        """Line up the classes, and make room for the most crowded image."""
        if self.args.single_cls:
            self.classes = None
        else:
            where = "the data" if self.args.data is None else f"data={self.args.data}"
            self.classes = match_classes(model_names, data_names, data=where)
        self._make_room()

    def _make_room(self) -> None:
        """`max_det` below the number of objects in an image caps recall: raise it, unless the user chose it."""
        self.max_det = self.args.max_det
        index = self._label_index()
        most = int(np.max(index.object_counts(), initial=0)) if index is not None else 0
        if most <= self.max_det:
            return
        if self.args.is_user_set("max_det"):
            LOGGER.warning(f"max_det={self.max_det}, but an image has {most} labelled objects: recall is capped there.")
        else:
            LOGGER.warning(
                f"An image has {most} labelled objects: max_det={most} for this validation, not {self.max_det}."
            )
            self.max_det = most

    def _label_index(self) -> Any:
        """The labels of the data set; None where a user's own loader has none."""
        return getattr(getattr(self.dataloader, "dataset", None), "index", None)

    def init_metrics(self, model: TorchModel) -> None:
        """Empty metrics; the annotation file is checked now, not after the last batch."""
        self.nc = len(self.names)
        self.metrics = self.make_metrics()
        self.confusion_matrix = ConfusionMatrix(self.names)
        self._coco = self._annotations = None
        index = self._label_index()
        folders = {os.path.dirname(path) for path in index.paths} if index is not None else set()
        self._image_root = os.path.commonpath(folders) if folders else ""
        if self.args.coco_eval or (self.args.save_json and not self.training):
            self._coco = self.make_coco_record(COCO_CATEGORY_IDS if self._is_coco() else None)
        if self.args.coco_eval:
            self._annotations = self._find_annotations()

    @property
    def coco_names(self) -> list[str]:
        """The numbers of the COCO evaluation."""
        return list(COCO_NAMES)

    def make_metrics(self) -> DetMetrics:
        """An empty metrics object."""
        return DetMetrics(self.names, self.save_dir or ".")

    def make_coco_record(self, category_ids: list[int] | None) -> CocoRecord:
        """What predictions.json and the COCO evaluation are made from."""
        return CocoRecord(self.names, category_ids)

    def loggable_keys(self, names: Mapping[int, str]) -> list[str]:
        coco = [f"metrics/coco/{name}" for name in self.coco_names] if self.args.coco_eval else []
        return [*loggable_keys(names, self._letters), *coco]

    def logged_keys(self, names: Mapping[int, str]) -> list[str]:
        wanted = chosen_keys(self.args.log_metrics or (), names, self._letters)
        also = set(self.log_also).intersection(loggable_keys(names, self._letters))
        always = self.metrics.keys
        return [key for key in dict.fromkeys([*wanted, *sorted(also)]) if key not in always]

    @property
    def _letters(self) -> list[str]:
        return getattr(self.metrics, "letters", ["B"])  # a user's own metrics object need not know

    # ------------------------------------------------------------------ one batch

    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Images to the device, in [0, 1]; the labels follow during training, where the loss needs them there."""
        assert self.network is not None
        moved = {"img": self.network.preprocess(batch["img"])}
        if self.training:
            labels = {name: value for name, value in batch.items() if isinstance(value, Tensor) and name != "img"}
            moved.update({name: value.to(self.device, non_blocking=True) for name, value in labels.items()})
        return {**batch, **moved}

    def postprocess(self, preds: Any) -> list[dict[str, Tensor]]:
        """For each image: bboxes (n, 4) xyxy in pixels of the network input, conf (n,), cls (n,) of the data set.

        On the host, best score first.
        """
        assert self.network is not None
        decoded = preds[0] if isinstance(preds, (tuple, list)) else preds
        rows = detections(
            decoded,
            end2end=self.network.end2end,
            nc=self.network.nc,
            conf=self.conf,
            iou=self.args.iou,
            classes=self._wanted_classes(),
            agnostic=self._agnostic,
            multi_label=True,
            max_det=self.max_det,
        )
        return [self._prediction(image.float().cpu()) for image in rows]

    def _wanted_classes(self) -> list[int] | None:
        """The class filter in the model's numbers."""
        wanted = self.args.classes
        if wanted is None:
            if self.classes is None or (self.classes.to_data >= 0).all():
                return None
            return np.flatnonzero(self.classes.to_data >= 0).tolist()
        wanted = [wanted] if isinstance(wanted, int) else list(wanted)
        return wanted if self.classes is None else self.classes.model_classes(wanted)

    def _prediction(self, rows: Tensor) -> dict[str, Tensor]:
        classes = rows[:, 5]
        if self.args.single_cls:
            classes = torch.zeros_like(classes)
        elif self.classes is not None and not self.classes.is_identity:
            classes = torch.from_numpy(self.classes.to_data).to(classes.dtype)[classes.long()]
        return {"bboxes": rows[:, :4], "conf": rows[:, 4], "cls": classes}

    def update_metrics(self, preds: list[dict[str, Tensor]], batch: dict[str, Any]) -> None:
        """Match the predictions of each image with its labels."""
        objects, owner = self.labelled(batch), batch["batch_idx"].cpu()
        for i, prediction in enumerate(preds):
            mine = owner == i
            truth = {name: value[mine] for name, value in objects.items()}
            self._check_labels(truth["cls"], batch, i)
            if self.classes is not None and not self.classes.known.all():
                known = torch.from_numpy(self.classes.known)[truth["cls"].long()]
                truth = {name: value[known] for name, value in truth.items()}
            self._update_image(prediction, truth, batch, i)

    def labelled(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """All objects of a batch, on the host: bboxes (N, 4) xyxy in pixels of the network input, cls (N,)."""
        height, width = batch["img"].shape[2:]
        boxes = xywhn_to_xyxy(batch["bboxes"].cpu(), (height, width))
        return {"bboxes": boxes, "cls": batch["cls"].cpu().reshape(-1)}

    def matches(
        self, prediction: dict[str, Tensor], truth: dict[str, Tensor], overlap: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Which predictions of an image are right: what the metrics take beside scores and classes.

        Args:
            prediction: of one image, as `postprocess` gives it.
            truth: of the same image, as `labelled` gives it.
            overlap: (T, P) IoU of the boxes.
        """
        return {"tp": match_predictions(prediction["cls"].numpy(), truth["cls"].numpy(), overlap)}

    def _update_image(
        self, prediction: dict[str, Tensor], truth: dict[str, Tensor], batch: dict[str, Any], i: int
    ) -> None:
        overlap = pairwise_iou(truth["bboxes"], prediction["bboxes"]).numpy()  # (T, P)
        predicted, true = prediction["cls"].numpy(), truth["cls"].numpy()
        scores = prediction["conf"].numpy()
        path = str(batch["im_file"][i])
        self.metrics.update(
            **self.matches(prediction, truth, overlap),
            conf=scores,
            pred_cls=predicted,
            target_cls=true,
            path=path,
        )
        self.confusion_matrix.update(
            overlap, scores, predicted, true, conf=self.confusion_conf, iou_threshold=CONFUSION_IOU
        )
        if self._coco is not None:
            self.pred_to_json(prediction, truth, batch, i)
        if self.args.save_txt and not self.training:
            self._save_txt(prediction, batch, i)
        if self.args.visualize and not self.training:
            self._try(self._draw_errors, prediction, truth, overlap, batch, i)
        if self.showcase is not None and not self.training:
            self._try(self._exhibit, prediction, truth, overlap, batch, i)

    def _check_labels(self, classes: Tensor, batch: dict[str, Any], i: int) -> None:
        if len(classes) and not 0 <= int(classes.max()) < self.nc:
            raise DataError(
                f"{batch['im_file'][i]} has a label of class {int(classes.max())}, but the model and the data name "
                f"{self.nc} classes (0–{self.nc - 1}). Correct the label, or add the missing names."
            )

    def _original_boxes(self, boxes: Tensor, batch: dict[str, Any], i: int) -> Tensor:
        """(n, 4) xyxy in pixels of the network input → of the original image."""
        ratio_pad = batch["ratio_pad"][i] if batch.get("ratio_pad") is not None else None
        return scale_boxes(tuple(batch["img"].shape[2:]), boxes, batch["ori_shape"][i], ratio_pad)

    # ------------------------------------------------------------------ after the last batch

    def gather_stats(self) -> None:
        super().gather_stats()
        parts = ranks.gather(
            (self.metrics.state_dict(), self.confusion_matrix.matrix, self._coco.state_dict() if self._coco else None)
        )
        self.metrics.reset()
        self.confusion_matrix.matrix = sum(matrix for _, matrix, _ in parts)
        if self._coco is not None:
            self._coco.reset()
        if self.showcase is not None and not self.training:
            kept, self.showcase = ranks.gather(self.showcase), Showcase()
            for part in kept:
                self.showcase.merge(part)
        for collected, _, coco in parts:  # in the order of the ranks, which is that of the images
            self.metrics.merge(collected)
            if self._coco is not None:
                self._coco.merge(coco)
                self.jdict = self._coco.rows

    def get_stats(self) -> dict[str, float]:
        """Compute the metrics, and the COCO numbers where they were asked for."""
        self.metrics.compute()
        return self.eval_json(self.metrics.results_dict)

    def finalize_metrics(self) -> None:
        """Complete the metrics object; write curves, matrices and predictions.json."""
        self.metrics.speed = self.speed
        self.metrics.confusion_matrix = self.confusion_matrix
        self.metrics.save_dir = self.save_dir or Path()
        if self.plots:
            self._try(self.plot_metrics)
        if self._coco is not None and self.args.save_json and not self.training and self._speaks:
            assert self.save_dir is not None
            with atomic_write(self.save_dir / "predictions.json", "w", durable=False, encoding="utf-8") as file:
                json.dump(self._coco.rows, file)

    def get_desc(self) -> str:
        """The header of the table."""
        return ("%22s" + "%11s" * 6) % ("Class", "Images", "Instances", "Box(P", "R", "mAP50", "mAP50-95)")

    def print_results(self) -> None:
        """A line for all classes, then one for each. During training the trainer's own line says enough."""
        metrics = self.metrics
        total = int(metrics.nt_per_class.sum())
        if total == 0 and not self._warned_of_no_labels:
            LOGGER.warning("No labels were found, so the metrics mean nothing. Check the label files of this split.")
            self._warned_of_no_labels = True
        if self.training:
            return
        row = "%22s" + "%11i" * 2 + "%11.3g" * len(metrics.mean_results())
        LOGGER.info(self.get_desc())
        LOGGER.info(row % ("all", self.seen, total, *metrics.mean_results()))
        if self.args.verbose and self.nc > 1:
            for i, number in enumerate(metrics.ap_class_index):
                images, objects = metrics.nt_per_image[number], metrics.nt_per_class[number]
                LOGGER.info(row % (self.names[int(number)], images, objects, *metrics.class_result(i)))
        if metrics.log:
            LOGGER.info(", ".join(f"{name} {value:.3g}" for name, value in logged_values(metrics, metrics.log).items()))
        if metrics.coco:
            LOGGER.info("COCO: " + ", ".join(f"{name} {value:.3f}" for name, value in metrics.coco.items()))
        stages = ", ".join(f"{value:.1f}ms {name}" for name, value in self.speed.items() if name != "loss")
        LOGGER.info(f"Speed: {stages} per image")
        if self.save_dir is not None and any(self.save_dir.iterdir()):
            LOGGER.info(f"Results in {self.save_dir}")

    # ------------------------------------------------------------------ files

    def pred_to_json(
        self, prediction: dict[str, Tensor], truth: dict[str, Tensor], batch: dict[str, Any], i: int
    ) -> None:
        """Remember one image for predictions.json and the COCO evaluation."""
        assert self._coco is not None
        parts = self.coco_parts(prediction, truth, batch, i)
        self._coco.add(str(batch["im_file"][i]), batch["ori_shape"][i], **parts)
        self.jdict = self._coco.rows

    def coco_parts(
        self, prediction: dict[str, Tensor], truth: dict[str, Tensor], batch: dict[str, Any], i: int
    ) -> dict[str, np.ndarray]:
        """What `CocoRecord.add` takes of one image, in pixels of the original."""
        return {
            "boxes": xyxy_to_ltwh(self._original_boxes(prediction["bboxes"], batch, i)).numpy(),
            "scores": prediction["conf"].numpy(),
            "classes": prediction["cls"].numpy(),
            "true_boxes": xyxy_to_ltwh(self._original_boxes(truth["bboxes"], batch, i)).numpy(),
            "true_classes": truth["cls"].numpy(),
        }

    def eval_json(self, stats: dict[str, float]) -> dict[str, float]:
        """Add the COCO numbers to the metrics, if `coco_eval` asks for them; returns all results."""
        if self.args.coco_eval and self._coco is not None:
            self.metrics.coco = self._coco.evaluate(self._annotations)
            stats = self.metrics.results_dict
        return stats

    def _find_annotations(self) -> CocoAnnotations | None:
        """The data set's own annotation file, which knows crowd regions and areas; checked against names and images.

        Labels that were merged or filtered are compared with themselves instead.
        """
        if not self.data or self.args.single_cls or self.args.classes is not None:
            return None
        folders = self._image_folders()
        folder = folders[0].name if len(folders) == 1 else None
        path = find_annotations(Path(self.data["path"]), self.split, folder, kind=self.annotations_kind)
        if path is None:
            return None
        annotations = CocoAnnotations(path)
        annotations.category_ids(self.names)
        index = self._label_index()
        if index is not None:
            annotations.image_ids(list(index.paths))
        if not self.training:
            LOGGER.info(f"coco_eval compares with {path}")
        return annotations

    def _is_coco(self) -> bool:
        """Whether this is COCO val2017, whose evaluation servers count classes to 90."""
        folders = map(str, self._image_folders())
        return self.nc == 80 and any("coco" in folder and "val2017" in folder for folder in folders)

    def _image_folders(self) -> list[Path]:
        """What the data set names for this split."""
        entries = self.data.get(self.split) or []
        return [Path(entry) for entry in ([entries] if isinstance(entries, (str, Path)) else entries)]

    def _save_txt(self, prediction: dict[str, Tensor], batch: dict[str, Any], i: int) -> None:
        assert self.save_dir is not None
        boxes = self._original_boxes(prediction["bboxes"], batch, i)
        rows = torch.cat([boxes, prediction["conf"][:, None], prediction["cls"][:, None]], dim=1)
        # Only the size of the picture is needed: a view of a single zero has any size and takes no memory.
        blank = np.broadcast_to(np.uint8(0), (*batch["ori_shape"][i], 3))
        name = Path(self._below_root(batch["im_file"][i])).with_suffix(".txt").name
        result = Results(blank, batch["im_file"][i], self.names, boxes=rows, **self._more_results(prediction, batch, i))
        result.save_txt(self.save_dir / "labels" / name, save_conf=self.args.save_conf)

    def _more_results(self, prediction: dict[str, Tensor], batch: dict[str, Any], i: int) -> dict[str, Any]:
        """What `Results` takes beside boxes, in pixels of the original image."""
        return {}

    def _draw_errors(
        self,
        prediction: dict[str, Tensor],
        truth: dict[str, Tensor],
        overlap: np.ndarray,
        batch: dict[str, Any],
        i: int,
    ) -> None:
        assert self.save_dir is not None
        image = (batch["img"][i].float().cpu() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        write_error_picture(
            self.save_dir / "visualizations" / Path(self._below_root(batch["im_file"][i])).with_suffix(".jpg").name,
            np.ascontiguousarray(image[..., ::-1]),  # RGB to BGR
            self.names,
            boxes=prediction["bboxes"].numpy(),
            scores=prediction["conf"].numpy(),
            classes=prediction["cls"].numpy(),
            true_boxes=truth["bboxes"].numpy(),
            true_classes=truth["cls"].numpy(),
            overlap=overlap,
            conf=self.confusion_conf,
            keypoints=prediction["keypoints"].numpy() if "keypoints" in prediction else None,
            true_keypoints=truth["keypoints"].numpy() if "keypoints" in truth else None,
        )

    def _exhibit(
        self,
        prediction: dict[str, Tensor],
        truth: dict[str, Tensor],
        overlap: np.ndarray,
        batch: dict[str, Any],
        i: int,
    ) -> None:
        assert self.showcase is not None
        file, conf = self._below_root(str(batch["im_file"][i])), self.confusion_conf
        exhibit(self.showcase, prediction, truth, overlap, batch, i, names=self.names, file=file, conf=conf)

    def _below_root(self, path: str) -> str:
        """The path below the folder that all images share, joined with `_`, so that equal names stay apart."""
        root = self._image_root or os.path.dirname(path)
        return "_".join(Path(os.path.relpath(path, root)).parts)

    # ------------------------------------------------------------------ pictures

    def plot_metrics(self) -> None:
        """Curves and confusion matrices."""
        assert self.save_dir is not None
        for kind, metric in self.metrics.kinds.items():
            self._plot_curves(kind, metric)
        for suffix, normalize in (("", False), ("_normalized", True)):
            file = self.save_dir / f"confusion_matrix{suffix}.png"
            plots.plot_confusion_matrix(self.confusion_matrix.matrix, file, self.names, normalize=normalize)

    def _plot_curves(self, kind: str, metric: Metric) -> None:
        assert self.save_dir is not None
        classes = self.metrics.ap_class_index
        precision, file = metric.prec_values[: len(classes)], self.save_dir / f"{kind}PR_curve.png"
        plots.plot_pr_curve(metric.px, precision, metric.all_ap, file, self.names, classes=classes)
        for letter, curve, label in (
            ("F1", metric.f1_curve, "F1"),
            ("P", metric.p_curve, "Precision"),
            ("R", metric.r_curve, "Recall"),
        ):
            file = self.save_dir / f"{kind}{letter}_curve.png"
            plots.plot_metric_curve(metric.px, curve, file, self.names, ylabel=label, classes=classes)

    def plot_val_samples(self, batch: dict[str, Any], ni: int) -> None:
        """The labels of a batch."""
        assert self.save_dir is not None
        plots.plot_images(batch, file=self.save_dir / f"val_batch{ni}_labels.jpg", names=self.names)

    def plot_predictions(self, batch: dict[str, Any], preds: list[dict[str, Tensor]], ni: int) -> None:
        """The predictions of a batch that are surer than 0.25."""
        assert self.save_dir is not None
        file = self.save_dir / f"val_batch{ni}_pred.jpg"
        plots.plot_images(batch, preds, file=file, names=self.names, conf=0.25)
