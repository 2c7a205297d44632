"""Layers that compute what they are given to compute, and look at their tensors meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfdetect.inference.quantization.ranges import Observer
from tfdetect.layers.conv import finish
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.ops.gelu import gelu as apply_gelu


class ObservedLayer(tf.Module):
    """A layer whose input and output values are counted.

    Args:
        layer: what stands for a `Conv2d`, `Linear` or `ConvTranspose2d`, without a norm.
        norm: what comes after it, or None.
        stride: of it.

    Attributes:
        input, product, output: as of `LayerSteps`.
    """

    def __init__(self, layer: Any, norm: tf.Module | None, stride: int):
        super().__init__()
        self.layer, self.norm = layer, norm
        self._stride = stride
        self.input, self.product, self.output = Observer(), Observer(), Observer()

    def __call__(
        self,
        x: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
        *,
        residual: tf.Tensor | None = None,
        upsampled: bool = False,
        relu: bool = False,
        gelu: bool = False,
    ) -> tf.Tensor:
        """As the layer."""
        self.input(x)
        y = self.layer(x, *_sizes(valid_sizes))
        if self.norm is not None:
            self.output(y)
            return finish(
                y, self.norm, valid_sizes.strided(self._stride), residual, upsampled, relu
            )
        if residual is not None:
            self.product(y)
        y = finish(y, None, WHOLE, residual, upsampled, relu)
        self.output(y)
        return apply_gelu(y) if gelu else y

    def blocks(self, x: tf.Tensor, *, relu: bool = False) -> tf.Tensor:
        """As the layer."""
        self.input(x)
        y = self.layer.blocks(x, relu=relu)
        self.output(y)
        return y


class ComparedLayer(tf.Module):
    """A layer beside its quantized form: it gives what the layer gives.

    Args:
        layer: as above.
        quantized: called as it is.
    """

    def __init__(self, layer: Any, quantized: Any):
        super().__init__()
        self.layer, self.quantized = layer, quantized
        self._squares = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        self._differences = tf.Variable(0.0, trainable=False, dtype=tf.float64)

    def __call__(self, *arguments: Any, **options: Any) -> tf.Tensor:
        """As the layer."""
        y = self.layer(*arguments, **options)
        self._compare(y, self.quantized(*arguments, **options))
        return y

    def blocks(self, *arguments: Any, **options: Any) -> tf.Tensor:
        """As the layer."""
        y = self.layer.blocks(*arguments, **options)
        self._compare(y, self.quantized.blocks(*arguments, **options))
        return y

    @property
    def decibels(self) -> float:
        """As of `LayerSteps`; 100 where there is no difference, 0 at most where it is all."""
        squares, differences = self._squares.numpy(), self._differences.numpy()
        if differences <= squares * 1e-10:
            return 100.0
        return float(10 * np.log10(max(squares, 1e-30) / differences))

    def _compare(self, expected: tf.Tensor, found: tf.Tensor) -> None:
        for total, values in (
            (self._squares, expected),
            (self._differences, found - expected),
        ):
            # One row at a time: a float32 sum of millions is not exact.
            rows = tf.reduce_sum(tf.reshape(values, [-1, values.shape[-1]]) ** 2, 1)
            total.assign_add(tf.reduce_sum(tf.cast(rows, tf.float64)))


def _sizes(valid_sizes: ValidSizes) -> tuple[ValidSizes, ...]:
    """What a convolution is called with; a linear layer has no such argument."""
    return () if valid_sizes is WHOLE else (valid_sizes,)
