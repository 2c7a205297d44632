"""Bicubic enlargement as a matrix."""

from __future__ import annotations

import tensorflow as tf

# Coefficient of the cubic convolution kernel (Keys, 1981), as in PyTorch's bicubic mode.
# TensorFlow's resize uses -0.5 and renormalises at the border, which moves the maximum.
_CUBIC_A = -0.75


def bicubic_weights(old: tf.Tensor, new: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Some rows of the matrix [new, old] of `torch.nn.functional.interpolate(mode="bicubic")`.

    Pixel centres correspond (align_corners=False); sources outside are those at the border.

    Args:
        old: int32, the length of an axis before.
        new: int32 [...], its length after, of one map or of each of several.
        rows: int32 [R], which of the `new` positions.

    Returns:
        float32 [..., R, old].
    """
    scale = tf.cast(old, tf.float32) / tf.cast(new, tf.float32)
    # tf2onnx 1.17 cannot convert the slice [..., None] of a scalar.
    position = (tf.cast(rows, tf.float32) + 0.5) * tf.expand_dims(scale, -1) - 0.5
    low = tf.math.floor(position)
    t = position - low
    near = tf.stack([t, 1.0 - t], -1)
    far = near + 1.0
    inner = ((_CUBIC_A + 2.0) * near - (_CUBIC_A + 3.0)) * near * near + 1.0
    outer = ((_CUBIC_A * far - 5.0 * _CUBIC_A) * far + 8.0 * _CUBIC_A) * far - 4.0 * _CUBIC_A
    taps = tf.stack([outer[..., 0], inner[..., 0], inner[..., 1], outer[..., 1]], -1)
    source = tf.cast(low, tf.int32)[..., None] + tf.range(-1, 3)
    source = tf.clip_by_value(source, 0, old - 1)
    return tf.reduce_sum(taps[..., None] * tf.one_hot(source, old), -2)
