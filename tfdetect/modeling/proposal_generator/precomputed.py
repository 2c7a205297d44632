"""Precomputed proposals (Fast R-CNN)."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.profile_scope import profile_scope
from tfdetect.modeling.structures import Proposals
from tfdetect.ops.boxes import clip_boxes, nonempty


@profile_scope("proposals")
def transform_proposals(
    proposals: Proposals,
    from_sizes: tf.Tensor,
    to_sizes: tf.Tensor,
    *,
    topk: int,
    min_box_size: float,
) -> Proposals:
    """Detectron2's function of this name: from the original image to the network's input.

    Boxes are scaled with the image and clipped to it, those not wider and higher than
    `min_box_size` are dropped, and the first `topk` of the others kept.

    Args:
        proposals: in pixels of the original images.
        from_sizes: int32 [B, 2], (height, width) of the original images.
        to_sizes: int32 [B, 2], of the images in the network's input, without padding.

    Returns:
        The proposals that are left, in min(P, topk) slots.
    """
    ratio = tf.cast(to_sizes, tf.float64) / tf.cast(from_sizes, tf.float64)
    scale = tf.cast(tf.gather(ratio, [1, 0, 1, 0], axis=1), tf.float32)
    boxes = clip_boxes(proposals.boxes * scale[:, None], to_sizes)
    usable = nonempty(boxes, min_box_size)
    usable &= tf.range(tf.shape(boxes)[1]) < proposals.num_valid[:, None]
    order = tf.argsort(tf.cast(~usable, tf.int32), axis=1, stable=True)[:, :topk]
    usable_counts = tf.reduce_sum(tf.cast(usable, tf.int32), 1)
    return Proposals(tf.gather(boxes, order, batch_dims=1), tf.minimum(usable_counts, topk))
