"""3 x 3 convolutions as matrix products of TensorFlow's, by Winograd's minimal filtering.

F(2 x 2, 3 x 3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016): 16
products for four outputs, where the definition has 36. Results are as far from exact ones as 1.7
times TensorFlow's direct sums (root mean square, 128 channels); larger tiles round far worse.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from tfdetect.ops.shapes import lengths

# Of the weights, from 3 to 4 along each axis.
_FILTER = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def winograd_pays(weight_shape: tf.TensorShape) -> bool:
    """Whether it is faster than TensorFlow's convolution with a weight [3, 3, Cin, Cout].

    With AVX2, time as a share of TensorFlow's own convolution: 0.6 with 256 channels, 0.7 with 512,
    0.95 with 128 and 1.3 with 64.
    """
    return weight_shape[2] >= 128 and weight_shape[3] >= 128


def transform_weight(weight: tf.Tensor) -> tf.Tensor:
    """float32 [4, 4, Cin, Cout] of a weight, float32 [3, 3, Cin, Cout]; computed in float64."""
    filters = tf.constant(_FILTER, tf.float64)
    transformed = tf.einsum("ij,jkcd,lk->ilcd", filters, tf.cast(weight, tf.float64), filters)
    return tf.cast(transformed, tf.float32)


def winograd_conv2d(x: tf.Tensor, transformed: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """3 x 3 convolution of stride 1, padded by 1.

    Args:
        x: float32 [B, H, W, Cin].
        transformed: of `transform_weight`.
        bias: float32 [Cout].

    Returns:
        float32 [B, H, W, Cout].
    """
    return _function(*transformed.shape[2:])(x, transformed, bias)


@functools.cache
def _function(inputs: int, outputs: int) -> Callable[..., tf.Tensor]:
    """`_convolve` as one function of the graph for all layers of a width, which stays one.

    It has a hundred operations. Inlined at every layer, they would take seconds when a model is
    traced, and again when it is first called.
    """
    signature = [
        tf.TensorSpec([None, None, None, inputs]),
        tf.TensorSpec([4, 4, inputs, outputs]),
        tf.TensorSpec([outputs]),
    ]
    attributes = {"_noinline": True}
    return tf.function(_convolve, signature, autograph=False, experimental_attributes=attributes)


def _convolve(x: tf.Tensor, transformed: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    batch, height, width, inputs = lengths(x)
    outputs = transformed.shape[3]
    down, across = (height + 1) // 2, (width + 1) // 2  # tiles
    x = tf.pad(x, [[0, 0], [1, 1 + height % 2], [1, 1 + width % 2], [0, 0]])
    by_row = _transform(tf.reshape(x, [batch, down + 1, 2, 2 * (across + 1) * inputs]))
    rows: list[tf.Tensor] = []
    for i, row in enumerate(by_row):
        # One after the other: a quarter of the products is in memory at a time.
        with tf.control_dependencies(rows[-1:]):
            row = tf.reshape(row, [batch * down, across + 1, 2, inputs])
        products = [
            tf.matmul(tf.reshape(column, [-1, inputs]), transformed[i, j])
            for j, column in enumerate(_transform(row))
        ]
        if i == 1:  # of which [1, 1] is in each output once
            products[1] = tf.nn.bias_add(products[1], bias)
        rows.append(_back(products))
    y = _back([tf.reshape(row, [batch * down, 2 * across * outputs]) for row in rows])
    y = tf.reshape(y, [batch, 2 * down, 2 * across, outputs])
    return y[:, :height, :width]


def _transform(x: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The four [B, n, ...] of each window of four along an axis: x [B, n + 1, 2, ...]."""
    first, second, third, fourth = x[:, :-1, 0], x[:, :-1, 1], x[:, 1:, 0], x[:, 1:, 1]
    return first - third, second + third, third - second, second - fourth


def _back(products: list[tf.Tensor]) -> tf.Tensor:
    """The two outputs of each window, from its four products [N, ...]: [N, 2, ...]."""
    first, second, third, fourth = products
    return tf.stack([tf.add_n([first, second, third]), second - third - fourth], 1)
