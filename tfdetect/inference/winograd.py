"""Convolutions of TensorFlow's own operations that are faster than its convolutions on a CPU."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.conv import finish
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.ops.winograd import transform_weight, winograd_conv2d


class TransformedConv2d(tf.Module):
    """A `Conv2d` of 3 x 3 and stride 1 with Winograd's transform of its weight; nothing is trained.

    Args:
        weight: float32 [3, 3, Cin, Cout].
        bias: float32 [Cout].
        norm: what depends on the input (GN) or was left by folding, or None.
    """

    def __init__(self, weight: tf.Tensor, bias: tf.Tensor, norm: tf.Module | None = None):
        super().__init__()
        self.transformed = tf.Variable(transform_weight(weight), trainable=False)
        self.bias = tf.Variable(bias, trainable=False)
        self.norm = norm

    def __call__(
        self,
        x: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
        *,
        residual: tf.Tensor | None = None,
        upsampled: bool = False,
        relu: bool = False,
    ) -> tf.Tensor:
        """As `Conv2d`."""
        y = winograd_conv2d(
            valid_sizes.zero_padding(x),
            tf.convert_to_tensor(self.transformed),
            tf.convert_to_tensor(self.bias),
        )
        return finish(y, self.norm, valid_sizes, residual, upsampled, relu)
