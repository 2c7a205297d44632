"""Image resizing: Detectron2's size rule and Pillow's bilinear filter, bit for bit."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.shared_function import shared_function

# Pillow's fixed point: 8 bits for the pixel, 2 spare, the rest of 32 for the coefficient.
_PRECISION_BITS = 32 - 8 - 2
_HALF = 1 << (_PRECISION_BITS - 1)


def shortest_edge_size(
    sizes: tf.Tensor, short_edge: int, max_size: int, rule: str = "detectron2"
) -> tf.Tensor:
    """The sizes to which Detectron2's `ResizeShortestEdge` resizes images.

    Args:
        sizes: int32 [..., 2], (height, width).
        short_edge: wanted length of the shorter edge; 0 keeps the size.
        max_size: the longer edge is at most this, at the shorter one's expense.
        rule: whose; torchvision and maskrcnn_benchmark round otherwise, all others as Detectron2.

    Returns:
        int32 [..., 2]. Computed in float64 in Detectron2's order, halves rounded up. At least 1:
        Detectron2 fails where the shorter edge would round to nothing.
    """
    if short_edge == 0:
        return tf.cast(sizes, tf.int32)
    height, width = tf.unstack(tf.cast(sizes, tf.float64), axis=-1)
    target = tf.constant(short_edge, tf.float64)
    if rule == "torchvision":
        scale = tf.minimum(target / tf.minimum(height, width), max_size / tf.maximum(height, width))
        return _at_least_one(tf.math.floor(tf.stack([height * scale, width * scale], -1)))
    if rule == "maskrcnn_benchmark":
        short, long = tf.minimum(height, width), tf.maximum(height, width)
        limited = tf.round(max_size * short / long)  # halves to even
        target = tf.where(long / short * target > max_size, limited, target)
        new_height = tf.where(height <= width, target, target * height / width)
        new_width = tf.where(width <= height, target, target * width / height)
        return _at_least_one(tf.math.floor(tf.stack([new_height, new_width], -1)))
    # The shorter edge is set, not multiplied: short * (target / short) need not be `target`.
    scale = target / tf.minimum(height, width)
    new_height = tf.where(height < width, target, scale * height)
    new_width = tf.where(height < width, scale * width, target)
    longest = tf.maximum(new_height, new_width)
    shrink = tf.where(longest > max_size, max_size / longest, tf.ones_like(longest))
    new = tf.stack([new_height * shrink, new_width * shrink], -1)
    return _at_least_one(tf.math.floor(new + 0.5))


def _at_least_one(sizes: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.cast(sizes, tf.int32), 1)


def resize_bilinear_uint8(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resize as `Image.resize(size, BILINEAR)` does in Pillow 11, to the bit.

    The filter is a triangle as wide as the reduction (so shrinking does not alias); the horizontal
    pass comes first and is rounded to uint8; the coefficients have 22 fractional bits. Pillow 12.2
    and later take the vertical pass first in some shapes, which differs by a grey level here and
    there; Detectron2's published results are older.

    Args:
        image: uint8 [H, W, C], H and W at least 1.
        size: int32 [2], the new (height, width), at least 1 each.

    Returns:
        uint8 [height, width, C].
    """
    if current_backend().native:
        return kernels.library().tfdetect_resize_bilinear_uint8(image=image, size=size)
    channels = image.shape[2]
    if current_backend().fixed_shapes:
        height, width = image.shape[:2]
        new_height, new_width = tf.get_static_value(size).tolist()
        resample = _resample_known
    else:
        height, width, _ = tf.unstack(tf.shape(image))
        new_height, new_width = tf.unstack(size)
        resample = _resample_function()
    # The middle axis each time: nothing is transposed.
    narrow = resample(image, width, new_width)
    resized = resample(tf.reshape(narrow, [1, height, new_width * channels]), height, new_height)
    return tf.reshape(resized, [new_height, new_width, channels])


def _resample_known(image: tf.Tensor, old: int, new: int) -> tf.Tensor:
    """`_resample` of known lengths: what runs the graph needs neither float64 nor loops, which
    OpenVINO does not read from ONNX."""
    with tf.init_scope():
        first, coefficients = (t.numpy() for t in _fixed_point_coefficients(old, new))
    taps = range(coefficients.shape[1])
    return _to_uint8(
        sum(
            (
                _of_tap(image, np.minimum(first + tap, old - 1), coefficients[:, tap])
                for tap in taps
            ),
            start=_HALF,
        )
    )


@functools.cache
def _resample_function() -> Callable[..., tf.Tensor]:
    """`_resample` of every image along both axes."""
    length = tf.TensorSpec([], tf.int32)
    return shared_function(_resample, [tf.TensorSpec([None] * 3, tf.uint8), length, length])


def _resample(image: tf.Tensor, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """Resample the middle axis of uint8 [A, old, B] to the length `new`."""
    first, coefficients = _fixed_point_coefficients(old, new)
    _, taps = tf.unstack(tf.shape(coefficients))

    def of_tap(tap: tf.Tensor) -> tf.Tensor:
        return _of_tap(
            image, tf.minimum(first + tap, old - 1), tf.gather(coefficients, tap, axis=1)
        )

    _, total = tf.while_loop(
        lambda tap, _: tap < taps,
        lambda tap, total: (tap + 1, total + of_tap(tap)),
        [tf.constant(1), of_tap(tf.constant(0)) + _HALF],
    )
    return _to_uint8(total)


def _of_tap(image: tf.Tensor, source: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.gather(image, source, axis=1), tf.int32) * weights[:, None]


def _to_uint8(total: tf.Tensor) -> tf.Tensor:
    # Triangle weights are not negative and sum to one within rounding: only 256 can be exceeded.
    return tf.cast(
        tf.minimum(tf.bitwise.right_shift(total, tf.constant(_PRECISION_BITS)), 255), tf.uint8
    )


def _fixed_point_coefficients(old: tf.Tensor, new: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """For each of `new` positions the first of its `old` sources, and its taps' int32 weights."""
    scale = tf.cast(old, tf.float64) / tf.cast(new, tf.float64)
    support = tf.maximum(scale, 1.0)
    center = (tf.range(tf.cast(new, tf.float64), dtype=tf.float64) + 0.5) * scale
    first = tf.maximum(tf.cast(center - support + 0.5, tf.int32), 0)  # casts truncate, as in C
    last = tf.minimum(tf.cast(center + support + 0.5, tf.int32), old)
    taps = tf.range(tf.cast(tf.math.ceil(support), tf.int32) * 2 + 1)
    distance = tf.cast(first[:, None] + taps, tf.float64) - center[:, None] + 0.5
    weights = tf.maximum(1.0 - tf.abs(distance * (1.0 / support)), 0.0)
    weights = tf.where(taps < (last - first)[:, None], weights, 0.0)
    # Pillow adds the weights one after another; a tree sum could differ in the last bit.
    total = tf.cumsum(weights, axis=1)[:, -1:]
    weights = weights / total * float(1 << _PRECISION_BITS)
    return first, tf.cast(weights + 0.5, tf.int32)
