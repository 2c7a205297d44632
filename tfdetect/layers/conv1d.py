"""Convolution along one axis with a kernel of one: the same linear layer at every point."""

from __future__ import annotations

import tensorflow as tf


class Conv1d(tf.Module):
    """`torch.nn.Conv1d` with kernel 1, channels last: y = x W + b at every point.

    Variables are `weight` float32 [1, in_channels, out_channels] and `bias` float32
    [out_channels].
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.weight = tf.Variable(tf.zeros([1, in_channels, out_channels]))
        self.bias = tf.Variable(tf.zeros([out_channels]))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[N, P, in_channels] -> [N, P, out_channels], in the type of x."""
        weight = tf.cast(self.weight[0], x.dtype)
        y = tf.matmul(tf.reshape(x, [-1, weight.shape[0]]), weight)
        y = tf.nn.bias_add(y, tf.cast(self.bias, x.dtype))
        shape = tf.shape(x)
        return tf.reshape(y, [shape[0], shape[1], weight.shape[1]])
