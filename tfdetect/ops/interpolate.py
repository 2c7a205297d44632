"""Bilinear interpolation of float maps between pixel centres."""

from __future__ import annotations

import tensorflow as tf


def upsample_2x_bilinear(maps: tf.Tensor) -> tf.Tensor:
    """Maps [N, H, W, C] of twice the height and width; N may be 0.

    `torch.nn.functional.interpolate` with scale_factor=2 in mode bilinear, align_corners=False.
    """
    before = tf.concat([maps[:, :1], maps[:, :-1]], 1)
    after = tf.concat([maps[:, 1:], maps[:, -1:]], 1)
    high = tf.stack([before * 0.25 + maps * 0.75, maps * 0.75 + after * 0.25], 2)
    batch, height, width, channels = tf.unstack(tf.shape(maps))
    high = tf.reshape(high, [batch, 2 * height, width, channels])
    before = tf.concat([high[:, :, :1], high[:, :, :-1]], 2)
    after = tf.concat([high[:, :, 1:], high[:, :, -1:]], 2)
    both = tf.stack([before * 0.25 + high * 0.75, high * 0.75 + after * 0.25], 3)
    return tf.reshape(both, [batch, 2 * height, 2 * width, channels])


def bilinear_rows(maps: tf.Tensor, rows: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Some rows of `maps` resized to `size`.

    `torch.nn.functional.interpolate` in mode bilinear with align_corners=False, whose result need
    not be held as a whole. (`tf.image.resize` is the same for all rows.)

    Args:
        maps: float32 [H, W, C].
        rows: int32 [R], which rows of the result.
        size: int32 [2], its (height, width).

    Returns:
        float32 [R, width, C].
    """
    shape = tf.shape(maps)
    low, high, weight = _taps(rows, shape[0], size[0])
    weight = weight[:, None, None]
    picked = tf.gather(maps, low) * (1 - weight) + tf.gather(maps, high) * weight
    low, high, weight = _taps(tf.range(size[1]), shape[1], size[1])
    weight = weight[:, None]
    return tf.gather(picked, low, axis=1) * (1 - weight) + tf.gather(picked, high, axis=1) * weight


def _taps(
    positions: tf.Tensor, old: tf.Tensor, new: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The two sources of each position along an axis, and the weight of the second."""
    scale = tf.cast(old, tf.float32) / tf.cast(new, tf.float32)
    source = tf.maximum((tf.cast(positions, tf.float32) + 0.5) * scale - 0.5, 0.0)
    low = tf.minimum(tf.cast(source, tf.int32), old - 1)
    return low, tf.minimum(low + 1, old - 1), source - tf.cast(low, tf.float32)
