"""Transforms that resample an image under a map that is not a whole number of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from tfdetect.data.training.transforms import ImageTransform
from tfdetect.errors import InputError

_LONGEST = 32767
"""What OpenCV warps: the sides of an image in pixels."""


@dataclass(frozen=True, repr=False)
class RotationTransform(ImageTransform):
    """Turn an image of `height` x `width` pixels counter-clockwise; what comes in is black.

    Semantic labels take the nearest pixel, and 0 comes in. A box becomes the one around its turned
    corners.

    Attributes:
        angle: in degrees.
        expand: whether the image grows, so that all of it stays inside.
        center: (x, y) that stays where it is, in pixels; None for the image's centre. With `expand`
            it has no effect.
        interpolation: OpenCV's.

    Detectron2's class of this name.
    """

    height: int
    width: int
    angle: float
    expand: bool = True
    center: tuple[float, float] | None = None
    interpolation: int = cv2.INTER_LINEAR

    @property
    def output_size(self) -> tuple[int, int]:
        if not self.expand:
            return self.height, self.width
        cos, sin = abs(np.cos(np.deg2rad(self.angle))), abs(np.sin(np.deg2rad(self.angle)))
        height = self.height * cos + self.width * sin
        width = self.height * sin + self.width * cos
        return int(np.rint(height)), int(np.rint(width))

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return self._warp(image, self.interpolation)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        matrix = self._matrix(0.0)
        return coords @ matrix[:, :2].T + matrix[:, 2]

    def apply_segmentation(self, labels: np.ndarray) -> np.ndarray:
        return self._warp(labels, cv2.INTER_NEAREST)

    def _warp(self, image: np.ndarray, interpolation: int) -> np.ndarray:
        height, width = self.output_size
        if max(height, width, self.height, self.width) > _LONGEST:
            raise InputError(
                f"INPUT.AUGMENTATIONS: an image of {self.width} x {self.height} pixels is too large"
                " to be rotated; resize it first"
            )
        # OpenCV's pixel (j, i) has its centre at (j, i), not at (j + 0.5, i + 0.5).
        matrix = self._matrix(-0.5)
        return cv2.warpAffine(
            np.ascontiguousarray(image), matrix, (width, height), flags=interpolation
        )

    def _matrix(self, offset: float) -> np.ndarray:
        """float64 [2, 3] that maps points, all shifted by `offset`."""
        middle = np.array([self.width / 2, self.height / 2])
        center = middle if self.center is None else np.array(self.center)
        matrix = cv2.getRotationMatrix2D(tuple(center + offset), self.angle, 1)
        if self.expand:
            # The middle of the image before becomes that of the image after.
            turned = cv2.transform((middle + offset)[None, None], matrix)[0, 0]
            height, width = self.output_size
            shift = np.array([width / 2, height / 2]) + offset - turned
            matrix[:, 2] = matrix[:, 2] + shift
        return matrix


@dataclass(frozen=True, repr=False)
class ExtentTransform(ImageTransform):
    """Cut a rectangle out of an image and scale it; what lies beyond the image is black.

    Detectron2's class of this name, but that semantic labels and masks take the nearest pixel, and
    labels between two others do not come up. (Detectron2 asks for the nearest one too, but gets
    bilinear interpolation, since its constant for "nearest" is 0.)

    Attributes:
        rectangle: (x1, y1, x2, y2) in pixels of the image before; may reach beyond it.
        new_height, new_width: of the image after, in pixels.
    """

    rectangle: tuple[float, float, float, float]
    new_height: int
    new_width: int

    @property
    def output_size(self) -> tuple[int, int]:
        return self.new_height, self.new_width

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return self._extract(image, Image.Resampling.BILINEAR)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        x1, y1, x2, y2 = self.rectangle
        center = np.array([0.5 * (x1 + x2), 0.5 * (y1 + y2)])
        scale = np.array([self.new_width / (x2 - x1), self.new_height / (y2 - y1)])
        return (coords - center) * scale + np.array([0.5 * self.new_width, 0.5 * self.new_height])

    def apply_segmentation(self, labels: np.ndarray) -> np.ndarray:
        return self._extract(labels, Image.Resampling.NEAREST)

    def _extract(self, image: np.ndarray, resample: Image.Resampling) -> np.ndarray:
        return np.asarray(
            Image.fromarray(image).transform(
                (self.new_width, self.new_height), Image.Transform.EXTENT, self.rectangle, resample
            )
        )
