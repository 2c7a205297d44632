"""The Gaussian error linear unit (Hendrycks and Gimpel, 2016)."""

from __future__ import annotations

import tensorflow as tf


def gelu(x: tf.Tensor) -> tf.Tensor:
    """x times the standard normal distribution function of x, not its approximation by tanh.

    Differentiable. In half precision the result is the float32 one of the same x, rounded.

    Args:
        x: of any shape and floating type.

    Returns:
        The same shape and type.

    Detectron2: `torch.nn.GELU()`.
    """
    return tf.cast(tf.nn.gelu(tf.cast(x, tf.float32), approximate=False), x.dtype)
