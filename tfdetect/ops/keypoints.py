"""Decoding of keypoint heatmaps into positions in the image."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.bicubic import bicubic_weights
from tfdetect.ops.boxes import all_finite
from tfdetect.ops.fixed.keypoints import maximum_by_tiles

# Longest side, in pixels, to which a heatmap is enlarged. For larger boxes the position is
# interpolated on a coarser grid, which bounds time and memory.
_LONGEST_SIDE = 2**14
# Values of the enlarged heatmap held at a time, over all keypoints.
_BLOCK_VALUES = 2**22


def decode_keypoints(heatmaps: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Find each keypoint as the maximum of its heatmap, enlarged to the size of its box.

    Detectron2's `heatmaps_to_keypoints`: bicubic enlargement to the box's size, rounded up; the
    first maximum in row-major order; its pixel's centre, scaled back to the box.

    Args:
        heatmaps: float32 [N, S, S, K], logits.
        boxes: float32 [N, 4] XYXY in pixels. Sides below 1 count as 1. A box with a NaN or infinite
            coordinate gives zeros.

    Returns:
        float32 [N, K, 4]: x, y in the frame of `boxes`, the logit, and the score: the share of the
        maximum in the softmax over the heatmap at its own resolution.
    """
    if current_backend().native:
        return kernels.library().tfdetect_decode_keypoints(heatmaps=heatmaps, boxes=boxes)
    finite = all_finite(boxes)
    safe = tf.where(finite[:, None], boxes, 0.0)
    keypoints = heatmaps.shape[3]
    decoded = tf.map_fn(
        lambda pair: _decode_one(*pair),
        (heatmaps, safe),
        fn_output_signature=tf.TensorSpec([keypoints, 4], tf.float32),
    )
    return tf.where(finite[:, None, None], decoded, 0.0)


def _decode_one(heatmap: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """float32 [K, 4] of one [S, S, K] heatmap."""
    extent = tf.maximum(box[2:] - box[:2], 1.0)  # width, height
    pixels = tf.minimum(tf.math.ceil(extent), float(_LONGEST_SIDE))
    find = maximum_by_tiles if current_backend().fixed_shapes else _maximum_by_rows
    best, position = find(heatmap, tf.cast(pixels, tf.int32))
    total = tf.reduce_sum(tf.exp(heatmap - best), [0, 1])
    width = tf.cast(pixels[0], tf.int32)
    pixel = tf.cast(tf.stack([position % width, position // width], 1), tf.float32)
    xy = (pixel + 0.5) * (extent / pixels) + box[:2]
    return tf.concat([xy, best[:, None], (1.0 / total)[:, None]], 1)


def _maximum_by_rows(heatmap: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The maxima of a heatmap [S, S, K] after bicubic enlargement, and their first positions.

    Args:
        heatmap: float32.
        pixels: int32 [2], the (width, height) that it is enlarged to.

    Returns:
        float32 [K], and int32 [K]: row * width + column.
    """
    width, height = tf.unstack(pixels)
    side = tf.shape(heatmap)[0]
    keypoints = tf.shape(heatmap)[2]
    rows = bicubic_weights(side, height, tf.range(height))
    wide = tf.einsum("wx,yxk->ywk", bicubic_weights(side, width, tf.range(width)), heatmap)
    block = tf.maximum(_BLOCK_VALUES // (width * keypoints), 1)

    def scan(start: tf.Tensor, best: tf.Tensor, position: tf.Tensor):
        enlarged = tf.einsum("hy,ywk->khw", rows[start : start + block], wide)
        flat = tf.reshape(enlarged, [keypoints, -1])
        value = tf.reduce_max(flat, 1)
        index = tf.argmax(flat, 1, output_type=tf.int32)
        better = value > best  # an equal maximum further down is not the first
        return (
            start + block,
            tf.where(better, value, best),
            tf.where(better, index + start * width, position),
        )

    _, best, position = tf.while_loop(
        lambda start, *_: start < height,
        scan,
        [
            tf.constant(0),
            tf.fill([keypoints], tf.constant(float("-inf"))),
            tf.zeros([keypoints], tf.int32),
        ],
    )
    return best, position
