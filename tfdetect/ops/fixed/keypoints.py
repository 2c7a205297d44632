"""Decoding of keypoint heatmaps, one tile of the enlarged heatmap at a time."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.bicubic import bicubic_weights

# Rows and columns of the enlarged heatmap that are held at a time.
_TILE = 64
_LOWEST = tf.float32.min  # with infinity, what tf2onnx 1.17 makes of tf.where gives NaN


def maximum_by_tiles(heatmap: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The maxima of a bicubically upsampled heatmap, and their first positions.

    Args:
        heatmap: float32 [S, S, K] of known shape.
        pixels: int32 [2], the (width, height) that it is enlarged to.

    Returns:
        float32 [K], and int32 [K]: row * width + column.
    """
    side, _, keypoints = heatmap.shape
    width, height = tf.unstack(pixels)
    across = (width + _TILE - 1) // _TILE
    down = (height + _TILE - 1) // _TILE

    def scan(tile: tf.Tensor, best: tf.Tensor, position: tf.Tensor):
        rows = tile // across * _TILE + tf.range(_TILE)
        columns = tile % across * _TILE + tf.range(_TILE)
        wide = tf.einsum("wx,yxk->ywk", bicubic_weights(side, width, columns), heatmap)
        enlarged = tf.einsum("hy,ywk->hwk", bicubic_weights(side, height, rows), wide)
        inside = (rows < height)[:, None] & (columns < width)
        flat = tf.reshape(tf.where(inside[..., None], enlarged, _LOWEST), [-1, keypoints])
        value = tf.reduce_max(flat, 0)
        index = tf.argmax(flat, 0, output_type=tf.int32)
        here = tf.gather(rows, index // _TILE) * width + tf.gather(columns, index % _TILE)
        better = (value > best) | (value == best) & (here < position)
        return tile - 1, tf.where(better, value, best), tf.where(better, here, position)

    # From the last to the first: tf2onnx 1.17 loses what only a loop's condition captures.
    _, best, position = tf.while_loop(
        lambda tile, *_: tile >= 0,
        scan,
        [across * down - 1, tf.fill([keypoints], _LOWEST), tf.zeros([keypoints], tf.int32)],
        parallel_iterations=1,
    )
    return best, position
