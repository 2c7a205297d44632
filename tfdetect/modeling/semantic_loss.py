"""The loss of a semantic segmentation."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.modeling.replicas import mean_count


def semantic_cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, *, stride: int, ignore_value: int
) -> tf.Tensor:
    """The mean cross entropy of the pixels of a batch that have a class.

    Args:
        logits: float32 [B, H', W', K]; each location stands for `stride` by `stride` pixels, for
            which it is interpolated bilinearly between the locations' centres.
        labels: integer [B, H, W], the class of each pixel in [0, K), or `ignore_value`; H and W are
            at most `stride` times H' and W', and what is beyond them is ignored.
        stride: of the logits in the labels.
        ignore_value: marks pixels that do not count.

    Returns:
        float32 scalar. 0 without a pixel that counts, where Detectron2's is NaN.

    Detectron2: `SemSegFPNHead.losses`, without the weight.
    """
    size = stride * tf.shape(logits)[1:3]
    below, right = tf.unstack(size - tf.shape(labels)[1:3])
    labels = tf.pad(
        tf.cast(labels, tf.int32), [[0, 0], [0, below], [0, right]], constant_values=ignore_value
    )
    return cross_entropy_of_labelled(tf.image.resize(logits, size), labels, ignore_value)


def cross_entropy_of_labelled(logits: tf.Tensor, labels: tf.Tensor, ignore_value: int) -> tf.Tensor:
    """The mean cross entropy of what has a class: a scalar, 0 where nothing has.

    Args:
        logits: float32 [..., K].
        labels: int32 [...], in [0, K) or `ignore_value`.
        ignore_value: marks what does not count.
    """
    counts = labels != ignore_value
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(counts, labels, 0), logits)
    total = tf.reduce_sum(tf.where(counts, losses, 0.0))
    return total / mean_count(tf.math.count_nonzero(counts))
