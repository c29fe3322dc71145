"""Clip the gradients of an RT-DETR hard, in a step of your own: at 0.1, as its authors do.

    python examples/rtdetr_gradient_clipping.py data=shapes epochs=10 imgsz=320 max_norm=0.1

As one line of settings: train(..., clip_grad=0.1), which is what an RT-DETR takes if you leave it out.
"""

import functools
import sys

import torch
import yaml

from sightline import RTDETR, RTDETRTrainer


class ClippingTrainer(RTDETRTrainer):
    def __init__(self, *args, max_norm=0.1, **kwargs):
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


def main(model="rtdetr-l.yaml", data="shapes", epochs=10, imgsz=320, max_norm=0.1, **settings):
    rtdetr = RTDETR(model)
    trainer = functools.partial(ClippingTrainer, max_norm=max_norm)
    rtdetr.train(trainer=trainer, data=data, epochs=epochs, imgsz=imgsz, **settings)
    print(f"{rtdetr.trainer.clipped} steps were clipped at a norm of {max_norm}")
    return rtdetr.trainer


if __name__ == "__main__":
    words = (word.split("=", 1) for word in sys.argv[1:])
    main(**{name: yaml.safe_load(value) for name, value in words})
