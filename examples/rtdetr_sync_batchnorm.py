"""Train an RT-DETR whose BatchNorm sees the images of all processes: SyncBatchNorm.

    python examples/rtdetr_sync_batchnorm.py data=shapes epochs=10 imgsz=320 batch=4 device=cpu nproc=2
    python examples/rtdetr_sync_batchnorm.py data=shapes epochs=10 imgsz=640 batch=16 device=0,1,2,3

An RT-DETR is large, so there are few images on each device: four are too little for the statistics of its backbone.
As one line of settings: train(..., sync_bn=True).
"""

import sys

import torch
import yaml

from sightline import RTDETR, RTDETRTrainer


class SyncTrainer(RTDETRTrainer):
    def set_model_attributes(self):
        super().set_model_attributes()
        self.model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.model)


def main(model="rtdetr-resnet50.yaml", data="shapes", epochs=10, imgsz=320, **settings):
    rtdetr = RTDETR(model)
    rtdetr.train(trainer=SyncTrainer, data=data, epochs=epochs, imgsz=imgsz, **settings)
    return rtdetr.trainer


if __name__ == "__main__":
    words = (word.split("=", 1) for word in sys.argv[1:])
    main(**{name: yaml.safe_load(value) for name, value in words})
