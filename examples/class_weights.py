"""Make rare classes count more: a loss, a model that uses it, and a trainer that builds the model.

    python examples/class_weights.py data=shapes epochs=10 imgsz=320

A class with a tenth of the labels of the most frequent one gets `pos_weight` 10: missing one of its objects costs ten
times as much. As one line of settings: train(..., class_weights="auto").
"""

import sys

import torch
import yaml

from sightline import YOLO, DetectionModel, DetectionTrainer, E2ELoss, unwrap_model, v8DetectionLoss


class WeightedLoss(v8DetectionLoss):
    def __init__(self, model, tal_topk=10, tal_topk2=None):
        super().__init__(model, tal_topk, tal_topk2)
        self.bce = torch.nn.BCEWithLogitsLoss(reduction="none", pos_weight=model.pos_weight.to(self.device))


class WeightedModel(DetectionModel):
    pos_weight = torch.ones(1)  # the trainer knows better

    def init_criterion(self):  # called at the first batch
        return E2ELoss(self, WeightedLoss) if self.end2end else WeightedLoss(self)


class WeightedTrainer(DetectionTrainer):
    def get_model(self, cfg=None, weights=None, verbose=True):
        model = WeightedModel(cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose)
        if weights:
            model.load(weights)
        return model

    def set_class_weights(self):  # called when the data has been read
        counts = self.get_class_counts()
        weights = torch.where(counts > 0, counts.max() / counts.clamp(min=1), 1.0)
        unwrap_model(self.model).pos_weight = weights
        for i, name in self.data["names"].items():
            print(f"{name}: pos_weight {weights[i]:.2f}")


def main(model="yolo26n.yaml", data="shapes", epochs=10, imgsz=320, **settings):
    yolo = YOLO(model)
    yolo.train(trainer=WeightedTrainer, data=data, epochs=epochs, imgsz=imgsz, **settings)
    return yolo.trainer


if __name__ == "__main__":
    words = (word.split("=", 1) for word in sys.argv[1:])
    main(**{name: yaml.safe_load(value) for name, value in words})
