"""Training of box detectors: the blanks of BaseTrainer filled in."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline import download
from sightline.artifacts import plots
from sightline.artifacts.weights_file import WeightsFile, read_weights
from sightline.backends import ranks
from sightline.backends.load import network_of
from sightline.config.image_size import fit_imgsz
from sightline.data import loader
from sightline.data.spec import DatasetSpec, load_dataset_spec
from sightline.data.transforms.multi_scale import multi_scale_shape, multi_scale_size
from sightline.errors import ModelError, SettingValueError, UsageError
from sightline.log import LOGGER
from sightline.losses.targets import send_and_keep
from sightline.losses.terms.class_weights import class_weights
from sightline.models.budget import Budget
from sightline.models.build import NETWORKS, build_model
from sightline.models.contract import check_network, check_task, is_described, largest_stride
from sightline.models.origin import arguments_of
from sightline.models.rebuild import build_as, check_layers, own_class_of
from sightline.models.weights import transfer
from sightline.train import loss_settings
from sightline.train.ema import unwrap
from sightline.train.given_network import copy_for, must_be_copied
from sightline.train.resume import network_to_resume
from sightline.train.returned import returned
from sightline.train.trainer import BaseTrainer
from sightline.validate.detect import DetectionValidator


class DetectionTrainer(BaseTrainer):
    """Trains a box detector.

    Shape of a batch: img (B, 3, H, W), cls (N, 1), bboxes (N, 4) xywh divided by the image size, batch_idx (N,).
    """

    task = "detect"
    stretch = False  # images fill a square, whatever their shape, instead of being letterboxed

    def get_dataset(self) -> dict[str, Any]:
        if self.args.data is None:
            raise UsageError("train needs a data set: data=file.yaml, or data=shapes for the built-in one.")
        data = load_dataset_spec(self.args.data, split="val").as_dict()
        if self.args.single_cls:
            data["names"], data["nc"] = {0: "item"}, 1
        return data

    def setup_model(self) -> WeightsFile | None:
        """Build the network: described by `model`, with the weights that `pretrained` and `model` ask for."""
        if isinstance(self.model, nn.Module):
            return None
        if self.checkpoint is not None:  # the network as it was, wherever its first weights came from
            if self.checkpoint["nc"] != self.data["nc"]:
                raise SettingValueError(
                    f"resume={self.args.resume}: the run knows {self.checkpoint['nc']} classes, but data="
                    f"{self.args.data} has {self.data['nc']}. Resume with its own data, or start a new run from the "
                    f"weights: model={self.args.resume} data={self.args.data}"
                )
            replaced = type(self).get_model is not DetectionTrainer.get_model
            self.model = network_to_resume(self, self.checkpoint, ask_get_model=replaced)
            return None
        if self.model is None and self.source is None:
            raise UsageError(
                "train needs a model: model=yolo26n.yaml (from scratch) or model=yolo26n.pt (from weights)."
            )
        loaded = None
        if self.source is None and not str(self.model).endswith((".yaml", ".yml")):
            self.source = loaded = self._weights(str(self.model))
            if loaded.yaml is None and loaded.origin is not None:  # only its class can make it
                self.source = network_of(loaded)
        weights = self.source if self.args.pretrained else None
        if isinstance(self.args.pretrained, str):
            weights = read_weights(download.fetch_weights(self.args.pretrained))  # of any task: what fits is told
        given = self.source
        if isinstance(given, nn.Module) and not is_described(given):
            weights = given if weights is None else weights  # get_model says what cannot be
        cfg = self.model if given is None else getattr(given, "yaml", None)
        self.model = returned(self.get_model(cfg=cfg, weights=weights), self.get_model)
        check_network(self.model)
        return loaded

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        """A network with the data's classes; `weights` is a module, a WeightsFile or a state dict."""
        given = (
            self.source if isinstance(self.source, nn.Module) and cfg is getattr(self.source, "yaml", None) else None
        )
        reason = "" if given is None else must_be_copied(given)
        from_file = isinstance(weights, WeightsFile) and cfg is weights.yaml  # which could name any size
        if reason:
            model = copy_for(given, self.data, reason=reason, fresh=not self.args.pretrained)
            self.loaded_tensors |= set(model.state_dict()) if self.args.pretrained else set()
            weights = None if weights is given else weights
        else:
            with Budget(weights.state) if from_file else contextlib.nullcontext():
                model = self._build(cfg, given, weights if from_file else None)
            check_task(model, self.task)
        if weights is not None:
            state = weights.state_dict() if isinstance(weights, nn.Module) else getattr(weights, "state", weights)
            names = getattr(weights, "names", None)
            report = transfer(model, state, source_names=names, cls_remap=self.args.cls_remap)
            self.loaded_tensors |= set(report.copied)
            if report.transferred == 0:
                raise ModelError(
                    f"No tensor of {getattr(weights, 'path', 'the weights')} fits model={self.args.model}. "
                    "Give weights of the same family of networks, or pretrained=False."
                )
            if from_file:
                check_layers(weights.origin, model, weights.path)
            if verbose:
                LOGGER.info(report.summary())
        return model

    def _build(self, cfg: Any, given: nn.Module | None, file: WeightsFile | None) -> nn.Module:
        """A fresh network, of the class that the given one or the one in the file has."""
        data = self._model_arguments()
        kind = type(given) if given is not None else None
        arguments = None if given is None else arguments_of(given)[0]
        if file is not None and file.origin is not None:
            kind, arguments = own_class_of(file.origin, file.path), file.origin.arguments
        if kind is None or kind in NETWORKS.values():
            return build_model(cfg, **data)
        return build_as(kind, cfg, **data, arguments=arguments)

    def _model_arguments(self) -> dict[str, Any]:
        """What a network is built with that the data decides, by the names of `build_model`."""
        return {"nc": self.data["nc"], "ch": self.data["channels"], "names": self.data["names"]}

    def _weights(self, name: str) -> WeightsFile:
        weights = read_weights(download.fetch_weights(name))
        if weights.task not in (None, self.task):
            raise ModelError(
                f"{name} holds a model for task={weights.task}, but this run trains task={self.task}. To take over "
                f"what fits, name a description for that task as model=, and pretrained={name}."
            )
        return weights

    def set_model_attributes(self) -> None:
        self.model.nc, self.model.names, self.model.args = self.data["nc"], self.data["names"], self.args
        self.stride = largest_stride(self.model)
        fit_imgsz(self.args, self.stride, max_dim=1)

    def set_class_weights(self) -> None:
        if self.args.cls_pw > 0:
            unwrap(self.model).class_weights = self.compute_class_weights(self.get_class_counts()).to(self.device)
        if self.args.class_weights is not None:
            weights = loss_settings.weights_of(self.args.class_weights, self.get_class_counts(), self.data["names"])
            unwrap(self.model).positive_weights = weights.to(self.device)

    def get_class_counts(self) -> Tensor:
        """(nc,) labels of each class in the training set."""
        return torch.as_tensor(self.train_loader.dataset.index.class_counts(self.data["nc"]))

    def compute_class_weights(self, counts: Tensor) -> Tensor:
        """(nc,) factors that lift rare classes, by the exponent `cls_pw`."""
        return class_weights(counts, self.args.cls_pw)

    def build_dataset(self, img_path: Any, mode: str = "train", batch: int | None = None) -> Any:
        """The samples of one split; `img_path` is what the data YAML names for it."""
        return loader.build_dataset(
            self.args,
            DatasetSpec.from_dict(self.data),
            mode if img_path == self.data.get(mode) else img_path,  # by name, so that `fraction` applies
            mode=mode,
            batch_size=batch or self.batch_size,
            stride=self.stride,
            task=self.task,
            stretch=self.stretch,
        )

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        if mode == "train":
            if self.args.is_user_set("workers") and self.args.workers and self.device.type == "cpu":
                LOGGER.info(
                    f"workers={self.args.workers}: on a CPU batches are prepared between the steps, which is faster."
                )
            images = getattr(dataset, "images_per_epoch", len(dataset))  # a user's own need not know of repeats
            self._check_batches(images=images, batch=batch_size)
        return loader.build_loader(
            dataset,
            batch_size,
            shuffle=mode == "train",
            workers=self.args.workers if mode == "train" else self.args.workers * 2,
            seed=self.args.seed,
            rank=rank,
            world_size=self.world_size,
            pin_memory=self.device.type == "cuda",
        )

    def auto_batch(self, max_num_obj: int = 0, dataset_size: int = 0) -> int:
        """As in `BaseTrainer`; where it is not told, it counts: a mosaic can be made of the most crowded images."""
        if not max_num_obj or not dataset_size:
            with ranks.main_first():
                dataset = self.build_dataset(self.data["train"], mode="train", batch=1)
            if hasattr(dataset, "index"):  # a user's own data set may have none
                tiles = self.args.mosaic_tiles if self.args.mosaic and self.args.mosaic_prob else 1
                guests = 2 if self.args.mixup or self.args.copy_paste else 1
                max_num_obj = max_num_obj or max(
                    sum(sorted(dataset.index.object_counts().tolist())[-tiles * guests :]), 1
                )
            dataset_size = dataset_size or len(dataset)
        return super().auto_batch(max_num_obj, dataset_size)

    def _say_what_is_repeated(self) -> None:
        if not self.args.repeat_factor:
            return
        factors = getattr(getattr(self.train_loader, "sampler", None), "repeat_factors", None)
        repeat = getattr(self.train_loader.dataset, "repeat", None)
        if factors is None or repeat is None:
            raise SettingValueError(
                f"repeat_factor={self.args.repeat_factor:g} has no effect: get_dataloader() or build_dataset() of "
                f"{type(self).__name__} gave a loader without it. Build both with super(), or leave repeat_factor out."
            )
        names, share = self.data["names"], self.args.repeat_factor
        raised = [f"{names[number]} ×{factor:.3g}" for number, factor in enumerate(repeat.classes) if factor > 1]
        self.in_force["repeat_factor"] = (
            f"{', '.join(raised)}; an epoch has {self.train_loader.sampler.count} samples of {len(factors)} images"
            if raised
            else f"repeats nothing: every class is in at least {share:.3g} of the images"
        )

    def _check_batches(self, *, images: int, batch: int) -> None:
        """BatchNorm needs more than one value a channel in every batch, the last and smallest one, too."""
        smallest = images % batch if images > batch and images % batch else min(images, batch)
        if smallest == 1 and self.args.imgsz <= self.stride:
            raise SettingValueError(
                f"imgsz={self.args.imgsz} and batch={batch} leave a batch of one image, which is one value at the "
                f"stride of {self.stride}: too little to normalise. Use imgsz={2 * self.stride} or another batch."
            )

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """To the device as bytes, to floats in [0, 1] there; with multi_scale also to this batch's size."""
        for name, value in batch.items():
            if isinstance(value, Tensor):
                batch[name] = send_and_keep(value, self.device)
        batch["img"] = batch["img"].to(memory_format=self._memory_format()).float() / 255
        if self.args.multi_scale > 0:
            batch["img"] = self._rescaled(batch["img"])
        return batch

    def _rescaled(self, images: Tensor) -> Tensor:
        size = multi_scale_size(
            self.args.imgsz,
            self.args.multi_scale,
            self.stride,
            seed=self.args.seed,
            epoch=self.epoch,
            iteration=self.batch_index,
        )
        shape = multi_scale_shape(images.shape[-2:], size, self.stride)
        return images if shape == images.shape[-2:] else F.interpolate(images, shape, mode="bilinear")

    def get_validator(self) -> DetectionValidator:
        self.loss_names = ("box_loss", "cls_loss", "dfl_loss")
        return DetectionValidator(
            self.test_loader, save_dir=self.save_dir, args=self.args.copy(), _callbacks=self.callbacks
        )

    def metric_keys(self) -> list[str]:
        return list(self.validator.metrics.keys)

    def _column(self, item: str) -> str:
        return "dfl_loss" if item == "l1_loss" else item

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        self._try(
            lambda: plots.plot_images(batch, file=self.save_dir / f"train_batch{ni}.jpg", names=self.data["names"])
        )

    def plot_training_labels(self) -> None:
        index = self.train_loader.dataset.index
        plots.plot_labels(
            index.boxes, index.classes, names=self.data["names"], save_dir=self.save_dir, keypoints=index.keypoints
        )
