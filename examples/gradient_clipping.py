"""Clip gradients at a norm of your choice, in a step of your own.

    python examples/gradient_clipping.py data=shapes epochs=10 imgsz=320 max_norm=1.0

As one line of settings: train(..., clip_grad=1.0).
"""

import functools
import sys

import torch
import yaml

from sightline import YOLO, DetectionTrainer


class ClippingTrainer(DetectionTrainer):
    def __init__(self, *args, max_norm=10.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.max_norm = max_norm
        self.clipped = 0

    def optimizer_step(self):
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=self.max_norm)
        self.clipped += int(norm > self.max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.model)


def main(model="yolo26n.yaml", data="shapes", epochs=10, imgsz=320, max_norm=10.0, **settings):
    yolo = YOLO(model)
    trainer = functools.partial(ClippingTrainer, max_norm=max_norm)
    yolo.train(trainer=trainer, data=data, epochs=epochs, imgsz=imgsz, **settings)
    print(f"{yolo.trainer.clipped} steps were clipped at a norm of {max_norm}")
    return yolo.trainer


if __name__ == "__main__":
    words = (word.split("=", 1) for word in sys.argv[1:])
    main(**{name: yaml.safe_load(value) for name, value in words})
