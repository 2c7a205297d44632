"""Group normalisation (Wu and He, 2018) of inference on a CPU.

It exists only as a native operator; elsewhere `tfdetect.layers.norm.GroupNorm` computes the same.
"""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops import kernels


def group_norm(
    x: tf.Tensor,
    weight: tf.Tensor,
    bias: tf.Tensor,
    *,
    groups: int,
    epsilon: float,
    relu: bool,
    sizes: tf.Tensor | None = None,
    residual: tf.Tensor | None = None,
) -> tf.Tensor:
    """Take mean and variance out of each image's groups of channels, then scale and shift.

    Args:
        x: float32 or bfloat16 [B, H, W, C], C a multiple of 8; statistics are float32.
        weight, bias: float32 [C].
        groups: number of groups of contiguous channels.
        epsilon: added to the (biased) variance.
        relu: whether negative results become 0, after all.
        sizes: int32 [B, 2], the valid (height, width) of each image, which the statistics are of.
            None: everything is valid.
        residual: added to the result, of its type and shape; or None.

    Returns:
        The shape and type of x.
    """
    return kernels.library().tfdetect_group_norm(
        x=x,
        weight=weight,
        bias=bias,
        sizes=tf.zeros([0, 2], tf.int32) if sizes is None else sizes,
        residual=tf.zeros([0], x.dtype) if residual is None else residual,
        groups=groups,
        epsilon=epsilon,
        relu=relu,
    )
