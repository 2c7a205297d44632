"""Probabilities from logits.

LiteRT's converter gives probabilities 8 bits in a file with int8 layers, and so equal scores to
different objects. It knows its sigmoid and softmax by their operators or by their usual formulas:
graphs of fixed shapes have others.
"""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.backend import current_backend


def sigmoid(x: tf.Tensor) -> tf.Tensor:
    """1 / (1 + exp(-x)) of float32 x, of its shape."""
    if current_backend().fixed_shapes:
        power = tf.exp(-tf.abs(x))
        return tf.where(x < 0, power, tf.ones_like(power)) / (1 + power)
    return tf.sigmoid(x)


def softmax(x: tf.Tensor) -> tf.Tensor:
    """exp(x) / sum(exp(x)) along the last axis, of float32 x and its shape."""
    if current_backend().fixed_shapes:
        powers = tf.exp(x - tf.reduce_max(x, -1, keepdims=True))
        return powers * (1 / tf.reduce_sum(powers, -1, keepdims=True))
    return tf.nn.softmax(x)
