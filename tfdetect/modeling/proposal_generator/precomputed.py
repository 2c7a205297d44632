"""Proposals that come from elsewhere (Fast R-CNN)."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.stage import stage
from tfdetect.ops.boxes import clip_boxes, nonempty


@stage("proposals")
def transform_proposals(
    boxes: tf.Tensor,
    counts: tf.Tensor,
    from_sizes: tf.Tensor,
    to_sizes: tf.Tensor,
    *,
    topk: int,
    min_box_size: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Detectron2's function of this name: from the original image to the network's input.

    Boxes are scaled with the image and clipped to it, those not wider and higher than
    `min_box_size` are dropped, and the first `topk` of the others kept.

    Args:
        boxes: float32 [B, P, 4] in pixels of the original images, the best of each image first.
        counts: int32 [B], how many of the P are meant.
        from_sizes: int32 [B, 2], (height, width) of the original images.
        to_sizes: int32 [B, 2], of the images in the network's input, without padding.

    Returns:
        float32 [B, min(P, topk), 4] and int32 [B]: the proposals that are left, first.
    """
    ratio = tf.cast(to_sizes, tf.float64) / tf.cast(from_sizes, tf.float64)
    scale = tf.cast(tf.gather(ratio, [1, 0, 1, 0], axis=1), tf.float32)
    boxes = clip_boxes(boxes * scale[:, None], to_sizes)
    usable = nonempty(boxes, min_box_size) & (tf.range(tf.shape(boxes)[1]) < counts[:, None])
    order = tf.argsort(tf.cast(~usable, tf.int32), axis=1, stable=True)[:, :topk]
    usable_counts = tf.reduce_sum(tf.cast(usable, tf.int32), 1)
    return tf.gather(boxes, order, batch_dims=1), tf.minimum(usable_counts, topk)
