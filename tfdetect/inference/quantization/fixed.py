"""Quantized layers for graphs of fixed shapes: float32 arithmetic on values that int8 can have.

XLA runs it as it is. LiteRT's converter knows these patterns (activations that are rounded to the
256 values of a step, constant weights that are multiples of their channel's scale, ReLU before the
rounding) and makes int8 operators of them, if every tensor between two of them is rounded.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfdetect.checkpoint.quantization import LayerSteps, Step
from tfdetect.inference.quantization.layers import Int8Conv2d, quantize_weight
from tfdetect.layers.conv import finish
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.ops.conv import conv2d


def round_to(x: tf.Tensor, step: Step) -> tf.Tensor:
    """float32 x, clipped and rounded to the values of uint8."""
    least, most = step.bounds
    return tf.quantization.fake_quant_with_min_max_args(x, least, most)


class RoundedConv2d(Int8Conv2d):
    """As `QuantizedConv2d`, with float32 tensors in place of uint8."""

    def __init__(
        self,
        weight: tf.Tensor,
        bias: tf.Tensor,
        steps: LayerSteps,
        norm: tf.Module | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
    ):
        super().__init__(bias, steps, norm, stride)
        del groups  # the shape of the weight says it
        self._options = {"stride": stride, "padding": padding, "dilation": dilation}
        values, scales = quantize_weight(weight)
        self.weight = tf.Variable(tf.cast(values, tf.float32) * scales, trainable=False)

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
        if self.weight.shape[0] > 1:
            x = valid_sizes.zero_padding(x)
        x = round_to(x, self.steps.input)
        y = conv2d(x, self.weight, self.bias, **self._options)
        if self.norm is not None:
            y = round_to(y, self.steps.output)
            return finish(y, self.norm, valid_sizes.strided(self.stride), residual, upsampled, relu)
        if residual is not None and self.steps.product is not None:
            y = round_to(y, self.steps.product)
        y = finish(y, None, WHOLE, residual, upsampled, relu)
        return round_to(y, self.gives or self.steps.output)


class RoundedInput(tf.Module):
    """As `QuantizedInput`."""

    def __init__(self, block: tf.Module, step: Step):
        super().__init__()
        self.block = block
        self.stride = block.stride
        self._step = step

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """As the block."""
        return self.block(round_to(x, self._step), valid_sizes)


class Float32Layer(tf.Module):
    """A layer that stays in float32, where the converter would make int8 of it.

    It does so if what the layer reads and what it gives are both rounded. Nothing is, and nothing
    else changes, if the layer reads -x with weights of the other sign.

    Args:
        negated: the layer with these weights.
    """

    def __init__(self, negated: Any):
        super().__init__()
        self.negated = negated

    def __call__(self, x: tf.Tensor, *arguments: Any, **options: Any) -> tf.Tensor:
        """As the layer."""
        return self.negated(-x, *arguments, **options)

    def blocks(self, x: tf.Tensor, *, relu: bool = False) -> tf.Tensor:
        """As the layer, if it is a `ConvTranspose2d`."""
        return self.negated.blocks(-x, relu=relu)
