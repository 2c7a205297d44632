"""From scored boxes on feature maps to proposals."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.ops.boxes import all_finite, clip_boxes, nonempty
from tfdetect.ops.nms import batched_nms, top_k


def select_proposals(
    boxes: Sequence[tf.Tensor],
    logits: Sequence[tf.Tensor],
    image_sizes: tf.Tensor,
    *,
    nms_threshold: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Detectron2's `find_top_rpn_proposals`.

    The best `pre_nms_topk` of every level by logit; clipped to the image; without non-finite and
    empty ones; NMS per level; the best `post_nms_topk` over all levels.

    Args:
        boxes: per level float32 [B, N_l, 4], in pixels of the network's input image.
        logits: per level float32 [B, N_l].
        image_sizes: int32 [B, 2], (height, width) without padding.
        nms_threshold: IoU above which the lesser box goes.
        min_box_size: boxes not wider and higher than this are dropped.

    Returns:
        Proposals float32 [B, P, 4] by falling logit with P = `post_nms_topk`, their logits
        float32 [B, P], and how many of each image are meant, int32 [B]; the rest is zeros.
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
    all_boxes = clip_boxes(tf.where(usable[..., None], all_boxes, 0.0), image_sizes)
    usable &= nonempty(all_boxes, min_box_size)
    batch, count = tf.unstack(tf.shape(all_logits))
    groups = tf.range(batch)[:, None] * len(boxes) + level_ids
    keep = batched_nms(
        tf.reshape(all_boxes, [-1, 4]),
        tf.reshape(all_logits, [-1]),
        tf.reshape(tf.where(usable, groups, -1), [-1]),
        nms_threshold,
    )
    keep = tf.reshape(keep, [batch, count])

    ranked = tf.where(keep, all_logits, tf.constant(float("-inf")))
    selected = min(post_nms_topk, pre_nms_topk * len(boxes))
    padding = tf.maximum(selected - count, 0)
    ranked = tf.pad(ranked, [[0, 0], [0, padding]], constant_values=float("-inf"))
    all_boxes = tf.pad(all_boxes, [[0, 0], [0, padding], [0, 0]])
    values, indices = tf.math.top_k(ranked, selected)
    kept = tf.math.is_finite(values)
    proposals = tf.where(kept[..., None], tf.gather(all_boxes, indices, batch_dims=1), 0.0)
    counts = tf.reduce_sum(tf.cast(kept, tf.int32), 1)
    return proposals, tf.where(kept, values, 0.0), counts
