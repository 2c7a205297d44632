"""From scored boxes of regions to detections."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.boxes import all_finite, clip_boxes
from tfdetect.ops.nms import batched_nms


def select_detections(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    counts: tf.Tensor,
    image_sizes: tf.Tensor,
    *,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
) -> dict[str, tf.Tensor]:
    """Detectron2's `fast_rcnn_inference`.

    Regions with a non-finite number are dropped; boxes clipped to the image; scores strictly above
    the threshold kept; NMS per class; the best `max_detections` of each image by falling score.

    Args:
        boxes: float32 [B, R, K * 4], or [B, R, 4] if the boxes do not depend on the class.
        scores: float32 [B, R, K + 1], background last.
        counts: int32 [B], how many of the R regions of each image are meant.
        image_sizes: int32 [B, 2], (height, width) without padding.

    Returns:
        `pred_boxes` float32 [B, D, 4] in the frame of `boxes`, `scores` float32 [B, D],
        `pred_classes` int32 [B, D], `region_indices` int32 [B, D] (the region that each comes from)
        and `num_detections` int32 [B]; D = `max_detections`, zeros where there are fewer.
    """
    batch, regions, _ = tf.unstack(tf.shape(scores))
    classes = scores.shape[2] - 1
    usable = all_finite(boxes) & tf.reduce_all(tf.math.is_finite(scores), -1)
    usable &= tf.range(regions) < counts[:, None]
    boxes = tf.reshape(boxes, [batch, regions, -1, 4])
    boxes = clip_boxes(tf.where(usable[..., None, None], boxes, 0.0), image_sizes)

    candidate = usable[..., None] & (scores[..., :-1] > score_threshold)
    indices = tf.cast(tf.where(candidate), tf.int32)  # (image, region, class), row-major
    image, region, label = indices[:, 0], indices[:, 1], indices[:, 2]
    box_label = tf.zeros_like(label) if boxes.shape[2] == 1 else label
    candidate_boxes = tf.gather_nd(boxes, tf.stack([image, region, box_label], 1))
    candidate_scores = tf.gather_nd(scores, indices)
    keep = batched_nms(candidate_boxes, candidate_scores, image * classes + label, nms_threshold)

    # By image, and in each by falling score: two stable sorts of what NMS kept.
    order = tf.cast(tf.where(keep)[:, 0], tf.int32)
    by_score = tf.argsort(-tf.gather(candidate_scores, order), stable=True)
    order = tf.gather(order, by_score)
    order = tf.gather(order, tf.argsort(tf.gather(image, order), stable=True))
    owner = tf.gather(image, order)
    kept_per_image = tf.math.bincount(owner, minlength=batch, maxlength=batch)
    rank = tf.range(tf.size(order)) - tf.gather(tf.cumsum(kept_per_image, exclusive=True), owner)
    best = rank < max_detections
    order, slots = order[best], tf.stack([owner[best], rank[best]], 1)

    def place(values: tf.Tensor) -> tf.Tensor:
        chosen = tf.gather(values, order)
        shape = tf.concat([[batch, max_detections], tf.shape(values)[1:]], 0)
        placed = tf.scatter_nd(slots, chosen, shape)
        return tf.ensure_shape(placed, [None, max_detections, *values.shape[1:]])

    return {
        "pred_boxes": place(candidate_boxes),
        "scores": place(candidate_scores),
        "pred_classes": place(label),
        "region_indices": place(region),
        "num_detections": tf.minimum(kept_per_image, max_detections),
    }
