"""Pastes the masks of an image and encodes them, without all of them in memory at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfdetect.rle_masks import RLEMasks, encode_part

# Pixels of masks that are pasted at once; one mask at least.
_PIXELS = 2**25


def paste_encoded(
    paste: Callable[[tf.Tensor, tf.Tensor, np.ndarray], tf.Tensor],
    masks: tf.Tensor,
    boxes: tf.Tensor,
    size: np.ndarray,
) -> RLEMasks:
    """The runs of what `paste_masks` gives.

    Args:
        paste: `tfdetect.ops.paste_masks.paste_masks`, of either convention.
        masks: float32 [N, M, M], probabilities.
        boxes: float32 [N, 4] XYXY in pixels of the image.
        size: int32 [2], the image's (height, width).
    """
    height, width = (int(length) for length in size)
    at_once = max(1, _PIXELS // (height * width))
    windows = _windows(np.asarray(boxes), masks.shape[-1], height, width).tolist()
    result = RLEMasks(height, width)
    for start in range(0, len(windows), at_once):
        some = slice(start, start + at_once)
        pasted = paste(masks[some], boxes[some], size).numpy()
        for mask, (left, top, right, bottom) in zip(pasted, windows[some], strict=True):
            result.runs.append(encode_part(mask[top:bottom, left:right], top, left, height))
    return result


def _windows(boxes: np.ndarray, mask_size: int, height: int, width: int) -> np.ndarray:
    """int [N, 4] (left, top, right, bottom): all pixels that a pasted mask can have.

    A mask that is pasted as an image has a border of one of its pixels around the box.
    """
    boxes = boxes.astype(np.float64)
    with np.errstate(invalid="ignore"):
        border = abs(boxes[:, 2:] - boxes[:, :2]) / mask_size + 2
    # Boxes of a side below zero give a pixel, too, when they are pasted as images.
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    around = np.concatenate([low - border, high + border], axis=1)
    # A box that is not finite gives no pixel.
    around[~np.isfinite(around).all(1)] = 0
    return np.clip(around, 0, [width, height, width, height]).astype(int)
