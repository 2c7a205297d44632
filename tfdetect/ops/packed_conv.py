"""Convolutions of the CPU whose weights are put in order once: 1 x 1, and 3 x 3 of stride 1.

A 3 x 3 convolution goes by Winograd's minimal filtering (Lavin and Gray, 2016) with tiles of 2 x 2,
whose rounding errors are as small as those of the definition. They are native operators only; what
they mean is `tf.nn.conv2d` with the bias, the addend and the ReLU after it.
"""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops import kernels


def can_pack(weight_shape: tf.TensorShape, stride: int) -> bool:
    """Whether there is a packed convolution for a weight [k, k, Cin, Cout], padded by k // 2.

    Channels that do not fill vectors of 8 (or, of the output, of 16) are left to TensorFlow.
    """
    height, width, inputs, outputs = weight_shape.as_list()
    if inputs % 8 or outputs % 16:
        return False
    return height == width and (height == 1 or (height == 3 and stride == 1))


def pack_weight(weight: tf.Tensor) -> tf.Tensor:
    """The weight of a convolution for `pointwise_conv` or `winograd_conv`.

    Args:
        weight: float32 [1, 1, Cin, Cout] or [3, 3, Cin, Cout].

    Returns:
        float32 [P, Cout / 16, Cin, 16]; P is 1, or the 16 products of a Winograd tile.
    """
    return kernels.library().tfdetect_pack_weights(weight=weight)


def pointwise_conv(
    x: tf.Tensor,
    packed: tf.Tensor,
    bias: tf.Tensor,
    *,
    stride: int,
    relu: bool,
    addend: tf.Tensor | None = None,
) -> tf.Tensor:
    """1 x 1 convolution.

    Args:
        x: float32 [B, H, W, Cin].
        packed: of `pack_weight`.
        bias: float32 [Cout].
        stride: of both axes.
        relu: whether negative results become 0, after all.
        addend: added to the result, float32 of its shape, or None.

    Returns:
        float32 [B, ceil(H / stride), ceil(W / stride), Cout].
    """
    return kernels.library().tfdetect_pointwise_conv(
        x=x,
        packed=packed,
        bias=bias,
        addend=tf.zeros([0]) if addend is None else addend,
        stride=stride,
        relu=relu,
    )


def winograd_conv(
    x: tf.Tensor,
    packed: tf.Tensor,
    bias: tf.Tensor,
    *,
    relu: bool,
    sizes: tf.Tensor | None = None,
) -> tf.Tensor:
    """3 x 3 convolution of stride 1, padded by 1.

    Args:
        x: float32 [B, H, W, Cin].
        packed: of `pack_weight`.
        bias: float32 [Cout].
        relu: whether negative results become 0.
        sizes: int32 [B, 2], the (height, width) of each image's own cells; others count as 0,
            whatever they hold. None: all cells.

    Returns:
        float32 [B, H, W, Cout].
    """
    return kernels.library().tfdetect_winograd_conv(
        x=x,
        packed=packed,
        bias=bias,
        sizes=tf.zeros([0, 2], tf.int32) if sizes is None else sizes,
        relu=relu,
    )
