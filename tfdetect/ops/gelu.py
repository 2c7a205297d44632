"""The Gaussian error linear unit (Hendrycks and Gimpel, 2016)."""

from __future__ import annotations

import math

import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend


def gelu(x: tf.Tensor) -> tf.Tensor:
    """x times the standard normal distribution function of x, not its approximation by tanh.

    Differentiable, once, for which x alone is kept. In half precision the result is the float32 one
    of the same x, rounded.

    Args:
        x: of any shape, float32, bfloat16 or float16.

    Returns:
        The same shape and type.

    Detectron2: `torch.nn.GELU()`.
    """

    @tf.custom_gradient
    def apply(x: tf.Tensor):
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            wide = tf.cast(x, tf.float32)
            distribution = 0.5 * tf.math.erfc(wide * -math.sqrt(0.5))
            density = tf.exp(-0.5 * tf.square(wide)) * (1 / math.sqrt(2 * math.pi))
            slope = distribution + wide * density
            return tf.cast(tf.cast(upstream, tf.float32) * slope, x.dtype)

        if current_backend().native_sums:
            return kernels.library().tfdetect_gelu(x=x), gradient
        y = tf.nn.gelu(tf.cast(x, tf.float32), approximate=False)
        return tf.cast(y, x.dtype), gradient

    return apply(x)
