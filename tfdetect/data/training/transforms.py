"""What one augmentation does to an image, its masks and its polygons.

To the maps of points of `tfdetect.data.geometry` these add the pixels. Each is a transform of
tensorpack's, and of `geometry`, whose functions do boxes and keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tfdetect.data import geometry
from tfdetect.data.training.tensorpack_dataflow import imgaug
from tfdetect.errors import InputError
from tfdetect.ops.kernels.image_resize import ImageResize


class ImageTransform(imgaug.Transform):
    """A map of images, and of what is drawn on them, that leaves its input alone."""

    mirrors = False

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the image after, in pixels."""
        raise NotImplementedError

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """The image, uint8 [H, W, 3], after."""
        raise NotImplementedError

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """The points, float64 [N, 2] x and y in pixels, after."""
        raise NotImplementedError

    def apply_segmentation(self, labels: np.ndarray) -> np.ndarray:
        """A map of semantic labels, integers [H, W], after; none comes up between two others."""
        return self.apply_image(labels)

    def apply_mask(self, mask: np.ndarray) -> np.ndarray:
        """The mask of an object, uint8 [H, W], after; 0 where the image before does not reach."""
        return self.apply_segmentation(mask)

    def apply_polygons(self, polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The polygons of one object, each float64 [2 P], after; they may be other polygons."""
        return geometry.transform_polygons(polygons, [self])


@dataclass(frozen=True, repr=False)
class NoOpTransform(ImageTransform):
    """Leave an image of `height` x `width` pixels unchanged."""

    height: int
    width: int

    @property
    def output_size(self) -> tuple[int, int]:
        return self.height, self.width

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return image

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords.copy()


@dataclass(frozen=True, repr=False)
class ResizeTransform(ImageTransform):
    """Resize from `height` x `width` pixels to `new_height` x `new_width`.

    To the bit what `Image.resize(size, BILINEAR)` gives in Pillow 11, which Detectron2's
    `ResizeTransform` calls, or with another filter (`resample`); masks take the nearest pixel.
    """

    height: int
    width: int
    new_height: int
    new_width: int
    resample: Image.Resampling = Image.Resampling.BILINEAR

    @property
    def output_size(self) -> tuple[int, int]:
        return self.new_height, self.new_width

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        if self.output_size == image.shape[:2]:
            return image
        # One axis after the other: from version 12.2 on, Pillow asked for both at once takes the
        # vertical one first in some shapes, which gives other pixels.
        wide = Image.fromarray(image).resize((self.new_width, self.height), self.resample)
        return np.asarray(wide.resize((self.new_width, self.new_height), self.resample))

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return geometry.Resize(
            self.height, self.width, self.new_height, self.new_width
        ).apply_coords(coords)

    def apply_segmentation(self, labels: np.ndarray) -> np.ndarray:
        size = (self.new_width, self.new_height)
        return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))


@dataclass(frozen=True, repr=False)
class HFlipTransform(ImageTransform):
    """Mirror left and right of an image of `height` x `width` pixels."""

    height: int
    width: int
    mirrors = True

    @property
    def output_size(self) -> tuple[int, int]:
        return self.height, self.width

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        # A view would be copied later, pixel by pixel, which takes thirty times as long.
        return cv2.flip(image, 1)

    def apply_segmentation(self, labels: np.ndarray) -> np.ndarray:
        return labels[:, ::-1]

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return geometry.HorizontalFlip(self.width).apply_coords(coords)


@dataclass(frozen=True, repr=False)
class VFlipTransform(ImageTransform):
    """Turn an image of `height` x `width` pixels upside down: y becomes height - y.

    Left and right keep their names, as in Detectron2.
    """

    height: int
    width: int

    @property
    def output_size(self) -> tuple[int, int]:
        return self.height, self.width

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return image[::-1]

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return np.stack([coords[:, 0], self.height - coords[:, 1]], axis=1)


@dataclass(frozen=True, repr=False)
class CropTransform(ImageTransform):
    """Cut `height` x `width` pixels, from column `x0` and row `y0` on, out of an image.

    The rectangle may reach beyond the right and the bottom of the image, which has `image_height` x
    `image_width` pixels: polygons are cut to the rectangle, the image to both.
    """

    x0: int
    y0: int
    height: int
    width: int
    image_height: int
    image_width: int

    @property
    def output_size(self) -> tuple[int, int]:
        return (
            min(self.height, self.image_height - self.y0),
            min(self.width, self.image_width - self.x0),
        )

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return image[self.y0 : self.y0 + self.height, self.x0 : self.x0 + self.width]

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords - np.array([self.x0, self.y0])

    def apply_polygons(self, polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What of the polygons is in the rectangle, as the parts they fall into.

        fvcore's `CropTransform.apply_polygons`: outlines are cleaned first (of one that crosses
        itself the part of the GEOS library's choice remains), holes are filled.

        Raises:
            InputError: the package shapely is not installed.
        """
        geometries, box = _shapely()
        window = box(self.x0, self.y0, self.x0 + self.width, self.y0 + self.height)
        inside = []
        for polygon in polygons:
            seen = geometries.Polygon(polygon.reshape(-1, 2)).buffer(0.0).intersection(window)
            for part in getattr(seen, "geoms", [seen]):
                # Where outline and rectangle only touch there are points and lines, too.
                if part.geom_type == "Polygon" and not part.is_empty:
                    outline = np.asarray(part.exterior.coords)[:-1]  # the last is the first again
                    inside.append(self.apply_coords(outline).reshape(-1))
        return inside


@dataclass(frozen=True, repr=False)
class PadTransform(ImageTransform):
    """Add grey (`value`) at the right and the bottom, up to `height` x `width` pixels.

    Semantic labels are padded with `seg_pad_value`, masks of objects with nothing. (Detectron2 pads
    those with 255, too: the bitmap of an object then covers the padding.)
    """

    height: int
    width: int
    value: float
    seg_pad_value: int = 255

    @property
    def output_size(self) -> tuple[int, int]:
        return self.height, self.width

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return self._pad(image, self.value)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords.copy()

    def apply_segmentation(self, labels: np.ndarray) -> np.ndarray:
        return self._pad(labels, self.seg_pad_value)

    def apply_mask(self, mask: np.ndarray) -> np.ndarray:
        return self._pad(mask, 0)

    def _pad(self, image: np.ndarray, value: float) -> np.ndarray:
        padded = np.full((self.height, self.width, *image.shape[2:]), value, image.dtype)
        padded[: image.shape[0], : image.shape[1]] = image
        return padded


@dataclass(frozen=True, repr=False)
class TransformList(ImageTransform):
    """Several transforms, at least one, one after the other (fvcore's class of this name)."""

    transforms: tuple[ImageTransform, ...]

    @property
    def mirrors(self) -> bool:  # type: ignore[override]
        return sum(transform.mirrors for transform in self.transforms) % 2 == 1

    @property
    def output_size(self) -> tuple[int, int]:
        return self.transforms[-1].output_size

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        for transform in self.transforms:
            image = transform.apply_image(image)
        return image

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        for transform in self.transforms:
            coords = transform.apply_coords(coords)
        return coords

    def apply_segmentation(self, labels: np.ndarray) -> np.ndarray:
        for transform in self.transforms:
            labels = transform.apply_segmentation(labels)
        return labels

    def apply_mask(self, mask: np.ndarray) -> np.ndarray:
        for transform in self.transforms:
            mask = transform.apply_mask(mask)
        return mask

    def apply_polygons(self, polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = list(polygons)
        for transform in self.transforms:
            found = transform.apply_polygons(found)
        return found


def apply_image(
    image: np.ndarray, transforms: Sequence[ImageTransform], resize: ImageResize | None
) -> np.ndarray:
    """The image, uint8 [H, W, 3], after several transforms, in order.

    Args:
        image: before.
        transforms: what happens to it.
        resize: is called instead of Pillow for its bilinear filter, of which it gives the pixels;
            None for Pillow's.
    """
    for transform in transforms:
        if isinstance(transform, TransformList):
            image = apply_image(image, transform.transforms, resize)
        elif (
            resize is not None
            and isinstance(transform, ResizeTransform)
            and transform.resample == Image.Resampling.BILINEAR
            and transform.output_size != image.shape[:2]
        ):
            image = resize(image, transform.output_size)
        else:
            image = transform.apply_image(image)
    return image


def _shapely() -> tuple[Any, Any]:
    try:
        from shapely import geometry as shapely_geometry
    except ImportError as error:
        raise InputError(
            "INPUT.CROP, INPUT.LARGE_SCALE_JITTER, INPUT.AUGMENTATIONS: cropping polygons requires"
            " shapely; run: pip install 'shapely>=2', or set INPUT.MASK_FORMAT bitmask"
        ) from error
    return shapely_geometry, shapely_geometry.box
