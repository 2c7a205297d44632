"""Ground-truth masks given as polygons: their boxes, areas and rasters, in NumPy.

The polygons of an object are a list of float64 [2 P] arrays x0, y0, x1, y1, ... in pixels of the
image, P >= 3; the object is their union. Nothing here imports TensorFlow: it runs in the data
pipeline's processes. Rasterisation is pycocotools', as in Detectron2 (`PolygonMasks`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as coco_mask

FARTHEST_POINT = float(2**17)
"""Coordinates this far outside any raster are cut off, so that a box a thousand times smaller than
its object cannot take gigabytes: pycocotools walks along the outline in steps of a fifth of a
pixel, in C ints, and allocates for every step."""

# Detectron2's smallest width and height of a box when polygons are scaled to it, in pixels.
_SMALLEST_SIDE = 0.1


def rasterize_polygons(polygons: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """The union of polygons as a bool [height, width] raster; all false for no polygons.

    Detectron2: `polygons_to_bitmask`.
    """
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    clipped = [np.clip(polygon, -FARTHEST_POINT, FARTHEST_POINT) for polygon in polygons]
    encoded = coco_mask.merge(coco_mask.frPyObjects(clipped, height, width))
    return coco_mask.decode(encoded).astype(bool)


def crop_polygons(polygons: Sequence[np.ndarray], box: np.ndarray, mask_size: int) -> np.ndarray:
    """The training target of the mask head: what a box sees of an object.

    Args:
        polygons: the object, in pixels of the image.
        box: [4] float32 XYXY in the same pixels; one that is not finite sees nothing.
        mask_size: M, the side of the target.

    Returns:
        bool [M, M]: the polygons moved and scaled so that the box becomes M x M pixels, rasterised.

    Detectron2: `rasterize_polygons_within_box`.
    """
    if not np.isfinite(box).all():
        return np.zeros((mask_size, mask_size), dtype=bool)
    # float32, as the boxes are: the scale's last bit can decide a pixel on an outline.
    x1, y1, x2, y2 = np.asarray(box, dtype=np.float32)
    smallest = np.float32(_SMALLEST_SIDE)
    scale_x = np.float32(mask_size) / np.maximum(x2 - x1, smallest)
    scale_y = np.float32(mask_size) / np.maximum(y2 - y1, smallest)
    shift = np.array([x1, y1], dtype=np.float64)
    scale = np.array([scale_x, scale_y], dtype=np.float64)
    moved = [((polygon.reshape(-1, 2) - shift) * scale).reshape(-1) for polygon in polygons]
    return rasterize_polygons(moved, mask_size, mask_size)


def polygon_boxes(objects: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Tight boxes around objects.

    Args:
        objects: the polygons of each of N objects.

    Returns:
        float32 [N, 4] XYXY in the polygons' pixels. The right and bottom sides are never below 0,
        as Detectron2 has it (`PolygonMasks.get_bounding_boxes`); an object without polygons gets
        zeros.
    """
    boxes = np.zeros((len(objects), 4), dtype=np.float32)
    for box, polygons in zip(boxes, objects, strict=True):
        if polygons:
            points = np.concatenate(polygons).reshape(-1, 2).astype(np.float32)
            box[:2] = points.min(axis=0)
            box[2:] = np.maximum(points.max(axis=0), 0)
    return boxes


def polygon_areas(objects: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Areas of objects by the shoelace formula, float64 [N] in square pixels.

    The areas of an object's polygons are added, overlapping or not (Detectron2:
    `PolygonMasks.area`).
    """
    return np.array(
        [
            sum(_shoelace(polygon[0::2], polygon[1::2]) for polygon in polygons)
            for polygons in objects
        ],
        dtype=np.float64,
    )


def _shoelace(x: np.ndarray, y: np.ndarray) -> float:
    return 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
