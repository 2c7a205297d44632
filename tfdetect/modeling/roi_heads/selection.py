"""Selects detections from scored boxes."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.errors import InputError
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.modeling.structures import Instances
from tfdetect.ops.backend import current_backend
from tfdetect.ops.boxes import all_finite, clip_boxes, nonempty
from tfdetect.ops.nms import best_after_nms


@profile_scope("detections")
def select_detections(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    num_valid: tf.Tensor,
    image_sizes: tf.Tensor,
    *,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
    min_box_size: float = -1.0,
    inclusive_boxes: bool = False,
    box_dim: int = 4,
) -> Instances:
    """Detectron2's `fast_rcnn_inference`, and of rotated boxes `fast_rcnn_inference_rotated`.

    Drops proposals with non-finite values, clips boxes to the image, keeps scores strictly above
    the threshold, applies NMS per class, and returns the best `max_detections` of each image by
    descending score.

    Args:
        boxes: float32 [B, R, K * box_dim], or [B, R, box_dim] if the boxes do not depend on the
            class.
        scores: float32 [B, R, K + 1], background last.
        num_valid: int32 [B], how many of each image's R regions there are.
        image_sizes: int32 [B, 2], (height, width) without padding.
        min_box_size: boxes not wider and higher than this are dropped before NMS.
        inclusive_boxes: see `clip_boxes`.
        box_dim: 4, or 5 for rotated boxes.

    Returns:
        D = `max_detections` slots, in the frame of `boxes`. Where it is negative all are kept, and
        D is the largest number of an image.

    Raises:
        InputError: `Backend.fixed_shapes` is set, and `max_detections` is negative.
    """
    if max_detections < 0 and current_backend().fixed_shapes:
        raise InputError(
            f"TEST.DETECTIONS_PER_IMAGE: is {max_detections}, which leaves the number open, and a "
            "model of fixed shapes needs one; convert the model with a number"
        )
    if not scores.shape[1]:
        # Empty slots are gathered from the first region, so that there has to be one.
        missing = tf.maximum(1 - tf.shape(scores)[1], 0)
        boxes, scores = (tf.pad(x, [[0, 0], [0, missing], [0, 0]]) for x in (boxes, scores))
    batch, regions, _ = tf.unstack(tf.shape(scores))
    classes = scores.shape[2] - 1
    usable = all_finite(boxes) & tf.reduce_all(tf.math.is_finite(scores), -1)
    usable &= tf.range(regions) < num_valid[:, None]
    boxes = tf.reshape(boxes, [batch, regions, -1, box_dim])
    boxes = clip_boxes(
        tf.where(usable[..., None, None], boxes, 0.0), image_sizes, inclusive=inclusive_boxes
    )

    candidate = usable[..., None] & (scores[..., :-1] > score_threshold)
    if min_box_size >= 0:
        candidate &= nonempty(boxes, min_box_size)
    ranked = tf.where(candidate, scores[..., :-1], tf.constant(float("-inf")))
    labels = tf.broadcast_to(tf.range(classes), tf.shape(ranked))
    boxes = tf.broadcast_to(boxes, tf.concat([tf.shape(ranked), [box_dim]], 0))
    # Pairs of a region and a class in row-major order, which is that of equal scores.
    boxes, ranked, labels = (
        tf.reshape(values, [batch, regions * classes, *values.shape[3:]])
        for values in (boxes, ranked, labels)
    )
    detections = keep_best(boxes, ranked, labels, nms_threshold, max_detections)
    return detections._replace(region_indices=detections.region_indices // classes)


def keep_best(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    classes: tf.Tensor,
    nms_threshold: float,
    max_detections: int,
) -> Instances:
    """NMS within each class, and the best that are left of each image.

    Args:
        boxes: float32 [B, N, 4], or rotated ones [B, N, 5]; N at least 1.
        scores: float32 [B, N]; negative infinity marks boxes that are not candidates.
        classes: int32 [B, N].
        nms_threshold: see `batched_nms`.
        max_detections: D; negative for all, where D is the largest number of an image.

    Returns:
        D slots; `region_indices` are indices into N. Equal scores come in the order of N.
    """
    slots = tf.shape(scores)[1] if max_detections < 0 else max_detections
    indices, num_valid = best_after_nms(boxes, scores, classes, nms_threshold, slots)
    if max_detections < 0:
        slots = tf.reduce_max(tf.pad(num_valid, [[0, 1]]))  # 0 in a batch of no image
        indices = indices[:, :slots]
    used = tf.sequence_mask(num_valid, slots)

    def place(values: tf.Tensor) -> tf.Tensor:
        chosen = tf.gather(values, indices, batch_dims=1)
        return tf.where(used if len(chosen.shape) == 2 else used[..., None], chosen, 0)

    return Instances(
        pred_boxes=place(boxes),
        scores=place(scores),
        pred_classes=place(classes),
        num_detections=num_valid,
        region_indices=tf.where(used, indices, 0),
    )
