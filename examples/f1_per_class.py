"""Print the F1 of every class after each epoch, and the images that went worst.

    python examples/f1_per_class.py data=shapes epochs=10 imgsz=320

The callback may read all that the validator has measured: `metrics.box` holds an array a class, in the order of
`ap_class_index` (classes without a labelled object are left out), and `image_metrics` a row an image.
As one line of settings: train(..., log_metrics=["f1"]) writes them to results.csv.
"""

import sys

import yaml

from sightline import RANK, YOLO


def report(trainer):
    if RANK not in {-1, 0}:  # of several processes one prints
        return
    metrics = trainer.validator.metrics
    names = trainer.validator.names
    for i, class_index in enumerate(metrics.ap_class_index):
        print(f"epoch {trainer.epoch + 1}: {names[class_index]:>12} F1 {metrics.box.f1[i]:.3f}")
    images = metrics.box.image_metrics
    for name in sorted(images, key=lambda name: images[name]["f1"])[:3]:
        print(f"epoch {trainer.epoch + 1}: {name} F1 {images[name]['f1']:.3f}")


def main(model="yolo26n.yaml", data="shapes", epochs=10, imgsz=320, **settings):
    yolo = YOLO(model)
    yolo.add_callback("on_fit_epoch_end", report)  # comes once more at the end, for best.pt
    yolo.train(data=data, epochs=epochs, imgsz=imgsz, **settings)
    return yolo.trainer


if __name__ == "__main__":
    words = (word.split("=", 1) for word in sys.argv[1:])
    main(**{name: yaml.safe_load(value) for name, value in words})
