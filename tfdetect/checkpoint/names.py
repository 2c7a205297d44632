"""A model's variables by name, and their layout in other libraries' checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdetect.layers.buffer import Buffer
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


def named_variables(module: tf.Module) -> Iterator[NamedVariable]:
    """Walk the public attributes of a module, depth first, in the order of their creation."""
    for path, found, layer in _walk(module, "", module):
        if isinstance(found, tf.Variable):
            yield NamedVariable(path, found, layer)


def named_modules(module: tf.Module) -> Iterator[tuple[str, tf.Module]]:
    """Every module below one, and itself as "", by the paths that variables have them in."""
    for path, found, _ in _walk(module, "", module):
        if isinstance(found, tf.Module):
            yield path, found


def named_buffers(module: tf.Module) -> Iterator[tuple[str, Buffer]]:
    """The buffers of a model's layers, by their keys in Detectron2's state dict."""
    for path, found, _ in _walk(module, "", module):
        buffers = getattr(found, "buffers", None)
        if isinstance(found, tf.Module) and callable(buffers):
            for name, buffer in buffers().items():
                yield f"{path}.{name}" if path else name, buffer


def _walk(
    value: object, path: str, layer: tf.Module
) -> Iterator[tuple[str, tf.Variable | tf.Module, tf.Module]]:
    """(path, variable or module, the module that owns it) of what is in public attributes."""
    if isinstance(value, tf.Variable):
        yield path, value, layer
        return
    items: Iterable[tuple[object, object]] = ()
    if isinstance(value, tf.Module):
        yield path, value, layer
        layer = value
        items = ((key, below) for key, below in vars(value).items() if not key.startswith("_"))
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    elif isinstance(value, dict):
        items = value.items()
    for key, below in items:
        yield from _walk(below, f"{path}.{key}" if path else str(key), layer)
