"""Functions that a graph has once and calls from many places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def shared_function(
    function: Callable[..., Any], signature: Sequence[tf.TensorSpec]
) -> Callable[..., Any]:
    """`function` of tensors of this signature as a function of TensorFlow's graphs that stays one.

    It is traced and compiled once. Inlined at every call, each of its operations would take a
    quarter of a millisecond when a model is traced, and as much again when it is first called. What
    it depends on beyond its tensors, such as `current_backend`, is for the caller to keep one
    function for each.
    """
    attributes = {"_noinline": True}
    shared = tf.function(function, signature, autograph=False, experimental_attributes=attributes)

    def call(*tensors: tf.Tensor) -> Any:
        return shared(*(_without_constant(tf.convert_to_tensor(tensor)) for tensor in tensors))

    return call


def _without_constant(tensor: tf.Tensor) -> tf.Tensor:
    """The same, which TensorFlow's optimizer does not see to be a constant: it makes a function of
    its own for every call that has one."""
    if tf.executing_eagerly() or tensor.op.type != "Const":
        return tensor
    return tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=tensor.shape)
