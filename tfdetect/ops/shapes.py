"""Shapes that are known in part when a graph is made."""

from __future__ import annotations

import tensorflow as tf


def lengths(x: tf.Tensor) -> list:
    """The shape of x, each length an int where it is known and an int32 scalar otherwise."""
    if x.shape.is_fully_defined():
        return x.shape.as_list()
    # One operation for all: a slice for each would have four.
    dynamic = tf.unstack(tf.shape(x))
    return [dynamic[axis] if known is None else known for axis, known in enumerate(x.shape)]


def pad_to_multiple(x: tf.Tensor, multiple: int) -> tf.Tensor:
    """x [B, H, W, C] with zeros below and on the right, up to multiples; as it is where it is known
    to have them."""
    _, height, width, _ = lengths(x)
    below, right = -height % multiple, -width % multiple
    if isinstance(below, int) and isinstance(right, int) and below == right == 0:
        return x
    return tf.pad(x, [[0, 0], [0, below], [0, right], [0, 0]])
