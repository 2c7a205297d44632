"""Layer normalisation (Ba et al., 2016)."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend


def layer_norm(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Take mean and variance out of each location's channels, then scale and shift.

    Differentiable, once, in x, weight and bias, for which x alone is kept. Statistics are float32
    whatever the type of x.

    Args:
        x: float32, bfloat16 or float16 [..., C].
        weight, bias: float32 [C].
        epsilon: added to the (biased) variance.

    Returns:
        The shape and type of x.

    Detectron2: `torch.nn.functional.layer_norm` over the last axis.
    """

    @tf.custom_gradient
    def normalize(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor):
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            upstream = tf.cast(upstream, tf.float32)
            normal, scale = _normalized(x, epsilon)
            others = list(range(len(x.shape) - 1))
            inner = upstream * weight
            inner -= _mean(inner) + normal * _mean(inner * normal)
            return (
                tf.cast(inner * scale, x.dtype),
                tf.reduce_sum(upstream * normal, others),
                tf.reduce_sum(upstream, others),
            )

        if current_backend().native_sums:
            library = kernels.library()
            y = library.tfdetect_layer_norm(x=x, weight=weight, bias=bias, epsilon=epsilon)
            return y, gradient
        return tf.cast(_normalized(x, epsilon)[0] * weight + bias, x.dtype), gradient

    return normalize(x, weight, bias)


def _normalized(x: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 x of mean 0 and variance 1, and by what it was scaled, [..., 1]."""
    centred = tf.cast(x, tf.float32)
    # Twice: the mean of large values is itself rounded, by more than the values may differ.
    for _ in range(2):
        centred -= _mean(centred)
    scale = tf.math.rsqrt(_mean(tf.square(centred)) + epsilon)
    return centred * scale, scale


def _mean(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(x, -1, keepdims=True)
