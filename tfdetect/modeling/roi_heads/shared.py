"""Code shared by all RoI heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.modeling.conventions import conventions
from tfdetect.modeling.roi_heads.pooler import RoIPooler
from tfdetect.modeling.structures import Instances
from tfdetect.ops.backend import current_backend


def make_pooler(cfg: CfgNode, key: str, strides: Sequence[int]) -> RoIPooler:
    """The pooler of the head that is configured at MODEL.`key`."""
    head = cfg.MODEL[key]
    return RoIPooler(
        f"MODEL.{key}",
        head.POOLER_TYPE,
        head.POOLER_RESOLUTION,
        head.POOLER_SAMPLING_RATIO,
        strides,
        level_epsilon=conventions(cfg).level_epsilon,
        inclusive_boxes=conventions(cfg).inclusive_boxes,
        rotated=capabilities(cfg).rotated,
    )


def selection_options(cfg: CfgNode) -> dict[str, Any]:
    """The options of `select_detections`."""
    heads = cfg.MODEL.ROI_HEADS
    return {
        "score_threshold": heads.SCORE_THRESH_TEST,
        "nms_threshold": heads.NMS_THRESH_TEST,
        "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
        "min_box_size": conventions(cfg).least_detection,
        "inclusive_boxes": conventions(cfg).inclusive_boxes,
        "box_dim": capabilities(cfg).box_dim,
    }


def flatten_boxes(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 [B, P, D] -> boxes [B * P, D] and the image of each, int32 [B * P]."""
    batch, count = tf.shape(boxes)[0], tf.shape(boxes)[1]
    return tf.reshape(boxes, [-1, boxes.shape[2]]), tf.repeat(tf.range(batch), count)


def per_image(values: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """[B * P, C], of the flattened `boxes` [B, P, 4], as [B, P, C]."""
    return tf.reshape(values, [tf.shape(boxes)[0], tf.shape(boxes)[1], values.shape[1]])


def predict_on_detections(
    detections: Instances,
    predict: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], dict[str, tf.Tensor]],
) -> Instances:
    """Predict something more of every detection.

    Args:
        detections: what `select_detections` gives, D slots for each of B images.
        predict: maps boxes float32 [R, 4], the image of each int32 [R] and their classes int32 [R]
            to tensors [R, ...] by their names in `Instances`. It sees only slots that hold a
            detection, unless shapes are to be known: then it sees all.

    Returns:
        `detections` with them, zeros in the other slots.
    """
    boxes = detections.pred_boxes
    if current_backend().fixed_shapes:
        return detections._replace(**_predict_on_all_slots(detections, predict))
    slots = tf.where(tf.range(tf.shape(boxes)[1]) < detections.num_detections[:, None])

    def place(values: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([tf.shape(boxes)[:2], tf.shape(values)[1:]], 0)
        return tf.scatter_nd(slots, values, tf.cast(shape, tf.int64))

    predicted = predict(
        tf.gather_nd(boxes, slots),
        tf.cast(slots[:, 0], tf.int32),
        tf.gather_nd(detections.pred_classes, slots),
    )
    return detections._replace(**{name: place(values) for name, values in predicted.items()})


def _predict_on_all_slots(
    detections: Instances,
    predict: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], dict[str, tf.Tensor]],
) -> dict[str, tf.Tensor]:
    boxes = detections.pred_boxes
    used = tf.sequence_mask(detections.num_detections, boxes.shape[1])
    predicted = predict(*flatten_boxes(boxes), tf.reshape(detections.pred_classes, [-1]))
    result = {}
    for name, values in predicted.items():
        placed = tf.reshape(values, [*boxes.shape[:2], *values.shape[1:]])
        mask = tf.reshape(used, [*boxes.shape[:2]] + [1] * (len(placed.shape) - 2))
        result[name] = tf.where(mask, placed, 0.0)
    return result
