"""Selects proposals from scored boxes."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.layers.profile_scope import profile_scope
from tfdetect.modeling.structures import Proposals
from tfdetect.ops.boxes import all_finite, clip_boxes, nonempty
from tfdetect.ops.nms import best_after_nms, top_k


@profile_scope("proposals")
def select_proposals(
    boxes: Sequence[tf.Tensor],
    logits: Sequence[tf.Tensor],
    image_sizes: tf.Tensor,
    *,
    nms_threshold: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    inclusive_boxes: bool = False,
) -> Proposals:
    """Detectron2's `find_top_rpn_proposals`.

    The best `pre_nms_topk` of every level by logit; clipped to the image; without non-finite and
    empty ones; NMS per level; the best `post_nms_topk` over all levels.

    Args:
        boxes: per level float32 [B, N_l, 4], in pixels of the network's input image.
        logits: per level float32 [B, N_l].
        image_sizes: int32 [B, 2], (height, width) without padding.
        nms_threshold: IoU above which the lower-scoring box is removed.
        min_box_size: boxes that are not wider and higher than this are dropped.
        inclusive_boxes: see `clip_boxes`.

    Returns:
        By descending logit, in P = `post_nms_topk` slots.
    """
    best_boxes, best_logits, levels = [], [], []
    for level, (level_boxes, level_logits) in enumerate(zip(boxes, logits, strict=True)):
        values, indices = top_k(level_logits, pre_nms_topk)
        best_boxes.append(tf.gather(level_boxes, indices, batch_dims=1))
        best_logits.append(values)
        levels.append(tf.fill([tf.shape(values)[1]], level))
    all_boxes = tf.concat(best_boxes, 1)
    all_logits = tf.concat(best_logits, 1)
    level_ids = tf.concat(levels, 0)

    usable = all_finite(all_boxes) & tf.math.is_finite(all_logits)
    all_boxes = clip_boxes(
        tf.where(usable[..., None], all_boxes, 0.0), image_sizes, inclusive=inclusive_boxes
    )
    usable &= nonempty(all_boxes, min_box_size)
    indices, num_valid = best_after_nms(
        all_boxes,
        tf.where(usable, all_logits, tf.constant(float("-inf"))),
        tf.broadcast_to(level_ids, tf.shape(all_logits)),
        nms_threshold,
        min(post_nms_topk, pre_nms_topk * len(boxes)),
    )
    kept = tf.sequence_mask(num_valid, indices.shape[1])
    return Proposals(
        boxes=tf.where(kept[..., None], tf.gather(all_boxes, indices, batch_dims=1), 0.0),
        num_valid=num_valid,
        logits=tf.where(kept, tf.gather(all_logits, indices, batch_dims=1), 0.0),
    )
