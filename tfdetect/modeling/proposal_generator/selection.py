"""Selects proposals from scored boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tfdetect.modeling.structures import Proposals
from tfdetect.ops.boxes import all_finite, clip_boxes, nonempty
from tfdetect.ops.nms import best_after_nms, top_k
from tfdetect.ops.shapes import lengths


class Candidates(NamedTuple):
    """The best of every level, one level after another.

    Attributes:
        indices: of each level int32 [B, K_l], which of its boxes.
        logits: float32 [B, K].
        levels: int32 [K].
    """

    indices: list[tf.Tensor]
    logits: tf.Tensor
    levels: tf.Tensor


def best_of_levels(logits: Sequence[tf.Tensor], pre_nms_topk: int) -> Candidates:
    """The `pre_nms_topk` of highest logit of each level's, float32 [B, N_l]; or all there are."""
    values, indices = zip(*(top_k(level, pre_nms_topk) for level in logits), strict=True)
    counts = [lengths(level)[1] for level in values]
    return Candidates(
        list(indices), tf.concat(values, 1), tf.repeat(tf.range(len(counts)), tf.stack(counts))
    )


def select_proposals(
    boxes: tf.Tensor,
    logits: tf.Tensor,
    levels: tf.Tensor,
    image_sizes: tf.Tensor,
    *,
    nms_threshold: float,
    post_nms_topk: int,
    min_box_size: float,
    inclusive_boxes: bool = False,
) -> Proposals:
    """What Detectron2's `find_top_rpn_proposals` makes of the best of every level.

    They are clipped to the image; without non-finite and empty ones; NMS per level; the best
    `post_nms_topk` over all levels.

    Args:
        boxes: float32 [B, K, 4], in pixels of the network's input image.
        logits, levels: see `Candidates`.
        image_sizes: int32 [B, 2], (height, width) without padding.
        nms_threshold: IoU above which the lower-scoring box is removed.
        min_box_size: boxes that are not wider and higher than this are dropped.
        inclusive_boxes: see `clip_boxes`.

    Returns:
        By descending logit, in P = `post_nms_topk` slots.
    """
    usable = all_finite(boxes) & tf.math.is_finite(logits)
    boxes = clip_boxes(
        tf.where(usable[..., None], boxes, 0.0), image_sizes, inclusive=inclusive_boxes
    )
    usable &= nonempty(boxes, min_box_size)
    indices, num_valid = best_after_nms(
        boxes,
        tf.where(usable, logits, tf.constant(float("-inf"))),
        tf.broadcast_to(levels, tf.shape(logits)),
        nms_threshold,
        post_nms_topk,
    )
    kept = tf.sequence_mask(num_valid, indices.shape[1])
    return Proposals(
        boxes=tf.where(kept[..., None], tf.gather(boxes, indices, batch_dims=1), 0.0),
        num_valid=num_valid,
        logits=tf.where(kept, tf.gather(logits, indices, batch_dims=1), 0.0),
    )
