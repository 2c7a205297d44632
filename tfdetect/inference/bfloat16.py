"""A model whose weights and features are bfloat16."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.conv import Conv2d, ConvTranspose2d
from tfdetect.layers.linear import Linear
from tfdetect.modeling.structures import Predictions


class BFloat16Model(tf.Module):
    """`model` with bfloat16 features; boxes and scores stay float32.

    What layers would round at every call is rounded once: the results are the same, in half the
    memory. Norms and deformable convolutions compute in float32 and keep their variables.

    Args:
        model: of `build_model` with its norms folded (`fold_norms`); changed in place.
    """

    def __init__(self, model: tf.Module):
        super().__init__()
        self.model = model
        for module in model.submodules:
            if isinstance(module, (Conv2d, ConvTranspose2d, Linear)):
                module.weight = _rounded(module.weight)
                if module.bias is not None:
                    module.bias = _rounded(module.bias)

    @property
    def size_divisibility(self) -> int:
        """Height and width of the padded image batch are multiples of this."""
        return self.model.size_divisibility

    def __call__(self, images: tf.Tensor, *others: object) -> Predictions:
        """As `model`, of float32 images."""
        return self.model(tf.cast(images, tf.bfloat16), *others)


def _rounded(variable: tf.Variable) -> tf.Variable:
    return tf.Variable(tf.cast(variable, tf.bfloat16), trainable=False)
