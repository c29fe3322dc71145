"""Two images in one: MixUp, CutMix and Copy-Paste.

The random classes get `second`, a function that draws and prepares the other image; it is called only when needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from sightline.data.transforms.flip import FlipLeftRight
from sightline.data.transforms.polygons import fill_polygons, least_visible, outlines
from sightline.data.transforms.scene import Scene
from sightline.ops.iou import pairwise_ioa
from sightline.structures.sample import Array, Labels, Sample

Second = Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class MixUp:
    """`share` of an image over the rest of the second; the objects of both.

    Source: Zhang et al., mixup, arXiv:1710.09412; for detectors Zhang et al., Bag of Freebies, arXiv:1902.04103.
    """

    second: Sample = field(repr=False)
    share: float

    def __call__(self, sample: Sample) -> Sample:
        blend = cv2.addWeighted(sample.image, self.share, self.second.image, 1 - self.share, 0)
        labels = Labels.concatenate([sample.labels, self.second.labels])
        return sample.with_(image=blend.reshape(sample.image.shape), labels=labels)


@dataclass(frozen=True, slots=True)
class RandomMixUp:
    probability: float = 0.0

    def decide(self, sample: Sample, rng: np.random.Generator, *, second: Second) -> MixUp | None:
        if rng.random() >= self.probability:
            return None
        return MixUp(second(), float(rng.beta(32, 32)))  # narrow around one half


@dataclass(frozen=True, slots=True)
class CutMix:
    """A rectangle of the second image over an image, with those of the second's objects that show in it.

    Attributes:
        rect: x1, y1, x2, y2, whole pixels.
        objects: which objects of the second image come along, (M,) int.

    Source: Yun et al., CutMix, arXiv:1905.04899.
    """

    second: Sample = field(repr=False)
    rect: tuple[int, int, int, int]
    objects: Array

    def __call__(self, sample: Sample) -> Sample:
        x1, y1, x2, y2 = self.rect
        image = sample.image.copy()
        image[y1:y2, x1:x2] = self.second.image[y1:y2, x1:x2]
        guests = self.second.labels.select(self.objects).clipped(x2, y2, x1, y1)
        return sample.with_(image=image, labels=Labels.concatenate([sample.labels, guests]))


@dataclass(frozen=True, slots=True)
class RandomCutMix:
    """Draws three rectangles and takes one that covers no object of the image; without one nothing happens."""

    probability: float = 0.0
    tries: int = 3

    def decide(self, sample: Sample, rng: np.random.Generator, *, second: Second) -> CutMix | None:
        if rng.random() >= self.probability:
            return None
        rects = np.stack([_random_rect(sample.height, sample.width, rng) for _ in range(self.tries)])
        free = rects[~(_covered(sample.boxes, rects) > 0).any(axis=1) & (rects[:, 2:] > rects[:, :2]).all(axis=1)]
        if not len(free):
            return None
        rect = free[rng.integers(len(free))]
        other = second()
        objects = np.flatnonzero(_covered(other.boxes, rect[None])[0] >= least_visible(other.labels))
        if not len(objects):
            return None
        x1, y1, x2, y2 = rect.astype(int).tolist()
        return CutMix(other, (x1, y1, x2, y2), objects)


@dataclass(frozen=True, slots=True)
class Paste:
    """Objects cut out of the second image along their outlines and put over an image. objects: (M,) int."""

    second: Sample = field(repr=False)
    objects: Array

    def __call__(self, sample: Sample) -> Sample:
        guests = self.second.labels.select(self.objects)
        mask = fill_polygons(outlines(guests), sample.height, sample.width) > 0
        image = sample.image.copy()
        image[mask] = self.second.image[mask]
        return sample.with_(image=image, labels=Labels.concatenate([sample.labels, guests]))


@dataclass(frozen=True, slots=True)
class PasteMirrored:
    """Objects of a scene pasted a second time, mirrored left to right. objects: (M,) int."""

    objects: Array
    flip_idx: tuple[int, ...] | None = None

    def __call__(self, scene: Scene) -> Scene:
        guests = FlipLeftRight(scene.width, self.flip_idx).labels(scene.labels).select(self.objects)
        return scene.with_pasted(outlines(guests), guests)


@dataclass(frozen=True, slots=True)
class RandomCopyPaste:
    """Paste objects where they hide little: each may cover less than `most_covered` of any object that is there.

    Objects without a drawn outline are pasted as the pixels of their box.

    Attributes:
        probability: in mode "flip" the share of the possible objects that is pasted, in mode "mixup" also the
            probability that anything is.
        mode: "flip" takes them from the mirrored scene, "mixup" from a second image.

    Source: Ghiasi et al., Simple Copy-Paste, arXiv:2012.07177.
    """

    probability: float = 0.0
    mode: str = "flip"
    flip_idx: tuple[int, ...] | None = None
    most_covered: float = 0.3

    def decide_mirrored(self, scene: Scene) -> PasteMirrored | None:
        """Mode "flip", before the affine step. Nothing is left to chance here."""
        if self.mode != "flip" or not self.probability:
            return None
        mirrored = FlipLeftRight(scene.width).boxes(scene.labels.boxes)
        objects = self._choose(scene.labels.boxes, mirrored)
        return PasteMirrored(objects, self.flip_idx) if len(objects) else None

    def decide(self, sample: Sample, rng: np.random.Generator, *, second: Second) -> Paste | None:
        """Mode "mixup", after the affine step."""
        if self.mode != "mixup" or rng.random() >= self.probability:
            return None
        other = second()
        objects = self._choose(sample.boxes, other.boxes)
        return Paste(other, objects) if len(objects) else None

    def _choose(self, there: Array, candidates: Array) -> Array:
        """(N, 4) and (M, 4) xyxy → which candidates to paste, those that cover least first."""
        if not len(candidates):
            return np.zeros(0, np.int64)
        most = _covered(there, candidates).max(axis=1, initial=0.0)  # (M,)
        order = np.argsort(most, kind="stable")
        possible = order[most[order] < self.most_covered]
        return possible[: round(self.probability * len(possible))]


def _covered(boxes: Array, covers: Array) -> Array:
    """(N, 4) and (M, 4) xyxy → (M, N) share of each box that each cover hides."""
    if not len(boxes) or not len(covers):
        return np.zeros((len(covers), len(boxes)), np.float32)
    shares = pairwise_ioa(torch.from_numpy(covers.astype(np.float32)), torch.from_numpy(boxes.astype(np.float32)))
    return shares.numpy()


def _random_rect(height: int, width: int, rng: np.random.Generator) -> Array:
    """(4,) float32 xyxy, whole pixels: an even share of the image, anywhere, cut at the border."""
    side = np.sqrt(1 - rng.beta(1, 1))
    half_width, half_height = int(width * side) // 2, int(height * side) // 2
    x, y = int(rng.integers(width)), int(rng.integers(height))
    corners = (x - half_width, y - half_height, x + half_width, y + half_height)
    return np.array(corners, np.float32).clip(0, [width, height, width, height]).astype(np.float32)
