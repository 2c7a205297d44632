"""Folding of normalisation by stored statistics into the convolution before it."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdetect.layers.conv import Conv2d
from tfdetect.layers.deform_conv import DeformConv2d
from tfdetect.layers.norm import BatchNorm, GroupNorm, LayerNorm, Shift

_Norm = BatchNorm | GroupNorm | LayerNorm | Shift


class Folded(NamedTuple):
    """What a convolution and its norm are once folded.

    Attributes:
        weight: float32, of the layer's shape.
        bias: float32 [Cout], or None.
        norm: what is left to do after the layer, or None.
    """

    weight: tf.Tensor
    bias: tf.Tensor | None
    norm: _Norm | None


def fold(conv: Conv2d | DeformConv2d, norm: _Norm | None) -> Folded:
    """Fold a FrozenBN or batch norm into the convolution that it follows, for inference.

    A norm of stored statistics is a scale and a shift, and a convolution is linear: the scale goes
    into its weights and the shift into its bias, in float64, rounded once. A convolution with
    groups and a deformable one get a `Shift` for the bias that they cannot have. What depends on
    the input (GroupNorm, LayerNorm) stays.

    Args:
        conv: it keeps its variables.
        norm: what follows it, `conv.norm` or a layer beside it.
    """
    weight = tf.convert_to_tensor(conv.weight)
    bias = None if isinstance(conv, DeformConv2d) else conv.bias
    bias = None if bias is None else tf.convert_to_tensor(bias)
    if not isinstance(norm, BatchNorm):
        return Folded(weight, bias, norm)
    scale, shift = norm.scale_and_shift(tf.float64)
    weight = tf.cast(tf.cast(weight, tf.float64) * scale, tf.float32)
    if bias is not None:
        shift += tf.cast(bias, tf.float64) * scale
    shift = tf.cast(shift, tf.float32)
    if isinstance(conv, DeformConv2d) or conv.groups != 1:
        return Folded(weight, None, Shift(shift))
    return Folded(weight, shift, None)
