"""The colour augmentation of SSD (Liu et al., 2016), which PointRend has for semantic models."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from yacs.config import CfgNode

from tfdetect.data.training.augmentation import AUGMENTATIONS, Augmentation, Shaped, require
from tfdetect.data.training.color_transforms import ColorTransform
from tfdetect.data.training.transforms import ImageTransform

_BRIGHTNESS = 32
_FACTORS = (0.5, 1.5)  # of contrast and of saturation
_HUE = 18  # of OpenCV's 180


@dataclass(frozen=True, repr=False)
class SSDColorTransform(ColorTransform):
    """Colours changed step by step, each rounded towards 0 to uint8.

    Attributes:
        steps: pairs of "brightness" (added), "contrast" (a factor), "saturation" (a factor) or
            "hue" (added, of 180) and a number, in order.
        is_rgb: whether the image is RGB; else it is BGR.
    """

    steps: tuple[tuple[str, float], ...]
    is_rgb: bool

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        bgr = image[:, :, ::-1] if self.is_rgb else image
        for kind, value in self.steps:
            bgr = self._apply(kind, value, bgr)
        return np.ascontiguousarray(bgr[:, :, ::-1]) if self.is_rgb else bgr

    @staticmethod
    def _apply(kind: str, value: float, bgr: np.ndarray) -> np.ndarray:
        if kind == "brightness":
            return _convert(bgr, 1, value)
        if kind == "contrast":
            return _convert(bgr, value, 0)
        hsv = cv2.cvtColor(np.ascontiguousarray(bgr), cv2.COLOR_BGR2HSV)
        if kind == "saturation":
            hsv[:, :, 1] = _convert(hsv[:, :, 1], value, 0)
        else:
            hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + int(value)) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


@AUGMENTATIONS.register()
class ColorAugSSD(Augmentation):
    """Random brightness, contrast, saturation and hue, each in every second image.

    Contrast comes before saturation and hue, or after them.

    Args:
        img_format: "BGR" or "RGB", the order of the image's channels.

    Detectron2: `ColorAugSSDTransform` of projects/PointRend, with the same distributions.
    """

    def __init__(self, img_format: str):
        super().__init__()
        require(img_format in ("BGR", "RGB"), "img_format", img_format, "BGR or RGB")
        self.img_format = img_format

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ColorAugSSD:
        """Of INPUT.FORMAT."""
        return cls(cfg.INPUT.FORMAT)

    def get_transform(self, image: Shaped) -> ImageTransform:
        steps: list[tuple[str, float]] = []

        def maybe(kind: str, low: float, high: float) -> None:
            if self.rng.randint(2):
                steps.append((kind, self.rng.uniform(low, high)))

        maybe("brightness", -_BRIGHTNESS, _BRIGHTNESS)
        contrast_first = bool(self.rng.randint(2))
        if contrast_first:
            maybe("contrast", *_FACTORS)
        maybe("saturation", *_FACTORS)
        if self.rng.randint(2):
            steps.append(("hue", int(self.rng.randint(-_HUE, _HUE + 1))))
        if not contrast_first:
            maybe("contrast", *_FACTORS)
        return SSDColorTransform(*image.shape[:2], tuple(steps), self.img_format == "RGB")


def _convert(image: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    scaled = image.astype(np.float32) * np.float32(alpha) + np.float32(beta)
    return np.clip(scaled, 0, 255).astype(np.uint8)
