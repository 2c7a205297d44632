"""Activation checkpointing: what a block computes is computed again instead of being kept."""

from __future__ import annotations

import contextvars
from collections.abc import Callable

import tensorflow as tf

from tfdetect.layers.drop_path import count_branches_of, drops_paths


def activation_checkpoint(block: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    """block(x), of which training keeps x alone until the gradients need the rest.

    The gradients are those that it has without this, drop path included: the block is computed
    again with the same draws. At inference, where nothing is kept anyway, it is block(x).

    Args:
        block: of tensors to one tensor; changes no variables.
        x: what it depends on, besides variables.

    fairscale's `checkpoint_wrapper`.
    """
    if not drops_paths():
        return block(x)
    # The second time is when the gradients are traced, outside the contexts of the first.
    context = contextvars.copy_context()
    traced: list[contextvars.Context] = []

    def trace(x: tf.Tensor) -> tf.Tensor:
        traced.append(context.copy())
        return traced[-1].run(block, x)

    y = tf.recompute_grad(trace)(x)
    count_branches_of(traced[0])
    return y
