"""Boxes by their distances from a location: FCOS's coding."""

from __future__ import annotations

import tensorflow as tf


def get_linear_deltas(
    boxes: tf.Tensor, targets: tf.Tensor, *, normalize_by_size: bool = True
) -> tf.Tensor:
    """Distances from the centre of each box to the sides of its target.

    Args:
        boxes, targets: float32 [..., 4] XYXY, in one frame.
        normalize_by_size: distances are in widths and heights of the box, not in pixels.

    Returns:
        float32 [..., 4], (left, top, right, bottom); negative where the centre is beyond a side.

    Detectron2: `Box2BoxTransformLinear.get_deltas`.
    """
    centers, scale = _centers_and_scale(boxes, normalize_by_size)
    distances = tf.concat([centers - targets[..., :2], targets[..., 2:] - centers], -1)
    return distances / scale


def apply_linear_deltas(
    deltas: tf.Tensor, boxes: tf.Tensor, *, normalize_by_size: bool = True
) -> tf.Tensor:
    """Decode what `get_linear_deltas` encodes; negative distances count as 0.

    Args:
        deltas: float32 [..., 4].
        boxes: float32 [..., 4], the boxes that the deltas refer to.
        normalize_by_size: see `get_linear_deltas`.

    Returns:
        float32 [..., 4] XYXY, in the frame of `boxes`.

    Detectron2: `Box2BoxTransformLinear.apply_deltas`.
    """
    centers, scale = _centers_and_scale(boxes, normalize_by_size)
    distances = tf.nn.relu(deltas) * scale
    return tf.concat([centers - distances[..., :2], centers + distances[..., 2:]], -1)


def _centers_and_scale(boxes: tf.Tensor, by_size: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """The centres [..., 2], and the divisor of distances."""
    centers = 0.5 * (boxes[..., :2] + boxes[..., 2:])
    if not by_size:
        return centers, tf.ones([], boxes.dtype)
    sizes = boxes[..., 2:] - boxes[..., :2]
    return centers, tf.concat([sizes, sizes], -1)
