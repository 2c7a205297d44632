"""Values that the replicas of a training step share.

Losses are divided by numbers of the whole global batch, and every image has random numbers of its
own: the mean of the replicas' losses is then the loss of one device that has it all. Detectron2's
workers divide each by their own numbers, which is the same where these are equal.
"""

from __future__ import annotations

import tensorflow as tf


def mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """The mean of float32 `value` over the replicas; itself where there is only one."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)


def mean_count(value: tf.Tensor) -> tf.Tensor:
    """The divisor that turns a sum over `value` (an integer) items into a mean: float32.

    It is the mean of the replicas' numbers, so that the mean over replicas of what they get is the
    mean over all items of the global batch. 1 where there are none.
    """
    mean = mean_over_replicas(tf.cast(value, tf.float32))
    return tf.where(mean > 0, mean, 1.0)


def of_first_replica(value: tf.Tensor) -> tf.Tensor:
    """The first replica's float32 `value`, on all replicas."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    is_first = tf.equal(context.replica_id_in_sync_group, 0)
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(is_first, value, 0.0))


def image_seeds(seed: tf.Tensor, batch_size: tf.Tensor) -> tf.Tensor:
    """The seeds [batch_size, 2] of images, the first of which has int [2] `seed`: each one more."""
    numbers = tf.range(batch_size, dtype=seed.dtype)
    return seed + tf.stack([tf.zeros_like(numbers), numbers], 1)
