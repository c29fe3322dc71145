"""From an image number to a finished sample: the order of all transforms, for training and for validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sightline.data.transforms.affine import RandomAffine
from sightline.data.transforms.channels import RandomSwapRedBlue
from sightline.data.transforms.colour import RandomHSV
from sightline.data.transforms.flip import RandomFlipLeftRight, RandomFlipUpDown
from sightline.data.transforms.guests import EVEN, Guests
from sightline.data.transforms.letterbox import letterbox
from sightline.data.transforms.mixing import RandomCopyPaste, RandomCutMix, RandomMixUp
from sightline.data.transforms.mosaic import RandomMosaic
from sightline.data.transforms.scene import Scene
from sightline.data.transforms.user import UserAugmentations
from sightline.structures.sample import Sample

if TYPE_CHECKING:
    from sightline.config.settings import Settings


class Source(Protocol):
    """Where images come from: `len`, and image `i` at its working size with its objects in pixels."""

    def __len__(self) -> int: ...

    def load(self, i: int) -> Sample: ...


class Pipeline(Protocol):
    def __call__(
        self, index: int, source: Source, rng: np.random.Generator, *, size_hw: tuple[int, int], mixing: bool = True
    ) -> Sample:
        """Image `index` as the network sees it, (height, width) = size_hw.

        Args:
            rng: belongs to this sample; everything random comes from it.
            mixing: whether other images may come in (off in the last epochs, see close_mosaic).
        """
        ...

    def changed(self, values: Mapping[str, float]) -> Pipeline:
        """The same with other numbers: all of `config.stages.AUGMENTATIONS`, by the names of their settings."""
        ...


@dataclass(frozen=True, slots=True)
class ValidationPipeline:
    """Letterbox, nothing random."""

    def __call__(
        self, index: int, source: Source, rng: np.random.Generator, *, size_hw: tuple[int, int], mixing: bool = True
    ) -> Sample:
        return letterbox(source.load(index), size_hw)

    def changed(self, values: Mapping[str, float]) -> ValidationPipeline:
        return self


@dataclass(frozen=True, slots=True)
class TrainingPipeline:
    """In this order: mosaic, copy-paste of mirrored objects, affine, copy-paste from a second image · MixUp · CutMix ·
    the user's own · colour · flips · channel order.

    A second image goes through mosaic and affine itself (and for MixUp and CutMix through copy-paste).
    """

    mosaic: RandomMosaic
    affine: RandomAffine = field(default_factory=RandomAffine)
    copy_paste: RandomCopyPaste = field(default_factory=RandomCopyPaste)
    mixup: RandomMixUp = field(default_factory=RandomMixUp)
    cutmix: RandomCutMix = field(default_factory=RandomCutMix)
    user: UserAugmentations = field(default_factory=UserAugmentations)
    colour: RandomHSV = field(default_factory=RandomHSV)
    flip_up_down: RandomFlipUpDown = field(default_factory=RandomFlipUpDown)
    flip_left_right: RandomFlipLeftRight = field(default_factory=RandomFlipLeftRight)
    channels: RandomSwapRedBlue = field(default_factory=RandomSwapRedBlue)
    guests: Guests = EVEN
    combines: bool = True  # whether images may be combined at all

    def changed(self, values: Mapping[str, float]) -> TrainingPipeline:
        on = 1.0 if self.combines else 0.0
        return replace(
            self,
            mosaic=replace(self.mosaic, probability=on * values["mosaic"] * values["mosaic_prob"]),
            affine=replace(self.affine, degrees=values["degrees"], translate=values["translate"]),
            copy_paste=replace(self.copy_paste, probability=on * values["copy_paste"]),
            mixup=replace(self.mixup, probability=on * values["mixup"]),
        )

    def __call__(
        self, index: int, source: Source, rng: np.random.Generator, *, size_hw: tuple[int, int], mixing: bool = True
    ) -> Sample:
        prepare = _Preparation(self, source, rng, size_hw, mixing)
        sample = prepare(index)
        if mixing:
            for mix in (self.mixup, self.cutmix):
                combine = mix.decide(sample, rng, second=prepare.another)
                sample = combine(sample) if combine else sample
        sample = self.user(sample, rng)
        for choice in (self.colour, self.flip_up_down, self.flip_left_right, self.channels):
            transform = choice.decide(sample, rng)
            sample = transform(sample) if transform else sample
        return sample


@dataclass(frozen=True, slots=True)
class _Preparation:
    """The part of the chain that a second image goes through as well."""

    steps: TrainingPipeline
    source: Source
    rng: np.random.Generator
    size_hw: tuple[int, int]
    mixing: bool

    def __call__(self, index: int) -> Sample:
        sample = self.framed(index)
        if self.mixing:
            paste = self.steps.copy_paste.decide(sample, self.rng, second=lambda: self.framed(self.any_index()))
            sample = paste(sample) if paste else sample
        return sample

    def another(self) -> Sample:
        return self(self.any_index())

    def any_index(self) -> int:
        return self.steps.guests.draw(self.rng, images=len(self.source), number=1)[0]

    def framed(self, index: int) -> Sample:
        """Image or mosaic, seen through the affine step."""
        scene = self.scene(index)
        affine = self.steps.affine.decide(scene, self.rng, size_wh=(self.size_hw[1], self.size_hw[0]))
        return affine.show(scene)

    def scene(self, index: int) -> Scene:
        sample = self.source.load(index)
        if not self.mixing:
            return Scene.of(sample)
        mosaic = self.steps.mosaic.decide(sample, self.rng, count=len(self.source), guests=self.steps.guests)
        scene = mosaic.arrange([sample, *map(self.source.load, mosaic.guests)]) if mosaic else Scene.of(sample)
        mirrored = self.steps.copy_paste.decide_mirrored(scene)
        return mirrored(scene) if mirrored else scene


def build_pipeline(
    settings: Settings,
    imgsz: int,
    mode: str,
    *,
    mixing: bool = True,
    flip_idx: tuple[int, ...] | None = None,
    guests: Guests = EVEN,
) -> TrainingPipeline | ValidationPipeline:
    """The transforms that the settings ask for.

    Args:
        imgsz: long side of the images as they are loaded, pixels.
        mode: "train" or "val".
        mixing: False leaves out everything that combines images (rectangular training).
        flip_idx: order of the keypoints in a mirrored image.
    """
    if mode != "train":
        return ValidationPipeline()
    s = settings
    on = 1.0 if mixing else 0.0
    scale = (float(s.scale[0]), float(s.scale[1])) if isinstance(s.scale, list) else float(s.scale)
    return TrainingPipeline(
        mosaic=RandomMosaic(imgsz, tiles=s.mosaic_tiles, probability=on * s.mosaic * s.mosaic_prob),
        affine=RandomAffine(s.degrees, s.translate, scale, s.shear, s.perspective),
        copy_paste=RandomCopyPaste(on * s.copy_paste, s.copy_paste_mode, flip_idx),
        mixup=RandomMixUp(on * s.mixup),
        cutmix=RandomCutMix(on * s.cutmix),
        user=UserAugmentations.of(s.augmentations),
        colour=RandomHSV(s.hsv_h, s.hsv_s, s.hsv_v),
        flip_up_down=RandomFlipUpDown(s.flipud, flip_idx),
        flip_left_right=RandomFlipLeftRight(s.fliplr, flip_idx),
        channels=RandomSwapRedBlue(s.bgr),
        guests=guests,
        combines=mixing,
    )
