"""Division by a number that is known when a graph is made."""

from __future__ import annotations

import tensorflow as tf


def divide(values: tf.Tensor, divisor: float) -> tf.Tensor:
    """values / divisor, rounded once; float of any shape.

    By a constant, TensorFlow's graphs multiply with its reciprocal, which rounds twice: where
    samples lie, or whole numbers between which a bin ends, would differ from Detectron2's.
    """
    return values / (tf.minimum(tf.abs(values), 0.0) + divisor)  # no constant, and the divisor
