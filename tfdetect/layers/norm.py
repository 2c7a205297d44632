"""Normalisation layers, with Detectron2's names and epsilons."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.errors import InputError

_EPSILON = 1e-5
_GROUPS = 32
_BATCH_NORMS = ("FrozenBN", "BN", "SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")
# What `make_norm` knows.
NORMS = ("", *_BATCH_NORMS, "GN")


class BatchNorm(tf.Module):
    """Batch normalisation with stored statistics (FrozenBN; BN and SyncBN at inference).

    Variables are `weight`, `bias`, `running_mean` and `running_var`, each float32 [channels].
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = tf.Variable(tf.ones([channels]))
        self.bias = tf.Variable(tf.zeros([channels]))
        self.running_mean = tf.Variable(tf.zeros([channels]), trainable=False)
        self.running_var = tf.Variable(tf.ones([channels]), trainable=False)

    def scale_and_shift(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The layer as y = x * scale + shift, both float32 [channels]."""
        scale = self.weight * tf.math.rsqrt(self.running_var + _EPSILON)
        return scale, self.bias - self.running_mean * scale

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """x: [..., channels]."""
        scale, shift = self.scale_and_shift()
        return x * tf.cast(scale, x.dtype) + tf.cast(shift, x.dtype)


class GroupNorm(tf.Module):
    """Group normalisation (Wu and He, 2018) over contiguous channels: `torch.nn.GroupNorm(32, C)`.

    Variables are `weight` and `bias`, float32 [channels].
    """

    def __init__(self, channels: int, groups: int = _GROUPS):
        super().__init__()
        self._groups = groups
        self.weight = tf.Variable(tf.ones([channels]))
        self.bias = tf.Variable(tf.zeros([channels]))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """x: [N, H, W, channels]; statistics are float32 whatever the type of x."""
        shape = tf.shape(x)
        channels = x.shape[-1]
        grouped = tf.reshape(
            tf.cast(x, tf.float32),
            tf.concat([shape[:3], [self._groups, channels // self._groups]], 0),
        )
        centred = grouped - _group_mean(grouped)
        variance = _group_mean(tf.square(centred))
        y = tf.reshape(centred * tf.math.rsqrt(variance + _EPSILON), shape)
        return tf.cast(y * self.weight + self.bias, x.dtype)


def _group_mean(x: tf.Tensor) -> tf.Tensor:
    """The mean over height, width and channels of [N, H, W, groups, C]: [N, 1, 1, groups, 1].

    One axis after the other: TensorFlow adds up in a row, and in float32 a sum of half a million
    terms is off by 1e-4 of itself.
    """
    for axis in (4, 2, 1):
        x = tf.reduce_mean(x, axis, keepdims=True)
    return x


def make_norm(name: str, channels: int) -> BatchNorm | GroupNorm | None:
    """The layer that Detectron2 calls `name`, None for "".

    FrozenBN, BN, SyncBN and its variants nnSyncBN, naiveSyncBN and naiveSyncBN_N, which differ only
    in the statistics of training; GN.

    Raises:
        InputError: the channels do not make 32 groups for GN.
        ValueError: there is no such layer.
    """
    if name == "":
        return None
    if name in _BATCH_NORMS:
        return BatchNorm(channels)
    if name == "GN":
        if channels % _GROUPS:
            raise InputError(f"NORM: GN has {_GROUPS} groups, into which {channels} do not divide")
        return GroupNorm(channels)
    raise ValueError(f"{name!r} is none of {NORMS}")
