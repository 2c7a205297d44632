"""Probabilities from logits."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.backend import current_backend


def sigmoid(x: tf.Tensor) -> tf.Tensor:
    """1 / (1 + exp(-x)) of float32 x, of its shape.

    In a graph of fixed shapes it is written like this: LiteRT's converter would give the operator
    of this name 8 bits in a file with int8 layers, and so equal scores to different objects.
    """
    if current_backend().fixed_shapes:
        return 1 / (1 + tf.exp(-x))
    return tf.sigmoid(x)


def softmax(x: tf.Tensor) -> tf.Tensor:
    """exp(x) / sum(exp(x)) along the last axis, of float32 x and its shape; see `sigmoid`."""
    if current_backend().fixed_shapes:
        powers = tf.exp(x - tf.reduce_max(x, -1, keepdims=True))
        return powers / tf.reduce_sum(powers, -1, keepdims=True)
    return tf.nn.softmax(x)
