"""Fully connected layer."""

from __future__ import annotations

import tensorflow as tf


class Linear(tf.Module):
    """y = x W + b. Variables are `weight` float32 [in_features, out_features] and `bias`.

    Args:
        in_features: length of the input vectors.
        out_features: length of the output vectors.
        flattened: (height, width, channels) where the input is a flattened NHWC map, else None.
            PyTorch flattens channels first, so a foreign checkpoint's weight is permuted.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        flattened: tuple[int, int, int] | None = None,
    ):
        super().__init__()
        self.flattened = flattened
        self.weight = tf.Variable(tf.zeros([in_features, out_features]))
        self.bias = tf.Variable(tf.zeros([out_features]))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[N, in_features] -> [N, out_features]."""
        y = tf.matmul(x, tf.cast(self.weight, x.dtype))
        return tf.nn.bias_add(y, tf.cast(self.bias, x.dtype))
