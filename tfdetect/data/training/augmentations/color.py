"""Augmentations that change an image's colours."""

from __future__ import annotations

import numpy as np

from tfdetect.data.training.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    Shaped,
    is_number,
    require,
)
from tfdetect.data.training.color_transforms import (
    BrightnessTransform,
    ContrastTransform,
    LightingTransform,
    SaturationTransform,
)
from tfdetect.data.training.transforms import ImageTransform

# Principal components of the colours of ImageNet, in RGB, in columns, and their standard deviations
# (AlexNet, section 4.1). As in Detectron2, they belong to levels of 0 to 1, and are added to levels
# of 0 to 255.
_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])


class _Intensity(Augmentation):
    """Draws a weight.

    Args:
        intensity_min, intensity_max: the least and the largest one; 1 changes nothing.
    """

    def __init__(self, intensity_min: float, intensity_max: float):
        super().__init__()
        for name, value in (("intensity_min", intensity_min), ("intensity_max", intensity_max)):
            require(is_number(value), name, value, "a number")
        expected = f"intensity_min {intensity_min} or more"
        require(intensity_min <= intensity_max, "intensity_max", intensity_max, expected)
        self.intensity = intensity_min, intensity_max


@AUGMENTATIONS.register()
class RandomContrast(_Intensity):
    """More or less contrast (Detectron2's class of this name)."""

    def get_transform(self, image: Shaped) -> ImageTransform:
        return ContrastTransform(*image.shape[:2], self.rng.uniform(*self.intensity))


@AUGMENTATIONS.register()
class RandomBrightness(_Intensity):
    """Brighter or darker (Detectron2's class of this name)."""

    def get_transform(self, image: Shaped) -> ImageTransform:
        return BrightnessTransform(*image.shape[:2], self.rng.uniform(*self.intensity))


@AUGMENTATIONS.register()
class RandomSaturation(_Intensity):
    """More or less colour (Detectron2's class of this name); see `SaturationTransform`."""

    def get_transform(self, image: Shaped) -> ImageTransform:
        return SaturationTransform(*image.shape[:2], self.rng.uniform(*self.intensity))


@AUGMENTATIONS.register()
class RandomLighting(Augmentation):
    """Shift the colours along the principal components of ImageNet's (AlexNet).

    Args:
        scale: the standard deviation of the shift, as a share of theirs.

    Detectron2's class of this name: the channels are taken for red, green and blue, also in an
    image in the order BGR (INPUT.FORMAT).
    """

    def __init__(self, scale: float):
        super().__init__()
        require(is_number(scale) and scale >= 0, "scale", scale, "0 or more")
        self.scale = scale

    def get_transform(self, image: Shaped) -> ImageTransform:
        weights = self.rng.normal(scale=self.scale, size=3)
        red, green, blue = _EIGENVECTORS.dot(weights * _EIGENVALUES).tolist()
        return LightingTransform(*image.shape[:2], (red, green, blue))
