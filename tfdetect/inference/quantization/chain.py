"""int8 layers that pass uint8 to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfdetect.checkpoint.quantization import Step
from tfdetect.inference.quantization.fixed import RoundedInput
from tfdetect.inference.quantization.layers import (
    ConvolutionAsLinear,
    ConvolutionAsTransposed,
    Int8Conv2d,
    QuantizedInput,
)
from tfdetect.inference.quantization.links import find_links


def chain(model: tf.Module, *, fixed_shapes: bool) -> None:
    """Let layers give the uint8 that all of the layers after them take.

    Where one of those is in float32, or something else reads the tensor, it stays float32.

    Args:
        model: with int8 layers; it changes, and must not have been traced.
        fixed_shapes: whether it has those for graphs of fixed shapes.
    """
    for link in find_links(model):
        if not all(_is_plain(layer) for layer in link.residual):
            continue
        step = _common_step([*link.readers, *link.others])
        if _is_plain(link.giver) and step is not None:
            _conv(link.giver).gives = step
        elif _is_plain(link.giver) and not link.readers and not link.others:
            step = _conv(link.giver).gives = _conv(link.giver).steps.output
        else:
            step = _common_step(link.readers)
            if link.block is None or step is None:
                continue
            # It becomes uint8 before the block, once for all layers that read it there.
            owner, name, index = link.block
            blocks = list(getattr(owner, name))
            wrapped: Any = RoundedInput if fixed_shapes else QuantizedInput
            blocks[index] = wrapped(blocks[index], step)
            setattr(owner, name, blocks)
        for layer in link.residual:
            _conv(layer).takes = step


def _conv(layer: Any) -> Any:
    """The int8 convolution of a layer; None if it is none."""
    if isinstance(layer, (ConvolutionAsLinear, ConvolutionAsTransposed)):
        layer = layer.conv
    return layer if isinstance(layer, Int8Conv2d) else None


def _is_plain(layer: Any) -> bool:
    """Whether a layer is int8 and gives what its convolution does."""
    conv = _conv(layer)
    return conv is not None and conv.can_give


def _common_step(readers: Sequence[Any]) -> Step | None:
    """The input step of all of these; None where one is in float32 or has another, or of none."""
    convs = [_conv(reader) for reader in readers]
    if None in convs:
        return None
    steps = {conv.steps.input for conv in convs}
    return steps.pop() if len(steps) == 1 else None
