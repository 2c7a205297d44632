"""Depthwise 2-D convolution with PyTorch's padding."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.backend import current_backend


def depthwise_conv2d(x: tf.Tensor, weight: tf.Tensor, *, stride: int, padding: int) -> tf.Tensor:
    """2-D convolution of every channel by itself, with zeros around x.

    TensorFlow's own depthwise kernels, which are exact at any stride and padding, as fast as
    memory on a CPU, and differentiable everywhere, unlike its grouped convolutions.

    Args:
        x: float [B, H, W, heads * C], the channels of each head side by side.
        weight: float32 [k, k, 1, C], of the channels of every head alike.
        stride, padding: of both axes.

    Returns:
        [B, h, w, heads * C] in the type of x, h = (H + 2 padding - k) // stride + 1.

    `torch.nn.functional.conv2d` with as many groups as channels, of each head.
    """
    heads = x.shape[3] // weight.shape[3]
    weight = tf.cast(tf.transpose(weight, [0, 1, 3, 2]), x.dtype)
    weight = tf.tile(weight, [1, 1, heads, 1])
    strides = [1, stride, stride, 1]
    sides = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    # XLA, ONNX and LiteRT know depthwise convolutions with no padding of their own.
    if current_backend().fixed_shapes:
        return tf.nn.depthwise_conv2d(tf.pad(x, sides), weight, strides, "VALID")
    return tf.nn.depthwise_conv2d(x, weight, strides, sides)
