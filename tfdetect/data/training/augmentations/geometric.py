"""Augmentations that flip, turn and scale an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from yacs.config import CfgNode

from tfdetect.data.training.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    Shaped,
    is_number,
    is_range,
    require,
)
from tfdetect.data.training.transforms import (
    HFlipTransform,
    ImageTransform,
    NoOpTransform,
    VFlipTransform,
)
from tfdetect.data.training.warp_transforms import ExtentTransform, RotationTransform
from tfdetect.errors import InputError

_INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


@AUGMENTATIONS.register()
class RandomFlip(Augmentation):
    """Flip an image at random (Detectron2's class of this name).

    Args:
        prob: the probability.
        horizontal: left and right.
        vertical: upside down; one of the two is true.
    """

    def __init__(self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False):
        super().__init__()
        require(is_number(prob) and 0 <= prob <= 1, "prob", prob, "a number from 0 to 1")
        require(type(horizontal) is bool, "horizontal", horizontal, "True or False")
        expected = f"True or False, not the value of horizontal ({horizontal})"
        require(
            vertical is not horizontal and type(vertical) is bool, "vertical", vertical, expected
        )
        self.prob = prob
        self.horizontal = horizontal

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RandomFlip:
        """Of INPUT.RANDOM_FLIP."""
        direction = cfg.INPUT.RANDOM_FLIP
        if direction not in ("horizontal", "vertical"):
            raise InputError(
                f"INPUT.RANDOM_FLIP: {direction!r} cannot be used, give horizontal or vertical (or"
                " none, without RandomFlip in INPUT.AUGMENTATIONS)"
            )
        return cls(horizontal=direction == "horizontal", vertical=direction == "vertical")

    def get_transform(self, image: Shaped) -> ImageTransform:
        size = image.shape[:2]
        if self.rng.random_sample() >= self.prob:
            return NoOpTransform(*size)
        return (HFlipTransform if self.horizontal else VFlipTransform)(*size)


@AUGMENTATIONS.register()
class RandomRotation(Augmentation):
    """Turn an image by a random angle (Detectron2's class of this name).

    Args:
        angle: in degrees, counter-clockwise. For "range" between the two numbers (one number for
            that alone), for "choice" one of them.
        expand: whether the image grows, so that all of it stays inside.
        center: what stays where it is, as shares of width and height: for "range" [least, largest]
            pairs of (x, y), or one pair; for "choice" any of several. None for the image's centre.
            Without effect with `expand`.
        sample_style: "range" or "choice".
        interp: nearest, bilinear, bicubic or lanczos (OpenCV's).
    """

    def __init__(
        self,
        angle: float | Sequence[float],
        expand: bool = True,
        center: Sequence[Any] | None = None,
        sample_style: str = "range",
        interp: str = "bilinear",
    ):
        super().__init__()
        valid = sample_style in ("range", "choice")
        require(valid, "sample_style", sample_style, "range or choice")
        angles: Any = (angle, angle) if is_number(angle) else angle
        if sample_style == "range":
            valid = _is_pair(angles)
        else:
            valid = isinstance(angles, (list, tuple)) and len(angles) > 0
        valid = valid and all(map(is_number, angles))
        expected = "the least and the largest angle" if sample_style == "range" else "angles"
        require(valid, "angle", angle, f"{expected}, in degrees")
        require(type(expand) is bool, "expand", expand, "True or False")
        if center is not None:
            centers = (center, center) if _is_pair(center) and is_number(center[0]) else center
            valid = isinstance(centers, (list, tuple)) and len(centers) > 0
            valid = valid and all(_is_pair(c) and all(map(is_number, c)) for c in centers)
            valid = valid and (sample_style == "choice" or len(centers) == 2)
            require(valid, "center", center, "pairs of x and y, as shares of width and height")
            center = centers
        valid = interp in _INTERPOLATIONS
        require(valid, "interp", interp, f"one of {', '.join(_INTERPOLATIONS)}")
        self.angle = angles
        self.expand = expand
        self.center = center
        self.is_range = sample_style == "range"
        self._interpolation = _INTERPOLATIONS[interp]

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        center: Any = None
        if self.is_range:
            angle = self.rng.uniform(*self.angle)
            if self.center is not None:
                low, high = self.center
                center = self.rng.uniform(low[0], high[0]), self.rng.uniform(low[1], high[1])
        else:
            angle = float(self.rng.choice(self.angle))
            if self.center is not None:  # at which Detectron2 fails
                center = self.center[self.rng.randint(len(self.center))]
        if angle % 360 == 0:
            return NoOpTransform(height, width)
        if center is not None:
            center = width * center[0], height * center[1]
        return RotationTransform(height, width, angle, self.expand, center, self._interpolation)


@AUGMENTATIONS.register()
class RandomExtent(Augmentation):
    """Cut out a rectangle of the image's shape, of random size and at a random place.

    It may reach beyond the image, where it is black. The image after has the rectangle's size.

    Args:
        scale_range: the least and the largest size, as a share of the image's.
        shift_range: how far its centre moves at most, in halves of width and of height.

    Detectron2's class of this name.
    """

    def __init__(self, scale_range: Sequence[float], shift_range: Sequence[float]):
        super().__init__()
        valid = is_range(scale_range) and scale_range[0] > 0
        expected = "the least and the largest scale, above 0"
        require(valid, "scale_range", scale_range, expected)
        valid = _is_pair(shift_range) and all(map(is_number, shift_range))
        require(valid, "shift_range", shift_range, "two numbers, for x and y")
        self.scale_range = tuple(scale_range)
        self.shift_range = tuple(shift_range)

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        rectangle = np.array([-0.5 * width, -0.5 * height, 0.5 * width, 0.5 * height])
        rectangle *= self.rng.uniform(*self.scale_range)
        rectangle[0::2] += self.shift_range[0] * width * (self.rng.random_sample() - 0.5)
        rectangle[1::2] += self.shift_range[1] * height * (self.rng.random_sample() - 0.5)
        rectangle[0::2] += 0.5 * width
        rectangle[1::2] += 0.5 * height
        x1, y1, x2, y2 = rectangle.tolist()
        # At least a pixel: of a rectangle of less, Detectron2 makes an empty image.
        return ExtentTransform((x1, y1, x2, y2), max(int(y2 - y1), 1), max(int(x2 - x1), 1))


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2
