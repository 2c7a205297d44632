"""What all meta architectures have in common."""

from __future__ import annotations

import tensorflow as tf


class Detector(tf.Module):
    """A model on a backbone.

    The path of every variable is its key in Detectron2's state dict.

    Args:
        backbone: see `ResNet` for what one has.
    """

    def __init__(self, backbone: tf.Module):
        super().__init__()
        self.backbone = backbone

    @property
    def training_state(self) -> dict[str, tf.Variable]:
        """By name what a resumed training needs beside the model's variables: none."""
        return {}

    @property
    def size_divisibility(self) -> int:
        """Height and width of the padded image batch are multiples of this."""
        return self.backbone.size_divisibility
