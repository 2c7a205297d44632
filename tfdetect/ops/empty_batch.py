"""Convolutions of a batch that may be empty."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def with_nonempty_batch(
    operation: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, *, nonempty: bool = False
) -> tf.Tensor:
    """`operation(x)`, where an empty batch is replaced by a batch of one, all zeros.

    For a batch of 0, TensorFlow's oneDNN kernels (used by default on processors with AVX512-VNNI)
    give the result of a convolution the shape of its input, and the gradients likewise. With
    this, the result has its own shape, and the gradients are zeros. An RoI head without proposals
    has such a batch. A non-empty batch costs one comparison and is not copied.

    Args:
        operation: maps [N, H, W, C] to [N, h, w, c], each element of the batch by itself.
        x: [N, H, W, C].
        nonempty: whether N is known to be positive, whatever the static shape says.

    Returns:
        [N, h, w, c].
    """
    batch = x.shape[0]
    if batch or (batch is None and nonempty):
        return operation(x)

    def one_of_zeros() -> tf.Tensor:
        return tf.pad(x, [[0, 1], [0, 0], [0, 0], [0, 0]])  # differentiable in x

    count = tf.shape(x)[0]
    filled = one_of_zeros() if batch == 0 else tf.cond(count > 0, lambda: x, one_of_zeros)
    y = operation(tf.ensure_shape(filled, [None, *x.shape[1:]]))
    return tf.ensure_shape(tf.slice(y, [0, 0, 0, 0], [count, -1, -1, -1]), [batch, *y.shape[1:]])
