"""Folding of normalisation by stored statistics into the convolutions before it."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.conv import Conv2d
from tfdetect.layers.deform_conv import DeformConv2d
from tfdetect.layers.norm import BatchNorm, Shift


def fold_norms(model: tf.Module) -> None:
    """Fold every FrozenBN and batch norm into the convolution that it follows, for inference.

    A norm of stored statistics is a scale and a shift, and a convolution is linear: the scale goes
    into its weights and the shift into its bias, in float64, rounded once. A convolution with
    groups and a deformable one get a `Shift` for the bias that they cannot have. What depends on
    the input (GroupNorm) or on the level of a shared convolution (`LevelBatchNorm`) stays.

    The model no longer trains after this, nor has it the variables of Detectron2's checkpoints.

    Args:
        model: changed in place; a layer whose convolution and norm are siblings, not `conv.norm`,
            names such pairs of attributes in `normalized`.
    """
    for module in (model, *model.submodules):
        if isinstance(module, (Conv2d, DeformConv2d)) and isinstance(module.norm, BatchNorm):
            _replace(module, "norm", _fold(module, module.norm))
        for conv_name, norm_name in getattr(module, "normalized", ()):
            norm = getattr(module, norm_name, None)
            if isinstance(norm, BatchNorm):
                _replace(module, norm_name, _fold(getattr(module, conv_name), norm))


def _fold(conv: Conv2d | DeformConv2d, norm: BatchNorm) -> Shift | None:
    """Put `norm` into the layer; what is left of it to do after the layer."""
    scale, shift = norm.scale_and_shift(tf.float64)
    weight = tf.cast(tf.cast(conv.weight, tf.float64) * scale, tf.float32)
    conv.weight = tf.Variable(weight, trainable=False)
    if isinstance(conv, DeformConv2d):
        return Shift(tf.cast(shift, tf.float32))
    if conv.bias is not None:
        shift += tf.cast(conv.bias, tf.float64) * scale
        _replace(conv, "bias", None)
    if conv.groups != 1:
        return Shift(tf.cast(shift, tf.float32))
    conv.bias = tf.Variable(tf.cast(shift, tf.float32), trainable=False)
    return None


def _replace(module: tf.Module, name: str, value: Shift | None) -> None:
    # What a module once held is saved with it, even after another value has its place; not if it
    # was deleted.
    delattr(module, name)
    setattr(module, name, value)
