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
from tfdetect.ops.shared_function import shared_function

# Tiles of 2 x 2 outputs that are treated together: all of a large map would not stay in the caches
# from step to step, and products of few are slow.
_CHUNK = 2048

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
    y = _function()(x, transformed, bias)
    y.set_shape([*x.shape[:3], bias.shape[0]])
    return y


@functools.cache
def _function() -> Callable[..., tf.Tensor]:
    """`_convolve` of any number of channels."""
    signature = [
        tf.TensorSpec([None, None, None, None]),
        tf.TensorSpec([4, 4, None, None]),
        tf.TensorSpec([None]),
    ]
    return shared_function(_convolve, signature)


def _convolve(x: tf.Tensor, transformed: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    batch, height, width, inputs = lengths(x)
    outputs = tf.size(bias)
    weights = tf.unstack(tf.reshape(transformed, [16, inputs, outputs]))
    lines = tf.reshape(x, [batch * height, width * inputs])
    down, across = (height + 1) // 2, (width + 1) // 2  # tiles
    # A chunk is of several images, or of some rows of one.
    images = tf.clip_by_value(_CHUNK // tf.maximum(down * across, 1), 1, tf.maximum(batch, 1))
    rows = tf.clip_by_value(_CHUNK // across, 1, down)
    of_image = (down + rows - 1) // rows
    # Even without an image there is one (empty) chunk: it gives the result its shape.
    chunks = of_image * tf.maximum((batch + images - 1) // images, 1)

    def of_chunk(index: tf.Tensor, out: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        image, row = index // of_image * images, index % of_image * rows
        first, count = tf.maximum(2 * row - 1, 0), tf.minimum(rows, down - row)
        taken = tf.minimum(2 * (row + count) + 1, height) - first
        several = tf.minimum(images, batch - image)
        # Lines that follow each other, of an image or of several: no copy is made of them.
        begin, size = [image * height + first, 0], [several * taken, -1]
        chunk = tf.reshape(tf.slice(lines, begin, size), [several, taken, width, inputs])
        above = tf.cast(row == 0, tf.int32)
        # One more row of tiles than the padding has, for the slices of `_convolve_chunk`.
        below = 2 * count + 4 - above - taken
        chunk = tf.pad(chunk, [[0, 0], [above, below], [1, 1 + width % 2], [0, 0]])
        y = _convolve_chunk(chunk, weights, bias)
        return index + 1, out.write(index, y[:, :width])

    out = tf.TensorArray(x.dtype, size=chunks, element_shape=[None, None, None], infer_shape=False)
    _, out = tf.while_loop(
        lambda index, _: index < chunks, of_chunk, [tf.constant(0), out], parallel_iterations=1
    )
    y = tf.reshape(out.concat(), [batch, 2 * down, width, outputs])
    return y[:, :height]


def _convolve_chunk(x: tf.Tensor, weights: list[tf.Tensor], bias: tf.Tensor) -> tf.Tensor:
    """[B * 2 n, 2 m + 2, Cout] of padded x [B, 2 n + 4, 2 m + 2, Cin]; the last two columns are
    not results."""
    batch, height, width, inputs = lengths(x)
    down, across = height // 2 - 2, width // 2
    outputs = tf.size(bias)
    # By parity of row and column, then [n + 2, m + 1, B]: every window's part is a slice of the
    # first axis, which TensorFlow does not copy.
    x = tf.reshape(x, [batch, down + 2, 2, across, 2, inputs])
    x = tf.reshape(tf.transpose(x, [2, 4, 1, 3, 0, 5]), [4, down + 2, -1])
    upper_left, upper_right, lower_left, lower_right = tf.unstack(x)
    further, size = tf.constant([1, 0]), tf.stack([down + 1, -1])
    left = _transform(upper_left, lower_left, further, size)
    right = _transform(upper_right, lower_right, further, size)
    further, size = tf.stack([batch, 0]), tf.stack([down * across * batch, -1])
    flat = tf.stack([-1, inputs])
    rows = []
    for i, (even, odd) in enumerate(zip(left, right, strict=True)):
        # The first tile of the next row stands for the one beyond the last of a row.
        parts = _transform(tf.reshape(even, flat), tf.reshape(odd, flat), further, size)
        products = [tf.matmul(part, weights[4 * i + j]) for j, part in enumerate(parts)]
        if i == 1:  # of which [1, 1] is in each output once
            products[1] = tf.nn.bias_add(products[1], bias)
        rows.append(_back(*products))
    # In another shape: nested sums of one shape become a single one in a graph of TensorFlow's,
    # whose order depends on what is ready first.
    by_row = tf.stack([down, -1])
    columns = [
        _back(*(tf.reshape(part, by_row) for part in column)) for column in zip(*rows, strict=True)
    ]
    y = tf.stack([columns[j][i] for i in range(2) for j in range(2)])
    y = tf.transpose(tf.reshape(y, [2, 2, down, across, batch, outputs]), [4, 2, 0, 3, 1, 5])
    return tf.reshape(y, [batch * down * 2, 2 * across, outputs])


def _transform(
    even: tf.Tensor, odd: tf.Tensor, further: tf.Tensor, size: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """The four parts of each window of four along the first axis, of which `even` and `odd` have
    the first two, and `further` the other two.

    Args:
        even, odd: float32 [N, M].
        further: int32 [2], where the others begin.
        size: int32 [2], of each part.
    """
    start = tf.zeros([2], tf.int32)
    first, second = tf.slice(even, start, size), tf.slice(odd, start, size)
    third, fourth = tf.slice(even, further, size), tf.slice(odd, further, size)
    return first - third, second + third, third - second, second - fourth


def _back(
    first: tf.Tensor, second: tf.Tensor, third: tf.Tensor, fourth: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The two outputs of each window, from its four products."""
    return tf.add_n([first, second, third]), second - third - fourth
