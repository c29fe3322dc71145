"""Let the backbone of an RT-DETR learn at a part of the rate of the rest, with six groups of your own.

    python examples/rtdetr_backbone_lr.py data=shapes epochs=50 imgsz=320 model=rtdetr-l.yaml
    python examples/rtdetr_backbone_lr.py data=shapes epochs=50 imgsz=320 model=rtdetr-resnet50.yaml ratio=0.1

Works for rtdetr-l, -x, -resnet50 and -resnet101, and for your own description: `model.yaml["backbone"]` says where the
backbone ends. As one line of settings: train(..., backbone_lr_ratio=0.1), and backbone_weights=resnet50.pth for
weights that deserve it. Left alone, an RT-DETR takes 0.1 for a backbone with loaded weights and 1 for a random one.
"""

import functools
import sys

import torch
import yaml

from sightline import RTDETR, RTDETRTrainer, unwrap_model


class BackboneTrainer(RTDETRTrainer):
    def __init__(self, *args, ratio=0.1, **kwargs):
        super().__init__(*args, **kwargs)
        self.ratio = ratio

    def build_optimizer(self, model, name="auto", lr=1e-4, momentum=0.9, decay=1e-4, iterations=1e5):
        model = unwrap_model(model)
        backbone = len(model.yaml["backbone"])
        norms = tuple(kind for name, kind in vars(torch.nn).items() if "Norm" in name and isinstance(kind, type))
        groups = {
            (part, kind): {
                "params": [],
                "lr": lr * self.ratio if part == "backbone" else lr,
                "weight_decay": decay if kind == "weight" else 0.0,
            }
            for part in ("head", "backbone")
            for kind in ("weight", "norm", "bias")
        }
        for module_name, module in model.named_modules():
            for own_name, parameter in module.named_parameters(recurse=False):
                part = "backbone" if int(module_name.split(".")[1]) < backbone else "head"  # model.4.cv1.conv → 4
                kind = "bias" if "bias" in own_name else "norm" if isinstance(module, norms) else "weight"
                groups[part, kind]["params"].append(parameter)
        return torch.optim.AdamW(list(groups.values()), lr=lr, betas=(momentum, 0.999))


def on_train_epoch_end(trainer):
    print(f"epoch {trainer.epoch + 1}:", *(f"{group['lr']:.2e}" for group in trainer.optimizer.param_groups))


def main(model="rtdetr-l.yaml", data="shapes", epochs=50, imgsz=320, ratio=0.1, **settings):
    rtdetr = RTDETR(model)
    rtdetr.add_callback("on_train_epoch_end", on_train_epoch_end)
    trainer = functools.partial(BackboneTrainer, ratio=ratio)
    rtdetr.train(trainer=trainer, data=data, epochs=epochs, imgsz=imgsz, **settings)
    return rtdetr.trainer


if __name__ == "__main__":
    words = (word.split("=", 1) for word in sys.argv[1:])
    main(**{name: yaml.safe_load(value) for name, value in words})
