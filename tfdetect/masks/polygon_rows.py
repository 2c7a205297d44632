"""Polygons as rows of numbers, which can be padded, batched and sent to a training step.

Each point is a row (object, polygon, x, y): which of the image's objects it belongs to, which of
its polygons, and where it is in pixels. The rows of an object, and those of a polygon in it, follow
one another. Padding has object -1. Nothing here imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfdetect.masks.polygons import crop_polygons


def encode_polygons(objects: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The polygons of an image's objects, each float64 [2 P], as float64 [points, 4] rows."""
    rows = [
        np.concatenate([np.full((len(points), 2), (index, number)), points], axis=1)
        for index, polygons in enumerate(objects)
        for number, polygon in enumerate(polygons)
        for points in [np.asarray(polygon, np.float64).reshape(-1, 2)]
    ]
    return np.concatenate([np.zeros((0, 4)), *rows])


def decode_polygons(rows: np.ndarray) -> dict[int, list[np.ndarray]]:
    """What `encode_polygons` made into rows, by object; padding is left out."""
    rows = rows[rows[:, 0] >= 0]
    changes = np.flatnonzero((np.diff(rows[:, :2], axis=0) != 0).any(axis=1)) + 1
    objects: dict[int, list[np.ndarray]] = {}
    for polygon in np.split(rows, changes) if len(rows) else []:
        objects.setdefault(int(polygon[0, 0]), []).append(polygon[:, 2:].reshape(-1))
    return objects


def crop_polygon_rows(
    rows: np.ndarray, boxes: np.ndarray, indices: np.ndarray, mask_size: int
) -> np.ndarray:
    """What boxes see of the objects of their image.

    Args:
        rows: float64 [points, 4].
        boxes: float32 [R, 4] XYXY in the polygons' pixels.
        indices: int [R], the object of each box; negative for none.
        mask_size: M.

    Returns:
        bool [R, M, M], of `crop_polygons`; all false where there is no object.
    """
    objects = decode_polygons(rows)
    masks = np.zeros((len(boxes), mask_size, mask_size), dtype=bool)
    for mask, box, index in zip(masks, boxes, indices.tolist(), strict=True):
        if index >= 0:
            mask[:] = crop_polygons(objects.get(index, []), box, mask_size)
    return masks
