"""The largest values, equal ones by index, in runtimes that leave the order of equal keys open."""

from __future__ import annotations

import tensorflow as tf


def top_k_by_index(values: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """What `tf.math.top_k` gives, by sorting keys that differ.

    ONNX says that of equal values the first comes first; OpenVINO's TopK does not keep to it.

    Args:
        values: float32 [B, N] of known shape, without NaN; N less than 2**23.
        k: how many, at most N.

    Returns:
        float32 [B, k], the largest, sorted, and their int32 [B, k] indices; equal values by index.
    """
    count = values.shape[1]
    # The values are the same in whatever order equal ones come.
    best, order = tf.math.top_k(values, k)
    chosen = None
    if k < count:
        # All above the last of them, by index, then as many equal to it as there is room for.
        last = best[:, -1:]
        rank = tf.where(values > last, 2.0 * count, tf.where(values == last, float(count), 0.0))
        _, chosen = tf.math.top_k(rank - tf.range(float(count)), k)
        _, order = tf.math.top_k(tf.gather(values, chosen, batch_dims=1), k)
    # `order` is right but within runs of equal values.
    is_new = tf.cast(best[:, 1:] != best[:, :-1], tf.int32)
    run = tf.pad(tf.cumsum(is_new, axis=1), [[0, 0], [1, 0]])
    _, places = tf.math.top_k(-(run * k + order), k)
    order = tf.gather(order, places, batch_dims=1)
    return best, order if chosen is None else tf.gather(chosen, order, batch_dims=1)
