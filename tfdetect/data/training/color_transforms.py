"""Transforms of colours, which leave everything but the image's pixels as it is.

Each is fvcore's `BlendTransform` with the image that Detectron2's augmentation blends with, in its
arithmetic (which NumPy 2 does, and 1 is told to do): the image times a weight in float32, the rest
in float64, cut to 0..255 and rounded towards 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfdetect.data.training.transforms import NoOpTransform


class ColorTransform(NoOpTransform):
    """A transform of an image's pixels alone."""

    def apply_segmentation(self, labels: np.ndarray) -> np.ndarray:
        return labels


@dataclass(frozen=True, repr=False)
class ContrastTransform(ColorTransform):
    """Blend with the image's mean: `weight` above 1 is more contrast, below 1 less."""

    weight: float

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return _to_uint8(_weighted(image, self.weight) + (1 - self.weight) * np.mean(image))


@dataclass(frozen=True, repr=False)
class BrightnessTransform(ColorTransform):
    """Blend with black: `weight` above 1 is brighter, below 1 darker."""

    weight: float

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return _to_uint8(_weighted(image, self.weight))


@dataclass(frozen=True, repr=False)
class SaturationTransform(ColorTransform):
    """Blend with the grey image, whose channels are taken for red, green and blue.

    As in Detectron2, also for an image in the order BGR (INPUT.FORMAT).
    """

    weight: float

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        grey = image.dot([0.299, 0.587, 0.114])[:, :, np.newaxis]
        return _to_uint8(_weighted(image, self.weight) + (1 - self.weight) * grey)


@dataclass(frozen=True, repr=False)
class LightingTransform(ColorTransform):
    """Add `shift`, a number for each channel."""

    shift: tuple[float, float, float]

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return _to_uint8(_weighted(image, 1.0) + np.array(self.shift))


def _weighted(image: np.ndarray, weight: float) -> np.ndarray:
    """float64 [H, W, 3], rounded to float32."""
    return (np.float32(weight) * image.astype(np.float32)).astype(np.float64)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255).astype(np.uint8)
