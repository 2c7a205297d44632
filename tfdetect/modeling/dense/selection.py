"""What dense detectors return of a prediction for every location."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfdetect.layers.profile_scope import profile_scope
from tfdetect.modeling.structures import Instances
from tfdetect.ops.nms import best_after_nms, top_k

Coder = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Called with deltas and the anchors that they refer to, both float32 [..., 4]: gives boxes."""


def of_anchors(level: tf.Tensor, size: int) -> tf.Tensor:
    """[B, H, W, A * size] -> [B, H * W * A, size], in the order of the anchors."""
    batch, height, width, channels = tf.unstack(tf.shape(level))
    # Not -1, which has no meaning for a batch of no image.
    return tf.reshape(level, [batch, height * width * (channels // size), size])


@profile_scope("detections")
def select_dense_detections(
    ranks: Sequence[tf.Tensor],
    deltas: Sequence[tf.Tensor],
    anchors: Sequence[tf.Tensor],
    *,
    to_scores: Callable[[tf.Tensor], tf.Tensor],
    decode: Coder,
    score_threshold: float,
    topk_candidates: int,
    nms_threshold: float,
    max_detections: int,
) -> Instances:
    """The detections among all anchors and classes.

    Takes the best `topk_candidates` (anchor, class) pairs of every level with scores strictly above
    the threshold, applies NMS per class over all levels, and returns the best `max_detections`.
    Pairs are ordered by rank, equal ones by position (level, row, column, anchor, class).

    Args:
        ranks: per level float32 [B, H, W, A * K], which rise with the scores; negative infinity
            marks what is not a candidate.
        deltas: per level float32 [B, H, W, A * 4].
        anchors: per level float32 [H * W * A, 4], in pixels of the network's input image.
        to_scores: from ranks of any shape to scores in [0, 1].
        decode: of the deltas.

    Returns:
        D = `max_detections` slots; boxes are not clipped.

    Detectron2: `DenseDetector._decode_multi_level_predictions`, and then NMS, of RetinaNet and
    FCOS. It orders by score: the same but where RetinaNet's sigmoid saturates, where its order is
    arbitrary.
    """
    lowest = tf.constant(float("-inf"))
    classes = ranks[0].shape[3] * 4 // deltas[0].shape[3]
    level_boxes, level_ranks, level_labels = [], [], []
    for cell_ranks, cell_deltas, cell_anchors in zip(ranks, deltas, anchors, strict=True):
        flat = of_anchors(cell_ranks, 1)[..., 0]
        flat = tf.where(tf.math.is_nan(flat), lowest, flat)
        best, indices = top_k(flat, topk_candidates)
        anchor = indices // classes
        chosen = tf.gather(of_anchors(cell_deltas, 4), anchor, batch_dims=1)
        level_boxes.append(decode(chosen, tf.gather(cell_anchors, anchor)))
        level_ranks.append(best)
        level_labels.append(indices % classes)
    boxes, ranked = tf.concat(level_boxes, 1), tf.concat(level_ranks, 1)
    labels = tf.concat(level_labels, 1)

    ranked = tf.where(to_scores(ranked) > score_threshold, ranked, lowest)
    order, num_valid = best_after_nms(boxes, ranked, labels, nms_threshold, max_detections)
    used = tf.sequence_mask(num_valid, max_detections)
    best = tf.gather(ranked, order, batch_dims=1)
    return Instances(
        pred_boxes=tf.where(used[..., None], tf.gather(boxes, order, batch_dims=1), 0.0),
        scores=tf.where(used, to_scores(best), 0.0),
        pred_classes=tf.where(used, tf.gather(labels, order, batch_dims=1), 0),
        num_detections=num_valid,
    )
