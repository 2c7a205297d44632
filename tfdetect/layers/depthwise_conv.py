"""Depthwise convolution."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.depthwise_conv import depthwise_conv2d
from tfdetect.ops.empty_batch import with_nonempty_batch


class DepthwiseConv2d(tf.Module):
    """2-D convolution of every channel by itself, the same of all heads, without bias.

    Its variable is `weight`, float32 [kernel_size, kernel_size, 1, channels].

    Args:
        channels: of one head.
        kernel_size: odd; half of it, rounded down, is the padding.
        stride: of both axes.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int):
        super().__init__()
        self._stride = stride
        self._padding = kernel_size // 2
        self.weight = tf.Variable(tf.zeros([kernel_size, kernel_size, 1, channels]))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[B, H, W, heads * channels] -> [B, H / stride, W / stride, heads * channels], rounded up.

        Args:
            x: zero beyond the valid size of each image.
        """

        def convolve(x: tf.Tensor) -> tf.Tensor:
            return depthwise_conv2d(x, self.weight, stride=self._stride, padding=self._padding)

        return with_nonempty_batch(convolve, x)
