"""Random augmentations: tensorpack augmentors with Detectron2's distributions and geometry.

What an augmentor draws depends on the size of the image and on its `rng` only, never on pixels: so
the size of a sample after augmentation is known before anything is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from yacs.config import CfgNode

from tfdetect.data.training.tensorpack_dataflow import ImageAugmentor
from tfdetect.data.training.transforms import (
    CropTransform,
    HFlipTransform,
    ImageTransform,
    NoOpTransform,
    PadTransform,
    ResizeTransform,
    VFlipTransform,
)
from tfdetect.errors import InputError
from tfdetect.registry import Registry

AUGMENTATIONS: Registry[Callable[[CfgNode], ImageAugmentor]] = Registry("augmentation")
"""Called with (cfg): an augmentor as those of this module are. INPUT.AUGMENTATIONS names them."""


class Shaped(Protocol):
    """An image, or whatever else has its shape [H, W, ...]."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class _Size(NamedTuple):
    shape: tuple[int, ...]


def draw_transforms(
    augmentors: Sequence[ImageAugmentor],
    image_size: tuple[int, int],
    random: np.random.RandomState,
) -> list[ImageTransform]:
    """Draw what happens to one image.

    Args:
        augmentors: of this module, in order.
        image_size: height and width in pixels.
        random: what the drawing depends on, besides the size.

    Returns:
        A transform of each augmentor, to be applied in order.
    """
    transforms = []
    for augmentor in augmentors:
        augmentor.rng = random
        transforms.append(augmentor.get_transform(_Size(image_size)))
        image_size = transforms[-1].output_size
    return transforms


@AUGMENTATIONS.register()
class ResizeShortestEdge(ImageAugmentor):
    """Resize so that the shorter edge has a random length, and the longer one not too long.

    Args:
        lengths: in pixels. For "choice" any of them, for "range" any integer between the two.
        max_size: the longer edge is at most this, at the shorter one's expense.
        sample_style: "choice" or "range".

    Detectron2's class of this name, with the size rule of `tfdetect.ops.resize.shortest_edge_size`.
    """

    def __init__(self, lengths: Sequence[int], max_size: int, sample_style: str):
        super().__init__()
        self.lengths = tuple(lengths)
        self.max_size = max_size
        self.sample_style = sample_style

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ResizeShortestEdge:
        """Of INPUT.MIN_SIZE_TRAIN, MAX_SIZE_TRAIN and MIN_SIZE_TRAIN_SAMPLING."""
        keys = cfg.INPUT
        lengths, style = tuple(keys.MIN_SIZE_TRAIN), keys.MIN_SIZE_TRAIN_SAMPLING
        styles, longest = ("choice", "range"), keys.MAX_SIZE_TRAIN
        _check("INPUT.MIN_SIZE_TRAIN_SAMPLING", style, style in styles, f"one of {styles}")
        if style == "range":
            _check_range("INPUT.MIN_SIZE_TRAIN", lengths)
        valid = bool(lengths) and all(isinstance(x, int) and x >= 0 for x in lengths)
        _check("INPUT.MIN_SIZE_TRAIN", lengths, valid, "lengths in pixels")
        _check("INPUT.MAX_SIZE_TRAIN", longest, longest > 0, "a positive size")
        return cls(lengths, longest, style)

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        if self.sample_style == "range":
            length = int(self.rng.randint(self.lengths[0], self.lengths[1] + 1))
        else:
            length = int(self.rng.choice(self.lengths))
        if length == 0:
            return NoOpTransform(height, width)
        return ResizeTransform(
            height, width, *shortest_edge_size(height, width, length, self.max_size)
        )


def shortest_edge_size(height: int, width: int, length: int, max_size: int) -> tuple[int, int]:
    """The size that `tfdetect.ops.resize.shortest_edge_size` gives, without TensorFlow."""
    scale = length / min(height, width)
    # The shorter edge is set, not multiplied: short * (length / short) need not be `length`.
    new_height, new_width = (
        (float(length), scale * width) if height < width else (scale * height, float(length))
    )
    longest = max(new_height, new_width)
    if longest > max_size:
        shrink = max_size / longest
        new_height, new_width = new_height * shrink, new_width * shrink
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


