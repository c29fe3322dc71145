"""Keep the model of the epoch with the highest mAP50 as best.pt, and stop when that has not risen for a while.

    python examples/best_by_map50.py data=shapes epochs=10 imgsz=320 patience=5

What `validate` returns as fitness decides on best.pt and on early stopping.
As one line of settings: train(..., fitness="metrics/mAP50(B)").
"""

import sys

import yaml

from sightline import YOLO, DetectionTrainer


class BestByMAP50(DetectionTrainer):
    def validate(self):
        best = self.best_fitness  # `super` compares it with mAP50-95
        metrics, _ = super().validate()
        fitness = metrics["metrics/mAP50(B)"]
        self.best_fitness = fitness if best is None else max(best, fitness)
        return metrics, fitness


def main(model="yolo26n.yaml", data="shapes", epochs=10, imgsz=320, **settings):
    yolo = YOLO(model)
    yolo.train(trainer=BestByMAP50, data=data, epochs=epochs, imgsz=imgsz, **settings)
    print(f"best mAP50 {yolo.trainer.best_fitness:.4f} in {yolo.trainer.best}")
    return yolo.trainer


if __name__ == "__main__":
    words = (word.split("=", 1) for word in sys.argv[1:])
    main(**{name: yaml.safe_load(value) for name, value in words})
