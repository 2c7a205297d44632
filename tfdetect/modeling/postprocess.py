"""From detections in the network's input to detections in the original image."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.boxes import clip_boxes, nonempty


def rescale_detections(
    detections: dict[str, tf.Tensor], from_sizes: tf.Tensor, to_sizes: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Detectron2's `detector_postprocess`, before the masks are pasted.

    Width and height are scaled separately; boxes are clipped to the new size, and detections whose
    box is then empty are dropped.

    Args:
        detections: what `GeneralizedRCNN` gives, D to an image.
        from_sizes: int32 [B, 2], (height, width) of the images that the detections are in.
        to_sizes: int32 [B, 2], of the images that they are wanted in.

    Returns:
        The same keys but `region_indices`; the detections that are left come first.
    """
    ratio = tf.cast(to_sizes, tf.float64) / tf.cast(from_sizes, tf.float64)
    scale_xy = tf.cast(ratio, tf.float32)[:, ::-1]
    result = {key: value for key, value in detections.items() if key != "region_indices"}
    boxes = result["pred_boxes"] * tf.concat([scale_xy, scale_xy], 1)[:, None]
    boxes = clip_boxes(boxes, to_sizes)
    used = tf.range(tf.shape(boxes)[1]) < result.pop("num_detections")[:, None]
    kept = used & nonempty(boxes)
    result["pred_boxes"] = boxes
    if "pred_keypoints" in result:
        xy, score = tf.split(result["pred_keypoints"], [2, 1], axis=-1)
        result["pred_keypoints"] = tf.concat([xy * scale_xy[:, None, None], score], -1)
    order = tf.argsort(tf.cast(~kept, tf.int32), axis=1, stable=True)
    result = {key: tf.gather(value, order, batch_dims=1) for key, value in result.items()}
    return result | {"num_detections": tf.reduce_sum(tf.cast(kept, tf.int32), 1)}