@AUGMENTATIONS.register()
class RandomFlip(ImageAugmentor):
    """Flip each image with probability 0.5, "horizontal" or "vertical" (Detectron2's class of this
    name)."""

    def __init__(self, direction: str):
        super().__init__()
        self.direction = direction

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RandomFlip:
        """Of INPUT.RANDOM_FLIP."""
        direction = cfg.INPUT.RANDOM_FLIP
        expected = "horizontal or vertical (or none, without RandomFlip in INPUT.AUGMENTATIONS)"
        valid = direction in ("horizontal", "vertical")
        _check("INPUT.RANDOM_FLIP", direction, valid, expected)
        return cls(direction)

    def get_transform(self, image: Shaped) -> ImageTransform:
        size = image.shape[:2]
        if self.rng.random_sample() >= 0.5:
            return NoOpTransform(*size)
        return (HFlipTransform if self.direction == "horizontal" else VFlipTransform)(*size)


@AUGMENTATIONS.register()
class RandomCrop(ImageAugmentor):
    """Cut a rectangle out at random (Detectron2's class of this name).

    Args:
        crop_type: "relative", the rectangle has `crop_size` (height, width) of the image's;
            "relative_range", each between `crop_size` and 1; "absolute", `crop_size` in pixels or
            the image's if that is less; "absolute_range", height and width each between the two
            numbers of pixels in `crop_size`, as far as the image goes.
        crop_size: see above.
    """

    cuts_objects = True

    def __init__(self, crop_type: str, crop_size: Sequence[float]):
        super().__init__()
        self.crop_type = crop_type
        self.crop_size = tuple(crop_size)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RandomCrop:
        """Of INPUT.CROP."""
        keys = cfg.INPUT.CROP
        types = ("relative", "relative_range", "absolute", "absolute_range")
        _check("INPUT.CROP.TYPE", keys.TYPE, keys.TYPE in types, f"one of {types}")
        valid = len(keys.SIZE) == 2 and min(keys.SIZE) > 0
        if keys.TYPE.startswith("relative"):
            valid = valid and max(keys.SIZE) <= 1
        _check("INPUT.CROP.SIZE", keys.SIZE, valid, "two sizes, of (0, 1] if relative")
        if keys.TYPE == "absolute_range":
            _check_range("INPUT.CROP.SIZE", keys.SIZE)
        return cls(keys.TYPE, keys.SIZE)

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        crop_height, crop_width = self._draw_size(height, width)
        y0 = int(self.rng.randint(height - crop_height + 1))
        x0 = int(self.rng.randint(width - crop_width + 1))
        return CropTransform(x0, y0, crop_height, crop_width, height, width)

    def _draw_size(self, height: int, width: int) -> tuple[int, int]:
        first, second = self.crop_size
        if self.crop_type == "absolute":
            return min(int(first), height), min(int(second), width)
        if self.crop_type == "absolute_range":
            sides = [
                int(self.rng.randint(min(side, int(first)), min(side, int(second)) + 1))
                for side in (height, width)
            ]
            return sides[0], sides[1]
        share = np.array(self.crop_size, np.float32 if self.crop_type == "relative_range" else None)
        if self.crop_type == "relative_range":
            share = share + self.rng.random_sample(2) * (1 - share)
        # At least a pixel: of a share that rounds to none, Detectron2 makes an empty image.
        return max(int(height * share[0] + 0.5), 1), max(int(width * share[1] + 0.5), 1)


