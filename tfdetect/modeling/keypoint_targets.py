"""The keypoint head's targets (Mask R-CNN, section 5: one pixel of a heatmap for each keypoint)."""

from __future__ import annotations

import tensorflow as tf


def keypoints_to_heatmap(
    keypoints: tf.Tensor, boxes: tf.Tensor, heatmap_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The heatmap pixel of each keypoint.

    A box is divided into S x S pixels, half-open to the right and below, except that a point
    exactly on the box's right or bottom side belongs to the last column or row.

    Args:
        keypoints: float32 [N, K, 3] of x, y in pixels of the image and visibility (0, 1, 2).
        boxes: float32 [N, 4] XYXY in the same pixels.
        heatmap_size: S, the side of a heatmap.

    Returns:
        index: int32 [N, K], row * S + column of the target; 0 where it is not valid.
        valid: bool [N, K], whether the keypoint is labelled and in its box. In a box without
            width, or height, are only the points exactly on it.

    Detectron2: `Keypoints.to_heatmap`.
    """
    points = keypoints[..., :2]
    origin, end = boxes[:, None, :2], boxes[:, None, 2:]
    pixels = tf.math.floor((points - origin) * (heatmap_size / (end - origin)))
    pixels = tf.where(points == end, heatmap_size - 1.0, pixels)
    # Compared as floats: a point far away, or NaN, has no place among the integers.
    inside = tf.reduce_all((pixels >= 0) & (pixels < heatmap_size), axis=-1)
    valid = inside & (keypoints[..., 2] > 0)
    column, row = tf.unstack(tf.cast(tf.where(valid[..., None], pixels, 0.0), tf.int32), axis=-1)
    return row * heatmap_size + column, valid
