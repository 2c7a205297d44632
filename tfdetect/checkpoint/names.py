"""A model's variables by name, and their layout in other libraries' checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdetect.layers.conv import Conv2d, ConvTranspose2d
from tfdetect.layers.conv1d import Conv1d
from tfdetect.layers.deform_conv import DeformConv2d
from tfdetect.layers.depthwise_conv import DepthwiseConv2d
from tfdetect.layers.linear import Linear

_CONVOLUTIONS = (Conv2d, ConvTranspose2d, DeformConv2d, DepthwiseConv2d)


@dataclass(frozen=True)
class NamedVariable:
    """A variable of a model.

    Attributes:
        name: its path, which is its key in Detectron2's state dict.
        variable: the variable.
        layer: the layer that owns it.
    """

    name: str
    variable: tf.Variable
    layer: tf.Module

    @property
    def foreign_shape(self) -> tuple[int, ...]:
        """Its shape in PyTorch's layout."""
        shape = tuple(self.variable.shape)
        if isinstance(self.layer, _CONVOLUTIONS) and len(shape) == 4:
            return tuple(shape[axis] for axis in (3, 2, 0, 1))
        return shape[::-1] if isinstance(self.layer, (Linear, Conv1d)) else shape

    def from_foreign(self, array: np.ndarray) -> np.ndarray:
        """`array` of `foreign_shape`, in PyTorch's layout, in TensorFlow's."""
        if isinstance(self.layer, _CONVOLUTIONS) and array.ndim == 4:
            # (out, in, height, width), transposed convolutions (in, out, height, width): either
            # way TensorFlow wants the first two last and swapped.
            return np.transpose(array, [2, 3, 1, 0])
        if isinstance(self.layer, Conv1d):
            return array.T
        if isinstance(self.layer, Linear) and array.ndim == 2:
            if self.layer.flattened is not None:
                height, width, channels = self.layer.flattened
                array = array.reshape(-1, channels, height, width)
                array = np.transpose(array, [0, 2, 3, 1]).reshape(len(array), -1)
            return array.T
        return array

    def to_foreign(self) -> np.ndarray:
        """The variable's value in PyTorch's layout; the inverse of `from_foreign`."""
        array = self.variable.numpy()
        if isinstance(self.layer, _CONVOLUTIONS) and array.ndim == 4:
            array = np.transpose(array, [3, 2, 0, 1])
        elif isinstance(self.layer, Conv1d):
            array = array.T
        elif isinstance(self.layer, Linear) and array.ndim == 2:
            array = array.T
            if self.layer.flattened is not None:
                array = array.reshape(-1, *self.layer.flattened)
                array = np.transpose(array, [0, 3, 1, 2]).reshape(len(array), -1)
        return np.ascontiguousarray(array).reshape(self.foreign_shape)


def named_variables(module: tf.Module, prefix: str = "") -> Iterator[NamedVariable]:
    """Walk the public attributes of a module, depth first, in the order of their creation."""

    def walk(value: object, path: str, layer: tf.Module) -> Iterator[NamedVariable]:
        if isinstance(value, tf.Variable):
            yield NamedVariable(path, value, layer)
        elif isinstance(value, tf.Module):
            yield from named_variables(value, f"{path}.")
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                yield from walk(item, f"{path}.{index}", layer)
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, f"{path}.{key}", layer)

    for attribute, value in vars(module).items():
        if not attribute.startswith("_"):
            yield from walk(value, prefix + attribute, module)
