"""Normalise with the images of all processes instead of those of each: SyncBatchNorm.

    python examples/sync_batchnorm.py data=shapes epochs=10 imgsz=320 batch=8 device=0,1
    python examples/sync_batchnorm.py data=shapes epochs=10 imgsz=320 batch=8 device=cpu nproc=2

Worth it with several processes and few images on each. `set_model_attributes` is the moment for changes to the layers:
the model is on its device, and no optimizer, average or DistributedDataParallel knows it yet.
As one line of settings: train(..., sync_bn=True).
"""

import sys

import torch
import yaml

from sightline import YOLO, DetectionTrainer


class SyncTrainer(DetectionTrainer):
    def set_model_attributes(self):
        super().set_model_attributes()
        self.model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.model)


def main(model="yolo26n.yaml", data="shapes", epochs=10, imgsz=320, **settings):
    yolo = YOLO(model)
    yolo.train(trainer=SyncTrainer, data=data, epochs=epochs, imgsz=imgsz, **settings)
    return yolo.trainer


if __name__ == "__main__":
    words = (word.split("=", 1) for word in sys.argv[1:])
    main(**{name: yaml.safe_load(value) for name, value in words})
