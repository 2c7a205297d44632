"""Layers with int8 weights.

Each takes the place of a layer of `tfdetect.layers` in what `optimize` makes of a quantized model,
and is called as that is, with float32 or with uint8: uint8 is what the layer before gave with this
one's input step. A layer gives float32, or uint8 with the step `gives` once `chain` has set it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfdetect.checkpoint.quantization import LayerSteps, Step
from tfdetect.layers.conv import finish
from tfdetect.layers.linear import flatten, with_last_axis
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.ops.gelu import gelu as apply_gelu
from tfdetect.ops.quantized_conv import quantize, quantized_conv


def quantize_weight(weight: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """int8 weights [..., Cout] within 127, and the scale of each output channel.

    The largest magnitude of a channel is 127; one of zeros has the scale 1.
    """
    values = weight.numpy().astype(np.float64)
    largest = np.abs(values).max(tuple(range(values.ndim - 1)))
    scales = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
    steps = np.rint(values / scales.astype(np.float64))
    return np.clip(steps, -127, 127).astype(np.int8), scales


class Int8Conv2d(tf.Module):
    """What the forms of a quantized `Conv2d` have in common.

    Args:
        bias: float32 [Cout].
        steps: of the layer.
        norm: what depends on the input (GN) or was left by folding, or None.
        stride: as `Conv2d`'s.

    Attributes:
        steps: as given.
        gives: the step of the uint8 it gives; None for float32.
        takes: the step of a residual that is uint8.
    """

    def __init__(self, bias: tf.Tensor, steps: LayerSteps, norm: tf.Module | None, stride: int):
        super().__init__()
        self.stride = stride
        self.steps = steps
        self.gives: Step | None = None
        self.takes: Step | None = None
        self.norm = norm
        self.bias = tf.Variable(bias, trainable=False)

    @property
    def can_give(self) -> bool:
        """Whether its result is what the product gives, and so can be uint8."""
        return self.norm is None


class QuantizedConv2d(Int8Conv2d):
    """A `Conv2d` of uint8 and int8.

    Args:
        weight: float32 [k, k, Cin / groups, Cout], folded.
        bias, steps, norm: as `Int8Conv2d`'s.
        stride, padding, dilation, groups: as `Conv2d`'s.
    """

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
        self._options = {
            "kernel_size": weight.shape[0],
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }
        values, scales = quantize_weight(weight)
        self.weight = tf.Variable(values, trainable=False)
        self.multiplier = tf.Variable(np.float32(steps.input.scale) * scales, trainable=False)

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
        fused = self.norm is None
        options: dict[str, Any] = dict(self._options)
        if residual is not None and fused:
            options["residual"] = residual
            if residual.dtype == tf.uint8:
                assert self.takes is not None
                options["residual_scale"] = self.takes.scale
                options["residual_zero_point"] = self.takes.zero_point
        if self.gives is not None:
            options["output_scale"] = self.gives.scale
            options["output_zero_point"] = self.gives.zero_point
        given = self.steps.input
        if x.dtype != tf.uint8:
            x = quantize(x, scale=given.scale, zero_point=given.zero_point)
        y = quantized_conv(
            x,
            self.weight,
            self.multiplier,
            self.bias,
            zero_point=given.zero_point,
            sizes=valid_sizes.sizes if self._options["kernel_size"] > 1 else None,
            relu=relu and fused,
            **options,
        )
        if fused:
            return y
        return finish(y, self.norm, valid_sizes.strided(self.stride), residual, upsampled, relu)


class ConvolutionAsLinear(tf.Module):
    """A `Linear` as a quantized 1 x 1 convolution.

    Args:
        conv: of [1, 1, in_features, out_features].
    """

    def __init__(self, conv: Any):
        super().__init__()
        self.conv = conv

    def __call__(
        self,
        x: tf.Tensor,
        *,
        residual: tf.Tensor | None = None,
        relu: bool = False,
        gelu: bool = False,
    ) -> tf.Tensor:
        """As `Linear`."""
        residual = None if residual is None else flatten(residual)[None, None]
        rows = tf.ensure_shape(flatten(x), [None, self.conv.weight.shape[2]])
        y = self.conv(rows[None, None], residual=residual, relu=relu)
        y = with_last_axis(tf.squeeze(y, [0, 1]), x)
        return apply_gelu(y) if gelu else y


class ConvolutionAsTransposed(tf.Module):
    """A `ConvTranspose2d` of kernel 2, whose outputs do not overlap, as a quantized 1 x 1 one.

    Args:
        conv: of [1, 1, Cin, 2 * 2 * Cout].
    """

    def __init__(self, conv: Any):
        super().__init__()
        self.conv = conv

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """As `ConvTranspose2d`."""
        return tf.nn.depth_to_space(self.blocks(x), 2)

    def blocks(self, x: tf.Tensor, *, relu: bool = False) -> tf.Tensor:
        """As `ConvTranspose2d.blocks`."""
        return self.conv(x, relu=relu)


class QuantizedInput(tf.Module):
    """A block whose input is made uint8 once, for all layers that read it.

    Args:
        block: called with uint8.
        step: of its input.
    """

    def __init__(self, block: tf.Module, step: Step):
        super().__init__()
        self.block = block
        self.stride = block.stride
        self._step = step

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """As the block, with float32 x."""
        x = quantize(x, scale=self._step.scale, zero_point=self._step.zero_point)
        return self.block(x, valid_sizes)
