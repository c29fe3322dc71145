"""Let a pretrained backbone learn at a tenth of the rate of the head.

    python examples/backbone_lr.py data=shapes epochs=20 imgsz=320 lr0=0.001
    python examples/backbone_lr.py data=shapes epochs=20 imgsz=320 lr0=0.001 six_groups=true

With two groups everything decays; with six, head and backbone have three groups each, and neither the scales of
BatchNorm nor biases decay. As one line of settings: train(..., backbone_lr_ratio=0.1).
"""

import sys

import torch
import yaml

from sightline import YOLO, DetectionTrainer, unwrap_model

RATIO = 0.1


def in_backbone(name, model):
    return int(name.split(".")[1]) < len(model.yaml["backbone"])  # model.4.cv1.conv.weight → 4


class TwoGroups(DetectionTrainer):
    def build_optimizer(self, model, name="auto", lr=0.001, momentum=0.9, decay=1e-5, iterations=1e5):
        model = unwrap_model(model)
        head, backbone = [], []
        for parameter_name, parameter in model.named_parameters():
            (backbone if in_backbone(parameter_name, model) else head).append(parameter)
        groups = [{"params": head, "lr": lr}, {"params": backbone, "lr": lr * RATIO}]
        return torch.optim.AdamW(groups, betas=(momentum, 0.999), weight_decay=decay)


class SixGroups(DetectionTrainer):
    def build_optimizer(self, model, name="auto", lr=0.001, momentum=0.9, decay=1e-5, iterations=1e5):
        model = unwrap_model(model)
        groups = {
            (part, kind): {
                "params": [],
                "lr": lr if part == "head" else lr * RATIO,
                "weight_decay": decay if kind == "weight" else 0.0,
            }
            for part in ("head", "backbone")
            for kind in ("weight", "norm", "bias")
        }
        for module_name, module in model.named_modules():
            for own_name, parameter in module.named_parameters(recurse=False):
                part = "backbone" if in_backbone(module_name, model) else "head"
                if own_name == "bias":
                    kind = "bias"
                elif isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    kind = "norm"
                else:
                    kind = "weight"
                groups[part, kind]["params"].append(parameter)
        return torch.optim.AdamW(list(groups.values()), betas=(momentum, 0.999))


def on_train_epoch_end(trainer):
    print(f"epoch {trainer.epoch + 1}:", *(f"{group['lr']:.6f}" for group in trainer.optimizer.param_groups))


def main(model="yolo26n.pt", data="shapes", epochs=20, imgsz=320, six_groups=False, **settings):
    yolo = YOLO(model)
    yolo.add_callback("on_train_epoch_end", on_train_epoch_end)
    yolo.train(trainer=SixGroups if six_groups else TwoGroups, data=data, epochs=epochs, imgsz=imgsz, **settings)
    return yolo.trainer


if __name__ == "__main__":
    words = (word.split("=", 1) for word in sys.argv[1:])
    main(**{name: yaml.safe_load(value) for name, value in words})
