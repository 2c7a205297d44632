"""Detections in the names and conventions of the TF Object Detection API."""

from __future__ import annotations

import tensorflow as tf


def to_od_api(found: dict[str, tf.Tensor], size: tf.Tensor) -> dict[str, tf.Tensor]:
    """Rename and normalise.

    Args:
        found: of `Servable`, with zeros beyond the number of detections.
        size: int32 [2], (height, width) of every image.

    Returns:
        All float32: `detection_boxes` [N, D, 4], (ymin, xmin, ymax, xmax) as shares of height and
        width; `detection_scores` [N, D]; `detection_classes` [N, D], from 1; `num_detections` [N];
        where the model has them `detection_masks` [N, D, M, M], probabilities within the box, and
        `detection_keypoints` [N, D, K, 2], (y, x) as shares, with `detection_keypoint_scores`
        [N, D, K].
    """
    scale_yx = tf.cast(size, tf.float32)
    result = {
        "detection_boxes": tf.gather(found["pred_boxes"], [1, 0, 3, 2], axis=2)
        / tf.concat([scale_yx, scale_yx], 0),
        "detection_scores": found["scores"],
        "detection_classes": tf.cast(found["pred_classes"] + 1, tf.float32),
        "num_detections": tf.cast(found["num_detections"], tf.float32),
    }
    if "pred_masks" in found:
        result["detection_masks"] = found["pred_masks"]
    if "pred_keypoints" in found:
        keypoints = found["pred_keypoints"]
        result["detection_keypoints"] = tf.reverse(keypoints[..., :2], [3]) / scale_yx
        result["detection_keypoint_scores"] = keypoints[..., 2]
    return result
