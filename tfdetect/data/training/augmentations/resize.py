"""Augmentations that resize an image."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from PIL import Image
from yacs.config import CfgNode

from tfdetect.data.training.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    Shaped,
    as_pair,
    is_number,
    is_range,
    is_size,
    jitter_size,
    of_keys,
    require,
)
from tfdetect.data.training.transforms import ImageTransform, NoOpTransform, ResizeTransform
from tfdetect.errors import InputError

_FILTERS = {found.name.lower(): found for found in Image.Resampling}
_SAMPLE_STYLES = ("choice", "range")


def _filter(interp: str) -> Image.Resampling:
    require(interp in _FILTERS, "interp", interp, f"one of {', '.join(_FILTERS)}")
    return _FILTERS[interp]


@AUGMENTATIONS.register()
class Resize(Augmentation):
    """Resize to a fixed size.

    Args:
        shape: height and width in pixels; one number for both.
        interp: the name of Pillow's filter.

    Detectron2's class of this name.
    """

    def __init__(self, shape: int | Sequence[int], interp: str = "bilinear"):
        super().__init__()
        size = as_pair(shape)
        require(is_size(size), "shape", shape, "a height and a width in pixels")
        self.shape = tuple(size)
        self._resample = _filter(interp)

    def get_transform(self, image: Shaped) -> ImageTransform:
        return ResizeTransform(*image.shape[:2], *self.shape, self._resample)


@AUGMENTATIONS.register()
class RandomResize(Augmentation):
    """Resize to one of several sizes.

    Args:
        shape_list: heights and widths in pixels.
        interp: the name of Pillow's filter.

    Detectron2's class of this name.
    """

    def __init__(self, shape_list: Sequence[Sequence[int]], interp: str = "bilinear"):
        super().__init__()
        valid = isinstance(shape_list, (list, tuple)) and all(map(is_size, shape_list))
        valid = valid and len(shape_list) > 0
        require(valid, "shape_list", shape_list, "pairs of a height and a width in pixels")
        self.shape_list = [tuple(shape) for shape in shape_list]
        self._resample = _filter(interp)

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = self.shape_list[self.rng.randint(len(self.shape_list))]
        return ResizeTransform(*image.shape[:2], height, width, self._resample)


@AUGMENTATIONS.register()
class ResizeShortestEdge(Augmentation):
    """Resize so that the shorter edge has a random length, and the longer one not too long.

    Args:
        short_edge_length: in pixels. For "choice" any of them, for "range" any integer between the
            two; one number for that alone. 0 leaves an image as it is.
        max_size: the longer edge is at most this, at the shorter one's expense.
        sample_style: "choice" or "range".
        interp: the name of Pillow's filter.

    Detectron2's class of this name, with the size rule of `tfdetect.ops.resize.shortest_edge_size`.
    """

    def __init__(
        self,
        short_edge_length: int | Sequence[int],
        max_size: int = sys.maxsize,
        sample_style: str = "range",
        interp: str = "bilinear",
    ):
        super().__init__()
        lengths = as_pair(short_edge_length)
        valid = sample_style in _SAMPLE_STYLES
        require(valid, "sample_style", sample_style, f"one of {_SAMPLE_STYLES}")
        valid = isinstance(lengths, (list, tuple)) and len(lengths) > 0
        valid = valid and all(type(length) is int and length >= 0 for length in lengths)
        require(valid, "short_edge_length", short_edge_length, "lengths in pixels")
        if sample_style == "range":
            expected = "the least and the largest length, in this order"
            require(is_range(lengths), "short_edge_length", short_edge_length, expected)
        require(is_number(max_size) and max_size > 0, "max_size", max_size, "a positive size")
        self.short_edge_length = tuple(lengths)
        self.max_size = max_size
        self.sample_style = sample_style
        self._resample = _filter(interp)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ResizeShortestEdge:
        """Of INPUT.MIN_SIZE_TRAIN, MAX_SIZE_TRAIN and MIN_SIZE_TRAIN_SAMPLING."""
        return of_keys(
            cls,
            cfg,
            short_edge_length="INPUT.MIN_SIZE_TRAIN",
            max_size="INPUT.MAX_SIZE_TRAIN",
            sample_style="INPUT.MIN_SIZE_TRAIN_SAMPLING",
        )

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        if self.sample_style == "range":
            first, last = self.short_edge_length
            length = int(self.rng.randint(first, last + 1))
        else:
            length = int(self.rng.choice(self.short_edge_length))
        if length == 0:
            return NoOpTransform(height, width)
        size = shortest_edge_size(height, width, length, self.max_size)
        return ResizeTransform(height, width, *size, self._resample)


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
class ResizeScale(Augmentation):
    """Resize so that the image just fits into a rectangle of random size (large-scale jitter).

    Args:
        min_scale, max_scale: the least and the largest random scale.
        target_height, target_width: of the rectangle at scale 1, in pixels.
        interp: the name of Pillow's filter.

    Detectron2's class of this name.
    """

    def __init__(
        self,
        min_scale: float,
        max_scale: float,
        target_height: int,
        target_width: int,
        interp: str = "bilinear",
    ):
        super().__init__()
        valid = is_range((min_scale, max_scale)) and max_scale > 0 and min_scale >= 0
        expected = f"a number from 0 to max_scale {max_scale!r}, which is above 0"
        require(valid, "min_scale", min_scale, expected)
        for name, value in (("target_height", target_height), ("target_width", target_width)):
            require(is_number(value) and value > 0, name, value, "a positive size")
        self.scale = min_scale, max_scale
        self.target_height, self.target_width = target_height, target_width
        self._resample = _filter(interp)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ResizeScale:
        """Of INPUT.LARGE_SCALE_JITTER."""
        keys = cfg.INPUT.LARGE_SCALE_JITTER
        if not (is_range(keys.SCALE) and keys.SCALE[0] >= 0 and keys.SCALE[1] > 0):
            raise InputError(
                f"INPUT.LARGE_SCALE_JITTER.SCALE: {keys.SCALE!r} cannot be used, give the least and"
                " the largest value, in this order"
            )
        least, most = keys.SCALE
        return cls(least, most, *jitter_size(cfg))

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        scale = self.rng.uniform(*self.scale)
        factor = min(self.target_height * scale / height, self.target_width * scale / width)
        # Halves go to the even number, as np.round has it in Detectron2. At least a pixel, where
        # Detectron2 fails.
        new_height, new_width = (max(round(edge * factor), 1) for edge in (height, width))
        return ResizeTransform(height, width, new_height, new_width, self._resample)
