"""Batch normalisation for a layer shared by several feature maps."""

from __future__ import annotations

import tensorflow as tf

_EPSILON = 1e-5


class _Statistics(tf.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.running_mean = tf.Variable(tf.zeros([channels]), trainable=False)
        self.running_var = tf.Variable(tf.ones([channels]), trainable=False)


class LevelBatchNorm(tf.Module):
    """Stored statistics of each level, with one scale and shift for all of them.

    Detectron2's `CycleBatchNormList`, which cycles through the levels. Variables are
    `weight` and `bias`, and of level i `i.running_mean` and `i.running_var`, each float32
    [channels].
    """

    def __init__(self, channels: int, levels: int):
        super().__init__()
        self.weight = tf.Variable(tf.ones([channels]))
        self.bias = tf.Variable(tf.zeros([channels]))
        self._statistics = [_Statistics(channels) for _ in range(levels)]
        for level, statistics in enumerate(self._statistics):
            setattr(self, str(level), statistics)

    def __call__(self, x: tf.Tensor, level: int) -> tf.Tensor:
        """x: [..., channels], a feature of the level of this index."""
        statistics = self._statistics[level]
        scale = self.weight * tf.math.rsqrt(statistics.running_var + _EPSILON)
        shift = self.bias - statistics.running_mean * scale
        return x * tf.cast(scale, x.dtype) + tf.cast(shift, x.dtype)
