"""What a run shows of its data: labels that are missing, that nothing is assigned to, or that contradict each other."""

from __future__ import annotations

import math

import numpy as np

from sightline.config.limits import Limits
from sightline.diagnosis.finding import Finding
from sightline.diagnosis.history import Epoch, History

IN_A_ROW = 3  # validations that must agree before labels are blamed
STILL_RISING = 1.2  # times as high as three validations ago: a network that is still learning
FEW = 5  # objects of a class below which its numbers are chance


def labels_missing(history: History, limits: Limits) -> Finding | None:
    """There is nothing to learn from: no objects in the data set, or none that arrive in the batches."""
    setup = history.setup
    if setup.objects == 0:
        evidence = f"none of {setup.train_images} training images has a labelled object"
        remedy = (
            "Check the folder labels/ beside images/, and the class numbers; `sightline doctor data` lists the files."
        )
        return Finding("labels_missing", "error", evidence, remedy, history.number)
    if not len(history) or history.last.objects != 0 or not history.last.images:
        return None
    known = f", although the data set has {setup.objects}" if setup.objects else ""
    evidence = f"{history.last.images} images of this epoch came without a single object{known}"
    remedy = (
        "They are lost on the way: look at your data set, transforms, collate_fn or preprocess_batch (cls, bboxes)."
    )
    return Finding("labels_missing", "error", evidence, remedy, history.number)


def no_positives(history: History, limits: Limits) -> Finding | None:
    """Objects are there, but the loss assigns no anchor to any of them."""
    if not len(history) or not history.last.objects:
        return None
    last = history.last
    boxes = [value for name, value in last.train_loss.items() if name in ("box", "dfl", "l1", "giou", "bbox")]
    if not boxes or any(not abs(value) < 1e-9 for value in boxes):
        return None
    evidence = f"{last.objects} objects in the batches, but the box loss is exactly 0: no anchor was assigned to any"
    remedy = (
        "Check that boxes are xywh divided by the image size (0 to 1) and not empty, and your assigner if you have one."
    )
    return Finding("no_positives", "error", evidence, remedy, history.number)


def duplicates(history: History, limits: Limits) -> Finding | None:
    """Validation images that also are training images make every score too good."""
    setup = history.setup
    if not setup.duplicates or not setup.val_images or setup.duplicates / setup.val_images <= limits.duplicates:
        return None
    example = f", {setup.duplicate_examples[0]} for one" if setup.duplicate_examples else ""
    evidence = f"{setup.duplicates} of {setup.val_images} validation images are training images, too{example}"
    remedy = "The scores will be too good: take them out of one split; `sightline doctor data` lists near-duplicates."
    return Finding("duplicate_images", "warning", evidence, remedy, history.number)


def class_collapse(history: History, limits: Limits) -> Finding | None:
    """Objects of several classes are found, and all are called the same."""
    recent = _validated(history)[-2:]
    if len(recent) < 2 or not all(_collapsed(epoch, limits) for epoch in recent):
        return None
    last = recent[-1]
    detected, labelled = np.array(last.detected_of_class), np.array(last.labelled_of_class)
    top = int(detected.argmax())
    name = history.setup.class_names[top] if top < len(history.setup.class_names) else str(top)
    evidence = (
        f"{detected[top] / detected.sum():.0%} of {detected.sum()} confident detections are called {name}, which has "
        f"{labelled[top] / labelled.sum():.0%} of the labels"
    )
    if last.placed and last.misnamed is not None:
        evidence += f"; {last.misnamed} of {last.placed} found objects are of another class"
    remedy = (
        "Check class numbers of the labels and class_weights; for rare classes class_weights=auto or repeat_factor."
    )
    return Finding("class_collapse", "warning", evidence, remedy, history.number)


def _collapsed(epoch: Epoch, limits: Limits) -> bool:
    detected, labelled = np.array(epoch.detected_of_class), np.array(epoch.labelled_of_class)
    if len(detected) != len(labelled) or (labelled >= FEW).sum() < 2 or detected.sum() < limits.collapse_objects:
        return False
    share, truth = detected.max() / detected.sum(), labelled[detected.argmax()] / labelled.sum()
    found_wrong = (epoch.misnamed or 0) / max(epoch.placed or 0, 1)
    return bool(share >= limits.collapse_share and share - truth >= limits.collapse_lead and found_wrong >= 0.1)


def label_noise(history: History, limits: Limits) -> Finding | None:
    """Objects are found where they are, but often under another name than their label's."""
    recent = _validated(history)[-IN_A_ROW:]
    if len(recent) < IN_A_ROW or any(_collapsed(epoch, limits) for epoch in recent):
        return None
    if any((epoch.placed or 0) < limits.noise_objects for epoch in recent):
        return None
    shares = [(epoch.misnamed or 0) / (epoch.placed or 1) for epoch in recent]
    if min(shares) <= limits.class_noise:
        return None
    last = recent[-1]
    evidence = (
        f"{last.misnamed} of {last.placed} detections that fit an object ({shares[-1]:.0%}) have another class than "
        "its label: up to that share of the class labels may be wrong"
    )
    remedy = "Look at the confusion matrix and at `sightline doctor data`; merge classes that cannot be told apart."
    return Finding("label_noise", "warning", evidence, remedy, history.number)


def box_noise(history: History, limits: Limits) -> Finding | None:
    """Objects are found, but the boxes do not fit their labels, and do not come to fit them better."""
    recent = _validated(history)[-IN_A_ROW:]
    if len(recent) < IN_A_ROW or any(epoch.map50 < limits.noise_map for epoch in recent):
        return None
    # Of a few pixels, one more or less is a large part: there only a very low ratio tells something.
    small = history.setup.box_side is not None and history.setup.box_side < limits.box_noise_side
    ratios = [epoch.map / epoch.map50 for epoch in recent]
    if max(ratios) >= (limits.box_noise_small if small else limits.box_noise):
        return None
    if recent[-1].map50 > STILL_RISING * recent[0].map50 or ratios[-1] > STILL_RISING * ratios[0]:
        return None
    last = recent[-1]
    loose = ""
    if last.detections and last.invented is not None:
        if last.invented < limits.box_noise_loose * last.detections:
            return None
        loose = f"; {last.invented} of {last.detections} confident detections fit no label (IoU 0.45)"
    evidence = f"mAP50 is {last.map50:.3f}, but mAP50-95 only {last.map:.3f} ({ratios[-1]:.0%} of it){loose}"
    remedy = (
        "Boxes are found but do not fit: check how exactly objects are labelled (`sightline doctor data`), and whether "
        "imgsz leaves enough of them."
    )
    return Finding("box_noise", "warning", evidence, remedy, history.number)


def _validated(history: History) -> list[Epoch]:
    return [epoch for epoch in history.epochs if not math.isnan(epoch.map50)]


RULES = (labels_missing, no_positives, duplicates, class_collapse, label_noise, box_noise)
