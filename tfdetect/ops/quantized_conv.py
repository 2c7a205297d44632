"""Convolutions of uint8 activations by int8 weights, summed exactly in int32.

An activation is (q - zero_point) * scale, where the zero point is 0 for what is never negative and
128 for what is; a weight is q * weight_scale[c] of its output channel c. The native operators, for
CPUs, give the same bits with every instruction set; the portable ones sum in float32.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from tfdetect.errors import InputError
from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.conv import conv2d
from tfdetect.ops.empty_batch import with_nonempty_batch


def quantize(x: tf.Tensor, *, scale: float, zero_point: int) -> tf.Tensor:
    """The nearest (q - zero_point) * scale.

    Args:
        x: float32 of any shape.
        scale: of a step, more than 0. Products are with 1 / scale, rounded to float32.
        zero_point: the q of 0 and NaN, in [0, 255].

    Returns:
        uint8 of x's shape. Ties are rounded to even, and what lies beyond 0 or 255 becomes that.

    Raises:
        InputError: scale or zero_point is not one.
    """
    inverse = _inverse(scale)
    _check(zero_point)
    if current_backend().native_on_cpu:
        return kernels.library().tfdetect_quantize(
            x=x, inverse_scale=inverse, zero_point=zero_point
        )
    return _quantize(x, inverse, zero_point)


def quantized_conv(
    x: tf.Tensor,
    weight: tf.Tensor,
    multiplier: tf.Tensor,
    bias: tf.Tensor,
    *,
    zero_point: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
    relu: bool,
    sizes: tf.Tensor | None = None,
    residual: tf.Tensor | None = None,
    residual_scale: float = 1.0,
    residual_zero_point: int = 0,
    output_scale: float | None = None,
    output_zero_point: int = 0,
) -> tf.Tensor:
    """2-D convolution with zeros (x = zero_point) around x.

    Each step is rounded to float32 once: sum((x - zero_point) * weight), * multiplier, + bias,
    + residual, ReLU.

    Args:
        x: uint8 [B, H, W, Cin].
        weight: int8 [k, k, Cin / groups, Cout]. The native kernel packs it in its first call with
            it, and keeps that while the weight stays the same.
        multiplier: float32 [Cout]: the scale of x times that of the channel's weights.
        bias: float32 [Cout].
        zero_point: of x.
        kernel_size: k.
        stride, padding, dilation: of both axes.
        groups: number of channel groups.
        relu: whether negative results become 0, after all.
        sizes: int32 [B, 2], the valid (height, width) of each image; the rest is read as
            zero_point. None: everything is valid.
        residual: added to the result: float32 or uint8, of its shape, or of half its height and
            width, which is upsampled 2x; or None.
        residual_scale, residual_zero_point: of the residual, where it is uint8.
        output_scale, output_zero_point: with which the result is quantized; None: it is not.

    Returns:
        [B, h, w, Cout], h = (H + 2 padding - dilation (k - 1) - 1) // stride + 1: float32, or
        uint8 if it is quantized.

    Raises:
        InputError: a scale or a zero point is not one.
    """
    for point in (zero_point, residual_zero_point, output_zero_point):
        _check(point)
    inverse = None if output_scale is None else _inverse(output_scale)
    if current_backend().native_on_cpu:
        return kernels.library().tfdetect_quantized_conv(
            x=x,
            weight=weight,
            multiplier=multiplier,
            bias=bias,
            sizes=tf.zeros([0, 2], tf.int32) if sizes is None else sizes,
            residual=tf.zeros([0]) if residual is None else residual,
            zero_point=zero_point,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            groups=groups,
            dilation=dilation,
            relu=relu,
            residual_scale=residual_scale,
            residual_zero_point=residual_zero_point,
            inverse_scale=1.0 if inverse is None else inverse,
            output_zero_point=output_zero_point,
            T=tf.float32 if inverse is None else tf.uint8,
        )
    steps = _steps(x, zero_point)
    if sizes is not None:
        steps = tf.where(_valid(x, sizes), steps, 0.0)
    kernel = tf.cast(weight, tf.float32)

    def convolve(steps: tf.Tensor) -> tf.Tensor:
        return conv2d(steps, kernel, stride=stride, padding=padding, dilation=dilation)

    y = with_nonempty_batch(convolve, steps, nonempty=sizes is not None) * multiplier + bias
    if residual is not None:
        residual = _values(tf.convert_to_tensor(residual), residual_scale, residual_zero_point)
        y += _as_large(residual, y)
    if relu:
        y = tf.nn.relu(y)
    return y if inverse is None else _quantize(y, inverse, output_zero_point)


def _inverse(scale: float) -> float:
    """1 / scale, rounded to float32 once."""
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"scale {scale}: it must be a positive number")
    if not 1e-37 < 1 / scale < 1e38:
        raise InputError(f"scale {scale}: its inverse is beyond float32")
    return float(np.float32(1 / scale))


def _check(zero_point: int) -> None:
    if not 0 <= zero_point <= 255:
        raise InputError(f"zero point {zero_point}: it must lie in [0, 255]")


def _quantize(x: tf.Tensor, inverse: float, zero_point: int) -> tf.Tensor:
    steps = tf.round(x * inverse)
    steps = tf.where(tf.math.is_nan(steps), 0.0, steps)
    return tf.cast(tf.clip_by_value(steps + float(zero_point), 0.0, 255.0), tf.uint8)


def _steps(x: tf.Tensor, zero_point: int) -> tf.Tensor:
    return tf.cast(x, tf.float32) - float(zero_point)


def _values(x: tf.Tensor, scale: float, zero_point: int) -> tf.Tensor:
    return x if x.dtype == tf.float32 else _steps(x, zero_point) * scale


def _valid(x: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """Which pixels lie within the sizes: bool [B, H, W, 1]."""
    rows = tf.range(tf.shape(x)[1]) < sizes[:, :1]
    columns = tf.range(tf.shape(x)[2]) < sizes[:, 1:]
    return (rows[:, :, None] & columns[:, None])[..., None]


def _as_large(residual: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The residual upsampled 2x, if y is twice as large."""
    if residual.shape[1:3].is_fully_defined() and residual.shape[1:3] == y.shape[1:3]:
        return residual
    for axis in (1, 2):
        size = tf.shape(y)[axis]
        residual = tf.gather(residual, tf.range(size) * tf.shape(residual)[axis] // size, axis=axis)
    return residual
