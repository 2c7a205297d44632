"""What `optimize` makes of the layers of a model that can be int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import tensorflow as tf

from tfdetect.checkpoint.names import named_modules
from tfdetect.checkpoint.quantization import LayerSteps, Quantization
from tfdetect.errors import InputError
from tfdetect.inference.fold import Folded
from tfdetect.inference.quantization.fixed import Float32Layer, RoundedConv2d
from tfdetect.inference.quantization.layers import (
    ConvolutionAsLinear,
    ConvolutionAsTransposed,
    QuantizedConv2d,
)
from tfdetect.layers.conv import Conv2d, ConvTranspose2d, as_pointwise
from tfdetect.layers.linear import Linear
from tfdetect.layers.norm import Shift
from tfdetect.ops.backend import Backend

Layer = Conv2d | ConvTranspose2d | Linear
"""The layers that can be int8; a transposed convolution only of kernel 2."""


class LayerMaker(Protocol):
    """Makes what `optimize` puts in the place of some layers."""

    def replaces(self, layer: Layer) -> bool:
        """Whether it makes something of this layer."""

    def __call__(
        self, layer: Layer, values: Folded, usual: Callable[[Folded], tf.Module]
    ) -> tf.Module:
        """What stands for the layer.

        Args:
            layer: of the trained model.
            values: its weights, folded; what is left of its norm is ready to be called.
            usual: makes the float32 form of such values.
        """


class Int8Layers:
    """The int8 layers of a quantized model.

    Args:
        steps: of each layer, by its id; None of one that stays in float32.
        fixed_shapes: whether for graphs of fixed shapes.
    """

    def __init__(self, steps: Mapping[int, LayerSteps | None], *, fixed_shapes: bool):
        self._steps = steps
        self._fixed_shapes = fixed_shapes

    def replaces(self, layer: Layer) -> bool:
        """As `LayerMaker`."""
        return id(layer) in self._steps and (
            self._steps[id(layer)] is not None or self._fixed_shapes
        )

    def __call__(
        self, layer: Layer, values: Folded, usual: Callable[[Folded], tf.Module]
    ) -> tf.Module:
        """As `LayerMaker`."""
        steps = self._steps[id(layer)]
        if steps is None:
            return Float32Layer(usual(values._replace(weight=-values.weight)))
        return quantized_layer(layer, values, steps, fixed_shapes=self._fixed_shapes)


def int8_layers(model: tf.Module, backend: Backend) -> Int8Layers | None:
    """What makes the int8 layers of a model of `load_model`; None for a model that has none.

    Raises:
        InputError: the backend's dtype is not float32.
    """
    quantization: Quantization | None = getattr(model, "quantization", None)
    if quantization is None:
        return None
    if backend.dtype != "float32":
        raise InputError(
            f"dtype {backend.dtype!r}: this model is quantized, and what is not int8 in it is "
            "float32; use the model that it was made from"
        )
    named = named_modules(model)
    known = {**dict.fromkeys(quantization.kept), **quantization.layers}
    steps = {id(layer): known[name] for name, layer in named if name in known}
    return Int8Layers(steps, fixed_shapes=backend.fixed_shapes)


def quantized_layer(
    layer: Layer, values: Folded, steps: LayerSteps, *, fixed_shapes: bool
) -> tf.Module:
    """The int8 form of a layer.

    Args:
        layer: of the trained model.
        values: its weights, folded; its norm is as it is called.
        steps: of its tensors.
        fixed_shapes: whether for graphs of fixed shapes.
    """
    make: Any = RoundedConv2d if fixed_shapes else QuantizedConv2d
    weight, bias, norm = values
    if isinstance(layer, ConvTranspose2d):
        return ConvolutionAsTransposed(make(as_pointwise(weight), tf.tile(bias, [4]), steps))
    if bias is None:
        bias = tf.zeros(weight.shape[-1:])
        if isinstance(norm, Shift):
            bias, norm = -norm.negative, None
    if isinstance(layer, Linear):
        return ConvolutionAsLinear(make(weight[None, None], bias, steps))
    return make(
        weight,
        bias,
        steps,
        norm,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )
