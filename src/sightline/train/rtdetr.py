"""Training of RT-DETR: what differs from detectors with anchors."""

from __future__ import annotations

import torch
from torch import nn

from sightline.config.settings import Settings
from sightline.errors import SettingValueError
from sightline.log import LOGGER
from sightline.train import backbone, recipe
from sightline.train.detect import DetectionTrainer
from sightline.train.freeze import described_backbone
from sightline.train.lr_groups import split_at_backbone
from sightline.validate.rtdetr import RTDETRValidator

# What the published networks were trained with. A transformer does not learn from the recipe of a YOLO: its gradients
# are large and rare, so steps are small, clipped hard, and warmed up for long; and a mosaic shrinks its objects.
DEFAULTS = {
    "clip_grad": 0.1,
    "mosaic": 0.0,
    "box": 2.0,  # GIoU
    "cls": 1.0,
    "dfl": 5.0,  # the third term, here the L1 distance, as in heads without distance bins
}
ADAMW = {"lr0": 1e-4, "momentum": 0.9, "weight_decay": 1e-4, "warmup_bias_lr": 0.0}

WARMUP_STEPS = 2000
WARMUP_SHARE = 0.1  # of the run, at most
LOADED_RATIO = 0.1  # of a backbone that knows something already, so that it does not forget it


class RTDETRTrainer(DetectionTrainer):
    """Trains an RT-DETR. Images are stretched to a square instead of letterboxed.

    The batch is that of `DetectionTrainer`. What the user did not set is filled in: see `fill_defaults` and
    `fill_automatic`. Its optimizer has six groups, head and backbone × weight, bn and bias; only weights decay.

    Source of the recipe: Lv et al., RT-DETR, arXiv:2304.08069, appendix.
    """

    task = "rtdetr"
    stretch = True

    def fill_defaults(self) -> None:
        settings = self.args
        _refuse_suppression(settings)
        for name, value in DEFAULTS.items():
            settings.fill_auto(name, value)
        if settings.optimizer == "auto":
            settings.assign("optimizer", "AdamW", origin="auto")  # also where the user wrote `auto`
        if settings.optimizer == "AdamW":  # for another optimizer these numbers would mean nothing
            for name, value in ADAMW.items():
                settings.fill_auto(name, value)

    def fill_automatic(self, *, batches: int) -> None:
        """What depends on the data and the weights: `nbs`, `warmup_steps`, `ema_tau` and `backbone_lr_ratio`."""
        settings = self.args
        if settings.accumulate is None:
            # The loss is not times the number of images, so that a step is one batch, whatever its size.
            settings.fill_auto("nbs", settings.batch)
        steps = recipe.steps_of(settings, batches=batches)
        if not (settings.is_user_set("warmup_epochs") or settings.is_user_set("warmup_steps")):
            settings.fill_auto("warmup_steps", min(WARMUP_STEPS, int(steps * WARMUP_SHARE)))
        recipe.fit_average(settings, steps=steps)
        self._fill_backbone_ratio()

    def _fill_backbone_ratio(self) -> None:
        length = described_backbone(self.network)
        # Who builds an optimizer of their own has decided on its rates: a ratio on top of theirs would spoil them.
        own = type(self).build_optimizer is not RTDETRTrainer.build_optimizer
        if not length or own or self.args.is_user_set("backbone_lr_ratio"):
            return
        loaded = backbone.is_loaded(self.network, self.loaded_tensors)
        ratio = LOADED_RATIO if loaded else 1.0
        self.args.fill_auto("backbone_lr_ratio", ratio)
        weights = "were loaded" if loaded else "are random (give them with pretrained= or backbone_weights=)"
        LOGGER.info(f"backbone_lr_ratio={ratio:g}: the weights of the backbone, layers 0–{length - 1}, {weights}.")

    def build_optimizer(
        self,
        model: nn.Module,
        name: str = "auto",
        lr: float = 0.001,
        momentum: float = 0.9,
        decay: float = 1e-5,
        iterations: float = 1e5,
    ) -> torch.optim.Optimizer:
        """As in `BaseTrainer`, each group split into that of the head and that of the backbone."""
        optimizer = super().build_optimizer(model, name, lr, momentum, decay, iterations)
        split_at_backbone(optimizer, model)
        return optimizer

    def get_validator(self) -> RTDETRValidator:
        self.loss_names = ("giou_loss", "cls_loss", "l1_loss")
        return RTDETRValidator(
            self.test_loader, save_dir=self.save_dir, args=self.args.copy(), _callbacks=self.callbacks
        )

    def _column(self, item: str) -> str:
        return item


def _refuse_suppression(settings: Settings) -> None:
    """Else the first validation would find it, an epoch later."""
    if settings.nms:
        raise SettingValueError(
            f"nms={settings.nms}: RT-DETR gives one box an object; there is nothing for NMS. Leave nms out."
        )
