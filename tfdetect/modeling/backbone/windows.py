"""Windows of feature maps, in which transformers attend by themselves."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.shapes import lengths, pad_to_multiple


def window_partition(x: tf.Tensor, window_size: int) -> tuple[tf.Tensor, tuple]:
    """Cut maps into windows; Detectron2's function of this name.

    Args:
        x: [B, H, W, C], zeros are added below and on the right where windows do not fit.
        window_size: side of a window, w.

    Returns:
        [B * windows, w, w, C], those of an image row by row, and the size (height, width) of the
        maps with the zeros, each an int where it is known and an int32 scalar otherwise.
    """
    x = pad_to_multiple(x, window_size)
    batch, height, width, channels = lengths(x)
    rows, columns = height // window_size, width // window_size
    x = tf.reshape(x, [batch * rows, window_size, columns, window_size * channels])
    x = tf.transpose(x, [0, 2, 1, 3])
    windows = tf.reshape(x, [batch * rows * columns, window_size, window_size, channels])
    return windows, (height, width)


def window_unpartition(
    windows: tf.Tensor, window_size: int, padded_size: tuple, size: tuple
) -> tf.Tensor:
    """Maps of their windows, without what was added; Detectron2's function of this name.

    Args:
        windows: [B * windows, w, w, C].
        window_size: w.
        padded_size: (height, width) as `window_partition` gave it.
        size: (H, W) of the maps, each an int or an int32 scalar.

    Returns:
        [B, H, W, C].
    """
    (padded_height, padded_width), (height, width) = padded_size, size
    rows, columns = padded_height // window_size, padded_width // window_size
    count, _, _, channels = lengths(windows)
    batch = count // (rows * columns)
    x = tf.reshape(windows, [batch * rows, columns, window_size, window_size * channels])
    x = tf.transpose(x, [0, 2, 1, 3])
    x = tf.reshape(x, [batch, padded_height, padded_width, channels])
    return x[:, :height, :width]
