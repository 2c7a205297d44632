"""Arithmetic of rotated boxes: delta coding, clipping, rescaling.

A rotated box is float32 (x centre, y centre, width, height, angle) in pixels and degrees: a box of
that width and height, turned counter-clockwise as it is seen on the screen, where y points down.
Angles that differ by 360 mean the same box, such that differ by 180 the same region. The functions
of `tfdetect.ops.boxes` call these for boxes of five numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

BOX_DIM = 5
"""Numbers of a rotated box."""

# The largest angle, in degrees, of a box that `clip_rotated_boxes` takes for horizontal.
_CLIPPED_ANGLE = 1.0


def normalize_angles(angles: tf.Tensor) -> tf.Tensor:
    """float32 angles in [-180, 180) degrees (Detectron2's `RotatedBoxes.normalize_angles`).

    In float32 as there, so that the largest one below -180 gives 180, and 1e-30 gives 0.
    """
    return tf.math.floormod(angles + 180.0, 360.0) - 180.0


def rotated_area(boxes: tf.Tensor) -> tf.Tensor:
    """Width times height of boxes [..., 5]: [...]."""
    return boxes[..., 2] * boxes[..., 3]


def apply_deltas_rotated(
    deltas: tf.Tensor, boxes: tf.Tensor, weights: Sequence[float], scale_clamp: float
) -> tf.Tensor:
    """Decode box deltas (Detectron2's `Box2BoxTransformRotated.apply_deltas`).

    dx and dy count in widths and heights of the box, along the axes of the image; da in radians.

    Args:
        deltas: float32 [..., K * 5], K deltas (dx, dy, dw, dh, da) for every box.
        boxes: float32 [..., 5], the boxes that the deltas refer to.
        weights: five divisors of the deltas.
        scale_clamp: the largest dw and dh; da has no limit.

    Returns:
        float32 [..., K * 5] boxes, with angles in [-180, 180).
    """
    shape = tf.shape(deltas)
    deltas = tf.reshape(deltas, tf.concat([shape[:-1], [shape[-1] // BOX_DIM, BOX_DIM]], 0))
    deltas = deltas / tf.constant(weights, deltas.dtype)
    boxes = boxes[..., None, :]
    sizes = boxes[..., 2:4]
    angles = deltas[..., 4:] * 180.0 / math.pi + boxes[..., 4:]
    decoded = [
        deltas[..., :2] * sizes + boxes[..., :2],
        tf.exp(tf.minimum(deltas[..., 2:4], scale_clamp)) * sizes,
        normalize_angles(angles),
    ]
    return tf.reshape(tf.concat(decoded, -1), shape)


def get_deltas_rotated(boxes: tf.Tensor, targets: tf.Tensor, weights: Sequence[float]) -> tf.Tensor:
    """Encode `targets` relative to `boxes`: the inverse of `apply_deltas_rotated` (K = 1).

    Args:
        boxes: float32 [..., 5], wider and higher than 0.
        targets: float32 [..., 5]; one without a width or height gives an infinite delta.
        weights: five factors of the deltas.

    Returns:
        float32 [..., 5] (dx, dy, dw, dh, da), da in radians of the shorter way round.
    """
    weights = tf.constant(weights, boxes.dtype)
    angle = normalize_angles(targets[..., 4:] - boxes[..., 4:])
    return tf.concat(
        [
            weights[:2] * (targets[..., :2] - boxes[..., :2]) / boxes[..., 2:4],
            weights[2:4] * tf.math.log(targets[..., 2:4] / boxes[..., 2:4]),
            angle * (weights[4] * (math.pi / 180.0)),
        ],
        -1,
    )


def clip_rotated_boxes(
    boxes: tf.Tensor, sizes: tf.Tensor, angle_threshold: float = _CLIPPED_ANGLE
) -> tf.Tensor:
    """Clip nearly horizontal boxes to their images (Detectron2's `RotatedBoxes.clip`).

    There is no one way to clip the others, which stay; RoIAlign reads nothing beyond an image.

    Args:
        boxes: float32 [B, ..., 5].
        sizes: [B, 2], (height, width) of each image, any numeric type.
        angle_threshold: in degrees, the largest angle, in [-180, 180), of a box that is clipped.

    Returns:
        The boxes, none of which is larger than it was, with angles in [-180, 180).
    """
    limits = tf.cast(tf.gather(sizes, [1, 0], axis=1), boxes.dtype)
    rank = len(boxes.shape)
    limits = tf.reshape(limits, tf.concat([[-1], tf.ones([rank - 2], tf.int32), [2]], 0))
    centers, lengths, angles = boxes[..., :2], boxes[..., 2:4], normalize_angles(boxes[..., 4:])
    half = lengths / 2.0
    low = tf.minimum(tf.maximum(centers - half, 0.0), limits)
    high = tf.minimum(tf.maximum(centers + half, 0.0), limits)
    # Rounding does not enlarge a box.
    clipped = tf.concat([(low + high) / 2.0, tf.minimum(lengths, high - low)], -1)
    horizontal = tf.abs(angles) <= angle_threshold
    return tf.concat([tf.where(horizontal, clipped, boxes[..., :4]), angles], -1)


def nonempty_rotated(boxes: tf.Tensor, threshold: float = 0.0) -> tf.Tensor:
    """Which boxes [..., 5] are wider and higher than `threshold` pixels: bool [...]."""
    return tf.reduce_all(boxes[..., 2:4] > threshold, -1)


def inside_image(boxes: tf.Tensor, size: tf.Tensor, threshold: float = 0.0) -> tf.Tensor:
    """Which boxes lie within an image (Detectron2's `RotatedBoxes.inside_box`).

    Args:
        boxes: float32 [..., 5].
        size: [2], the image's (height, width).
        threshold: how many pixels they may extend beyond it.

    Returns:
        bool [...].
    """
    limits = tf.cast(size, boxes.dtype)[::-1] + threshold
    reach = horizontal_extent(boxes) / 2.0
    inside = boxes[..., :2] - reach >= -threshold
    return tf.reduce_all(inside & (boxes[..., :2] + reach < limits), -1)


def horizontal_extent(boxes: tf.Tensor) -> tf.Tensor:
    """Width and height [..., 2] of the horizontal rectangle around each box [..., 5]."""
    theta = boxes[..., 4] * math.pi / 180.0
    cos, sin = tf.abs(tf.cos(theta)), tf.abs(tf.sin(theta))
    width, height = boxes[..., 2], boxes[..., 3]
    return tf.stack([cos * width + sin * height, cos * height + sin * width], -1)


def scale_rotated_boxes(boxes: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Boxes of images that are scaled (Detectron2's `RotatedBoxes.scale`, which changes its own).

    With two different factors a rectangle becomes a parallelogram. The box for it has the lengths
    of the lines between its opposite edges' middles, and the direction of the one from the top to
    the bottom.

    Args:
        boxes: float32 [..., 5].
        factors: float32, of a shape that broadcasts to [..., 2]: of x and of y, above 0.

    Returns:
        float32 [..., 5], with angles in [-180, 180].
    """
    theta = boxes[..., 4] * math.pi / 180.0
    cos, sin = tf.cos(theta), tf.sin(theta)
    scale_x, scale_y = factors[..., 0], factors[..., 1]
    width = boxes[..., 2] * tf.sqrt((scale_x * cos) ** 2 + (scale_y * sin) ** 2)
    height = boxes[..., 3] * tf.sqrt((scale_x * sin) ** 2 + (scale_y * cos) ** 2)
    angle = tf.atan2(scale_x * sin, scale_y * cos) * 180.0 / math.pi
    x, y = boxes[..., 0] * scale_x, boxes[..., 1] * scale_y
    return tf.stack([x, y, width, height, angle], -1)
