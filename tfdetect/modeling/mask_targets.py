"""The mask head's targets from polygons, inside a training step."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdetect.masks.polygon_rows import crop_polygon_rows


def mask_targets(
    polygons: tf.Tensor, boxes: tf.Tensor, indices: tf.Tensor, mask_size: int
) -> tf.Tensor:
    """Mask targets: each box's crop of the object it is matched to, for a batch of images.

    Rasterised by pycocotools, on the CPU and in this process: a `tf.function` that has it cannot be
    compiled by XLA (`jit_compile`) or saved. It depends on its arguments alone.

    Args:
        polygons: float64 [B, P, 4] rows of `tfdetect.masks.polygon_rows`, padded.
        boxes: float32 [B, R, 4] XYXY in pixels of the augmented images.
        indices: int32 [B, R], the object in its image that each box is matched to; negative for a
            box without one, which costs nothing.
        mask_size: M, the side of a target.

    Returns:
        bool [B, R, M, M]; all false for a box without object.

    Detectron2: `PolygonMasks.crop_and_resize`.
    """

    def crop(polygons: np.ndarray, boxes: np.ndarray, indices: np.ndarray) -> np.ndarray:
        masks = np.zeros((*indices.shape, mask_size, mask_size), dtype=bool)
        for image in range(len(masks)):
            masks[image] = crop_polygon_rows(
                polygons[image], boxes[image], indices[image], mask_size
            )
        return masks

    masks = tf.numpy_function(crop, [polygons, boxes, indices], tf.bool, stateful=False)
    return tf.ensure_shape(masks, [*indices.shape, mask_size, mask_size])
