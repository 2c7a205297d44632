"""Applies augmentations to annotations: boxes, polygons and keypoints, in NumPy.

Coordinates are continuous: the image covers [0, width] x [0, height], pixel (i, j) has its centre
at (j + 0.5, i + 0.5), and a horizontal flip maps x to width - x. COCO's boxes and polygons are
given so; its keypoints are indices of pixels and get 0.5 on load (`coco_keypoints`).

An augmentation is a sequence of transforms; each maps points, and everything else follows from
that. Arithmetic is float64, as in Detectron2 (`transform_instance_annotations`, of which the
functions here have the meaning, and fvcore's transforms).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tfdetect.errors import InputError


class Transform(Protocol):
    """A map from points of the image before to points of the image after."""

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Map `coords`, float64 [N, 2], x and y in pixels; returns a new array."""
        ...

    @property
    def mirrors(self) -> bool:
        """Whether it flips left and right."""
        ...


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror an image that is `width` pixels wide: x becomes width - x."""

    width: int
    mirrors = True

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return np.stack([self.width - coords[:, 0], coords[:, 1]], axis=1)


@dataclass(frozen=True)
class Resize:
    """Resize from `height` x `width` pixels to `new_height` x `new_width`."""

    height: int
    width: int
    new_height: int
    new_width: int
    mirrors = False

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords * np.array([self.new_width / self.width, self.new_height / self.height])


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """COCO's boxes [..., 4] (left, top, width, height) as float64 XYXY, in the same pixels."""
    boxes = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def coco_keypoints(keypoints: np.ndarray | Sequence[float]) -> np.ndarray:
    """COCO's keypoints, [3 K] or [K, 3] of (column, row, visibility), in continuous coordinates.

    Returns float64 [K, 3] with 0.5 added to every column and row, as Detectron2's COCO reader does
    (to the zeros of unlabelled points too: `transform_keypoints` sets those back to zero).

    Raises:
        InputError: if the number of values is not a multiple of 3.
    """
    keypoints = np.array(keypoints, dtype=np.float64)
    if keypoints.size % 3:
        raise InputError(
            f"keypoints must be triples x, y, v, but there are {keypoints.size} values"
        )
    return keypoints.reshape(-1, 3) + np.array([0.5, 0.5, 0.0])


def transform_boxes(
    boxes: np.ndarray, transforms: Sequence[Transform], image_size: tuple[int, int]
) -> np.ndarray:
    """Boxes after an augmentation, clipped to the image.

    Args:
        boxes: [N, 4] XYXY in pixels of the image before.
        transforms: what happens to the image, in order.
        image_size: height and width of the image after.

    Returns:
        float64 [N, 4] XYXY in pixels of the image after.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    for transform in transforms:
        boxes = transform_unclipped_boxes(boxes, transform)
    height, width = image_size
    return np.clip(boxes, 0, [width, height, width, height])


def transform_unclipped_boxes(boxes: np.ndarray, transform: Transform) -> np.ndarray:
    """Boxes, float64 [N, 4] XYXY, after one transform: around each one's four mapped corners.

    fvcore: `Transform.apply_box`.
    """
    corners = boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 2)
    mapped = transform.apply_coords(corners).reshape(-1, 4, 2)
    return np.concatenate([mapped.min(axis=1), mapped.max(axis=1)], axis=1)


def transform_polygons(
    polygons: Sequence[np.ndarray], transforms: Sequence[Transform]
) -> list[np.ndarray]:
    """The polygons of one object after an augmentation; they may reach beyond the image.

    Args:
        polygons: each [2 P] of x0, y0, x1, y1, ... in pixels of the image before.
        transforms: what happens to the image, in order.

    Returns:
        The polygons in pixels of the image after, float64 [2 P] each.
    """
    return [
        _apply(np.asarray(polygon, dtype=np.float64).reshape(-1, 2), transforms).reshape(-1)
        for polygon in polygons
    ]


def transform_keypoints(
    keypoints: np.ndarray,
    transforms: Sequence[Transform],
    image_size: tuple[int, int],
    flip_indices: np.ndarray | None = None,
) -> np.ndarray:
    """The keypoints of one object after an augmentation.

    Points that leave the image become unlabelled, left and right change names under an odd number
    of mirrorings, and x = y = 0 wherever the visibility is 0.

    Args:
        keypoints: [K, 3] of x, y in pixels of the image before and visibility (0, 1, 2).
        transforms: what happens to the image, in order.
        image_size: height and width of the image after.
        flip_indices: [K] from `keypoint_flip_indices`; needed if the augmentation mirrors.

    Returns:
        float64 [K, 3] in pixels of the image after.

    Raises:
        InputError: if the augmentation mirrors and `flip_indices` is missing or not of length K.
    """
    keypoints = np.array(keypoints, dtype=np.float64).reshape(-1, 3)
    xy = _apply(keypoints[:, :2], transforms)
    height, width = image_size
    inside = ((xy >= 0) & (xy <= [width, height])).all(axis=1)
    keypoints = np.concatenate([xy, np.where(inside, keypoints[:, 2], 0)[:, None]], axis=1)

    if sum(transform.mirrors for transform in transforms) % 2:
        if flip_indices is None or len(flip_indices) != len(keypoints):
            known = "none are known" if flip_indices is None else f"there are {len(flip_indices)}"
            raise InputError(
                f"mirroring {len(keypoints)} keypoints needs as many flip indices, but {known}: "
                "give the data set's keypoint flip pairs or set INPUT.RANDOM_FLIP to none"
            )
        keypoints = keypoints[np.asarray(flip_indices)]

    keypoints[keypoints[:, 2] == 0] = 0
    return keypoints


def _apply(coords: np.ndarray, transforms: Sequence[Transform]) -> np.ndarray:
    for transform in transforms:
        coords = transform.apply_coords(coords)
    return coords
