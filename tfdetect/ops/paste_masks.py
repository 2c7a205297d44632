"""Pastes the square masks predicted by a mask head into the image."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.boxes import all_finite, nonempty


def paste_masks(
    masks: tf.Tensor,
    boxes: tf.Tensor,
    size: tf.Tensor,
    threshold: float = 0.5,
    *,
    as_images: bool = False,
) -> tf.Tensor:
    """Paste soft masks into their boxes (Detectron2's `paste_masks_in_image`).

    Each pixel of the image is sampled at its centre, with bilinear interpolation between the
    centres of the mask's pixels and zeros outside the mask.

    Args:
        masks: float32 [N, M, M], probabilities.
        boxes: float32 [N, 4] XYXY in pixels of the image. Empty or non-finite ones give no pixel.
        size: int32 [2], the image's (height, width).
        threshold: a pixel belongs to the object if its probability is at least this.
        as_images: paste as Detectron, maskrcnn-benchmark and torchvision do: the mask is padded
            with one pixel of zeros, the box grows with it about its centre and is truncated to
            whole pixels, both ends included, the mask is resized to these pixels as an image, and a
            pixel belongs to the object if it is above the threshold (>).

    Returns:
        bool [N, height, width].
    """
    if as_images:
        boxes = _whole_pixels(boxes, tf.shape(masks)[1])
        masks = tf.pad(masks, [[0, 0], [1, 1], [1, 1]])
        threshold = np.nextafter(np.float32(threshold), np.float32(np.inf)).item()
    if current_backend().native:
        return kernels.library().tfdetect_paste_masks(
            masks=masks, boxes=boxes, size=size, threshold=threshold
        )
    usable = all_finite(boxes) & nonempty(boxes)
    boxes = tf.where(usable[:, None], boxes, tf.constant([0.0, 0.0, 1.0, 1.0]))

    def paste(arguments: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        mask, box, use = arguments
        rows = _axis_weights(box[1], box[3], size[0], tf.shape(mask)[0])
        columns = _axis_weights(box[0], box[2], size[1], tf.shape(mask)[1])
        soft = tf.matmul(tf.matmul(rows, mask), columns, transpose_b=True)
        return (soft >= threshold) & use

    # One mask at a time: all of them in float32 would take gigabytes for a large image. An empty
    # one more gives a loop over no masks its shape.
    arguments = tuple(
        tf.pad(t, [[0, 1]] + [[0, 0]] * (len(t.shape) - 1)) for t in (masks, boxes, usable)
    )
    return tf.map_fn(paste, arguments, fn_output_signature=tf.bool)[:-1]


def _whole_pixels(boxes: tf.Tensor, mask_size: tf.Tensor) -> tf.Tensor:
    """The pixels of a mask of `mask_size` pixels along a side and a border of one around it.

    Resizing to these as an image is sampling at the centres of their pixels: the border of zeros
    makes what lies beyond it the same.
    """
    scale = tf.cast(mask_size + 2, tf.float32) / tf.cast(mask_size, tf.float32)
    half = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * scale
    center = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    finite = all_finite(boxes)[:, None]
    # Detectron cuts off the fraction, towards zero.
    low, high = (
        tf.where(finite, tf.sign(end) * tf.floor(tf.abs(end)), end)
        for end in (center - half, center + half)
    )
    return tf.concat([low, tf.maximum(high, low) + 1.0], 1)


def _axis_weights(
    low: tf.Tensor, high: tf.Tensor, size: tf.Tensor, mask_size: tf.Tensor
) -> tf.Tensor:
    """Share of each mask pixel in each of `size` pixels along one axis: float32 [size, pixels]."""
    center = tf.range(tf.cast(size, tf.float32)) + 0.5
    normalized = (center - low) / (high - low) * 2.0 - 1.0
    count = tf.cast(mask_size, tf.float32)
    position = ((normalized + 1.0) * count - 1.0) / 2.0
    return tf.maximum(1.0 - tf.abs(position[:, None] - tf.range(count)), 0.0)