@AUGMENTATIONS.register()
class ResizeScale(ImageAugmentor):
    """Resize so that the image just fits into a square of random size (large-scale jitter).

    Args:
        scale: the least and the largest random scale.
        size: side of the square at scale 1, in pixels.

    Detectron2's class of this name.
    """

    def __init__(self, scale: Sequence[float], size: int):
        super().__init__()
        self.scale = tuple(scale)
        self.size = size

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ResizeScale:
        """Of INPUT.LARGE_SCALE_JITTER."""
        scale = cfg.INPUT.LARGE_SCALE_JITTER.SCALE
        _check_range("INPUT.LARGE_SCALE_JITTER.SCALE", scale)
        return cls(scale, _jitter_size(cfg))

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        side = self.size * self.rng.uniform(*self.scale)
        factor = min(side / height, side / width)
        # Halves go to the even number, as np.round has it in Detectron2. At least a pixel, where
        # Detectron2 fails.
        new_height, new_width = (max(round(edge * factor), 1) for edge in (height, width))
        return ResizeTransform(height, width, new_height, new_width)


@AUGMENTATIONS.register()
class FixedSizeCrop(ImageAugmentor):
    """Cut a square out of what is larger than it, somewhere along the diagonal.

    Both offsets come from one random number, as in Detectron2's class of this name, whose padding
    is `PadToSquare`.
    """

    cuts_objects = True

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    @classmethod
    def from_config(cls, cfg: CfgNode) -> FixedSizeCrop:
        """Of INPUT.LARGE_SCALE_JITTER."""
        return cls(_jitter_size(cfg))

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        share = self.rng.uniform(0.0, 1.0)
        y0, x0 = (round(max(edge - self.size, 0) * share) for edge in (height, width))
        return CropTransform(x0, y0, self.size, self.size, height, width)


@AUGMENTATIONS.register()
class PadToSquare(ImageAugmentor):
    """Pad what is smaller than a square, at the right and the bottom, with grey."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    @classmethod
    def from_config(cls, cfg: CfgNode) -> PadToSquare:
        """Of INPUT.LARGE_SCALE_JITTER."""
        return cls(_jitter_size(cfg))

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        return PadTransform(max(height, self.size), max(width, self.size), value=128)


def build_augmentation(cfg: CfgNode) -> list[ImageAugmentor]:
    """The augmentation for training: what INPUT.AUGMENTATIONS names, each of `AUGMENTATIONS`.

    Where it names nothing, Detectron2's `DatasetMapper.from_config`: RandomCrop if
    INPUT.CROP.ENABLED, ResizeShortestEdge, RandomFlip unless it is "none"; or with
    INPUT.LARGE_SCALE_JITTER that of its new_baselines.

    Raises:
        InputError: a value of INPUT cannot be used.
    """
    names = list(cfg.INPUT.AUGMENTATIONS) or _detectron2_augmentation(cfg)
    return [AUGMENTATIONS.build("INPUT.AUGMENTATIONS", name, cfg) for name in names]


def _detectron2_augmentation(cfg: CfgNode) -> list[str]:
    keys = cfg.INPUT
    if keys.LARGE_SCALE_JITTER.ENABLED:
        names = ["ResizeScale", "FixedSizeCrop", "PadToSquare"]
    else:
        names = [*(["RandomCrop"] if keys.CROP.ENABLED else []), "ResizeShortestEdge"]
    return names if keys.RANDOM_FLIP == "none" else [*names, "RandomFlip"]


def crops(augmentors: Sequence[ImageAugmentor]) -> bool:
    """Whether any of them cuts parts of objects off, which it says by a true `cuts_objects`."""
    return any(getattr(augmentor, "cuts_objects", False) for augmentor in augmentors)


def _jitter_size(cfg: CfgNode) -> int:
    size = cfg.INPUT.LARGE_SCALE_JITTER.SIZE
    _check("INPUT.LARGE_SCALE_JITTER.SIZE", size, size > 0, "a positive size")
    return size


def _check_range(key: str, value: Sequence[float]) -> None:
    valid = len(value) == 2 and 0 <= value[0] <= value[1] and value[1] > 0
    _check(key, value, valid, "the least and the largest value, in this order")


def _check(key: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise InputError(f"{key}: {value!r} cannot be used, give {expected}")
