"""Swin's attention with what follows from its weights computed once."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.modeling.backbone.swin import WindowAttention


class StoredBiasAttention(WindowAttention):
    """A `WindowAttention` that has the bias of its logits, not the table that it is gathered from.

    Args:
        attention: which it takes the place of.
        qkv, proj: its layers, optimized.
        dtype: of the features.
    """

    def __init__(
        self, attention: WindowAttention, qkv: tf.Module, proj: tf.Module, dtype: tf.DType
    ):
        tf.Module.__init__(self)
        self.num_heads = attention.num_heads
        self.scale = attention.scale
        bias = tf.cast(attention.relative_position_bias(), dtype)
        self.bias = tf.Variable(bias, trainable=False)
        self.qkv = qkv
        self.proj = proj

    def relative_position_bias(self) -> tf.Tensor:
        """[num_heads, w * w, w * w], in the type of the features."""
        return tf.convert_to_tensor(self.bias)
