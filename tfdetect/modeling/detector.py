"""What all meta architectures have in common."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfdetect.layers.valid_sizes import ValidSizes


class Detector(tf.Module):
    """A model on a backbone.

    The path of every variable is its key in Detectron2's state dict.

    Args:
        backbone: see `ResNet` for what one has.

    Attributes:
        quantization: the `Quantization` of a quantized model's directory, or None.
    """

    def __init__(self, backbone: tf.Module):
        super().__init__()
        self.backbone = backbone
        self.quantization: Any = None

    @property
    def training_state(self) -> dict[str, tf.Variable]:
        """By name what a resumed training needs beside the model's variables: none."""
        return {}

    @property
    def size_divisibility(self) -> int:
        """Height and width of the padded image batch are multiples of this."""
        return self.backbone.size_divisibility

    def valid_sizes(self, padded_sizes: tf.Tensor) -> ValidSizes:
        """What the model is called with for images of int32 [B, 2] sizes with their own padding.

        A backbone whose features have other sizes than these divided by their stride, rounded up,
        says so in its own `valid_sizes`.
        """
        return getattr(self.backbone, "valid_sizes", ValidSizes)(padded_sizes)
