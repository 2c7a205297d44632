"""Arithmetic of boxes: delta coding, clipping, rescaling.

Boxes are float32 XYXY in absolute pixels with continuous coordinates: a box that covers a whole
image of width w and height h is (0, 0, w, h), and its width is x2 - x1. Of boxes with five numbers
instead of four, which are rotated, the functions give what those of `tfdetect.ops.rotated_boxes`
give; deltas have five numbers then, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tfdetect.ops.rotated_boxes import (
    BOX_DIM as ROTATED,
)
from tfdetect.ops.rotated_boxes import (
    apply_deltas_rotated,
    clip_rotated_boxes,
    get_deltas_rotated,
    nonempty_rotated,
)

# The largest dw and dh that are decoded: a box grows to at most 1000 / 16 of its source.
# (Faster R-CNN's implementation in Detectron; Detectron2's `_DEFAULT_SCALE_CLAMP`.)
SCALE_CLAMP = math.log(1000.0 / 16)


def _centers_and_sizes(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sizes, sizes


def apply_deltas(deltas: tf.Tensor, boxes: tf.Tensor, weights: Sequence[float]) -> tf.Tensor:
    """Decode box deltas (R-CNN, appendix C; Detectron2's `Box2BoxTransform.apply_deltas`).

    Args:
        deltas: float32 [..., K * 4], K deltas (dx, dy, dw, dh) for every box.
        boxes: float32 [..., 4], the boxes that the deltas refer to.
        weights: four divisors of (dx, dy, dw, dh).

    Returns:
        float32 [..., K * 4] boxes, in the frame of `boxes`. dw and dh are limited from above only.
    """
    if boxes.shape[-1] == ROTATED:
        return apply_deltas_rotated(deltas, boxes, weights, SCALE_CLAMP)
    shape = tf.shape(deltas)
    deltas = tf.reshape(deltas, tf.concat([shape[:-1], [shape[-1] // 4, 4]], 0))
    deltas = deltas / tf.constant(weights, deltas.dtype)
    centers, sizes = (t[..., None, :] for t in _centers_and_sizes(boxes))
    new_centers = deltas[..., :2] * sizes + centers
    half = 0.5 * (tf.exp(tf.minimum(deltas[..., 2:], SCALE_CLAMP)) * sizes)
    return tf.reshape(tf.concat([new_centers - half, new_centers + half], -1), shape)


def get_deltas(boxes: tf.Tensor, targets: tf.Tensor, weights: Sequence[float]) -> tf.Tensor:
    """Encode `targets` relative to `boxes`: the inverse of `apply_deltas` (K = 1).

    Both are float32 [..., 4] of positive width and height; so is the result, (dx, dy, dw, dh).
    """
    if boxes.shape[-1] == ROTATED:
        return get_deltas_rotated(boxes, targets, weights)
    centers, sizes = _centers_and_sizes(boxes)
    target_centers, target_sizes = _centers_and_sizes(targets)
    weights = tf.constant(weights, boxes.dtype)
    return tf.concat(
        [
            weights[:2] * (target_centers - centers) / sizes,
            weights[2:] * tf.math.log(target_sizes / sizes),
        ],
        -1,
    )


def clip_boxes(boxes: tf.Tensor, sizes: tf.Tensor, *, inclusive: bool = False) -> tf.Tensor:
    """Clip boxes to their images.

    Args:
        boxes: float32 [B, ..., 4].
        sizes: [B, 2], (height, width) of each image, any numeric type.
        inclusive: Detectron's way: the first and the last pixel are each clipped to the image's
            pixels, so that a box keeps at least one. (The last pixel is x2 - 1.)
    """
    if boxes.shape[-1] == ROTATED:
        return clip_rotated_boxes(boxes, sizes)
    limits = tf.cast(tf.gather(sizes, [1, 0, 1, 0], axis=1), boxes.dtype)
    rank = len(boxes.shape)
    limits = tf.reshape(limits, tf.concat([[-1], tf.ones([rank - 2], tf.int32), [4]], 0))
    if not inclusive:
        return tf.minimum(tf.maximum(boxes, 0.0), limits)
    last = tf.constant([0.0, 0.0, 1.0, 1.0], boxes.dtype)
    return tf.minimum(tf.maximum(boxes - last, 0.0), limits - 1.0) + last


def nonempty(boxes: tf.Tensor, threshold: float = 0.0) -> tf.Tensor:
    """Which boxes [..., 4] are wider and higher than `threshold` pixels: bool [...]."""
    if boxes.shape[-1] == ROTATED:
        return nonempty_rotated(boxes, threshold)
    sizes = boxes[..., 2:] - boxes[..., :2]
    return tf.reduce_all(sizes > threshold, -1)


def all_finite(boxes: tf.Tensor) -> tf.Tensor:
    """Which boxes [..., 4 or 5] have no infinite and no NaN coordinate: bool [...]."""
    return tf.reduce_all(tf.math.is_finite(boxes), -1)


class Corners(NamedTuple):
    """Boxes by their corners and areas, each float32 [...]."""

    x1: tf.Tensor
    y1: tf.Tensor
    x2: tf.Tensor
    y2: tf.Tensor
    area: tf.Tensor


def corners_of(boxes: tf.Tensor) -> Corners:
    """Of float32 boxes [..., 4]."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return Corners(x1, y1, x2, y2, (x2 - x1) * (y2 - y1))


def iou_of_corners(first: Corners, second: Corners) -> tf.Tensor:
    """Intersection over union of boxes of shapes that broadcast; NaN for 0 / 0 (torchvision's)."""
    width = tf.minimum(first.x2, second.x2) - tf.maximum(first.x1, second.x1)
    height = tf.minimum(first.y2, second.y2) - tf.maximum(first.y1, second.y1)
    intersection = tf.maximum(width, 0.0) * tf.maximum(height, 0.0)
    return intersection / (first.area + second.area - intersection)
