"""Train the head alone for five epochs, then everything.

    python examples/unfreeze_backbone.py data=shapes epochs=20 imgsz=320

The callback flips `requires_grad`. While a layer is frozen its BatchNorm statistics stay, too: the trainer holds those
of the layers in `freeze_layer_names`. As one line of settings: train(..., freeze="backbone", unfreeze_epoch=5).
"""

import sys

import yaml

from sightline import YOLO, unwrap_model

FROZEN_EPOCHS = 5


def set_backbone_frozen(trainer, frozen):
    model = unwrap_model(trainer.model)
    layers = range(len(model.yaml["backbone"]))  # they come first: model.0, model.1, …
    for i in layers:
        for parameter in model.model[i].parameters():
            parameter.requires_grad = not frozen
    trainer.freeze_layer_names = [f"model.{i}." for i in layers] if frozen else []
    print(f"epoch {trainer.epoch + 1}: backbone {'frozen' if frozen else 'trains'}")


def on_train_epoch_start(trainer):
    if trainer.epoch == trainer.start_epoch:
        set_backbone_frozen(trainer, trainer.epoch < FROZEN_EPOCHS)
    elif trainer.epoch == FROZEN_EPOCHS:
        set_backbone_frozen(trainer, False)


def main(model="yolo26n.pt", data="shapes", epochs=20, imgsz=320, **settings):
    yolo = YOLO(model)
    yolo.add_callback("on_train_epoch_start", on_train_epoch_start)
    yolo.train(data=data, epochs=epochs, imgsz=imgsz, **settings)
    return yolo.trainer


if __name__ == "__main__":
    words = (word.split("=", 1) for word in sys.argv[1:])
    main(**{name: yaml.safe_load(value) for name, value in words})
