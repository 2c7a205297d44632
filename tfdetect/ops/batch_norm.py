"""Batch normalisation for training, with sums accurate to float32."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def batch_norm(
    x: tf.Tensor,
    weight: tf.Tensor,
    bias: tf.Tensor,
    epsilon: float,
    share: tf.Tensor | None = None,
    reduce: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalise by the statistics of the batch: `torch.nn.functional.batch_norm(training=True)`.

    On a CPU, TensorFlow's fused kernel sums all pixels in float32, with a relative error of 1e-4
    for a large map. Differentiable once in x, weight and bias, whose gradients are sums too;
    the statistics that are returned have no gradient of their own.

    Args:
        x: [N, H, W, C], of any floating type; the arithmetic is float32.
        weight, bias: float32 [C].
        epsilon: added to the variance.
        share: float64 scalar, weight of this replica's mean (the weights sum to 1 over replicas);
            None if there is only one.
        reduce: the sum over the replicas of a float64 tensor.

    Returns:
        The result, in the shape and type of x; the mean and the biased variance, float64 [C]
        (0 without elements).
    """
    count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float64)
    # The weight of one element in a mean over all replicas; 0 without elements.
    part = tf.math.divide_no_nan(tf.ones_like(count) if share is None else share, count)

    @tf.custom_gradient
    def normalize(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor):
        values = tf.cast(x, tf.float32)
        mean = reduce(_channel_sum(values) * part)
        rounded = tf.cast(mean, tf.float32)
        squares = tf.math.squared_difference(values, rounded)
        # About the rounded mean, so less its distance from the mean.
        variance = reduce(_channel_sum(squares) * part) - tf.square(
            mean - tf.cast(rounded, mean.dtype)
        )
        variance = tf.maximum(variance, 0.0)
        inverse = tf.math.rsqrt(variance + epsilon)
        y = (values - rounded) * (tf.cast(inverse, tf.float32) * weight) + bias

        def gradient(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            upstream = tf.cast(upstream, tf.float32)
            centred = tf.cast(x, tf.float32) - rounded
            upstream_sum = _channel_sum(upstream)
            product_sum = _channel_sum(upstream * centred)
            scale = inverse * tf.cast(weight, tf.float64)
            of_mean = -scale * reduce(upstream_sum) * part
            of_centred = -scale * tf.square(inverse) * reduce(product_sum) * part
            scale, of_mean, of_centred = (
                tf.cast(v, tf.float32) for v in (scale, of_mean, of_centred)
            )
            dx = upstream * scale + (centred * of_centred + of_mean)
            dweight = tf.cast(product_sum * inverse, tf.float32)
            return tf.cast(dx, x.dtype), dweight, tf.cast(upstream_sum, tf.float32)

        return (tf.cast(y, x.dtype), mean, variance), gradient

    return normalize(x, tf.convert_to_tensor(weight), tf.convert_to_tensor(bias))


def _channel_sum(x: tf.Tensor) -> tf.Tensor:
    """The sum of float32 [N, H, W, C] over all but the channels: float64 [C].

    Down the columns of the maps, which are short, in float32; from there on in float64. That is
    as fast as float32 throughout, where a float64 copy of the maps takes twice as long.
    """
    batch, height, width, channels = tf.unstack(tf.shape(x))
    columns = tf.reduce_sum(tf.reshape(x, [batch, height, width * channels]), 1)
    columns = tf.reshape(columns, [batch * width, channels])
    return tf.ensure_shape(tf.reduce_sum(tf.cast(columns, tf.float64), 0), x.shape[3:])
