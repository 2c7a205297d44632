"""Convolutions with groups or dilation that a CPU can differentiate.

TensorFlow's CPU kernels run both, but have no gradient for either. A dilated convolution is
computed as an ordinary one on each phase of the map; a grouped one uses TensorFlow's forward kernel
and differentiates each group separately, as an ordinary convolution.
"""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.shapes import lengths

# Rows of a band of `weight_gradient`.
_BAND = 8


def to_phases(x: tf.Tensor, dilation: int, padding: int) -> tf.Tensor:
    """Splits x into phases: every `dilation`-th row and column, for each offset, becomes an image.

    A convolution with this dilation is one without it of each phase.

    Args:
        x: [B, H, W, C].
        padding: zeros put around x before, fewer than `dilation`. What else a convolution pads
            with is padding of the phases, 1 for every `dilation`.

    Returns:
        [dilation**2 * B, ceil((H + 2 padding) / dilation), ceil((W + 2 padding) / dilation), C];
        zero where x ends.
    """
    sides = [[padding, padding + -(tf.shape(x)[axis] + 2 * padding) % dilation] for axis in (1, 2)]
    return tf.space_to_batch(x, [dilation, dilation], sides)


def from_phases(y: tf.Tensor, dilation: int, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The map [B, height, width, C] whose phases are y, at least as large as they have to be."""
    below = dilation * tf.shape(y)[1] - height
    right = dilation * tf.shape(y)[2] - width
    return tf.batch_to_space(y, [dilation, dilation], [[0, below], [0, right]])


def weight_gradient(x: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """The gradient of the weight of a 3 x 3 convolution of stride 1, padded by 1.

    By bands of rows, each an image: TensorFlow's kernel copies the nine neighbours of every pixel
    of as many images as fit into a cache, and of one at least: 0.56 GB of a map of 200 x 304 x 256.

    Args:
        x: [B, H, W, Cin].
        upstream: [B, H, W, Cout], of the convolution's result.

    Returns:
        [3, 3, Cin, Cout].
    """
    batch, height, width, inputs = lengths(x)
    outputs = upstream.shape[3]
    bands = (height + _BAND - 1) // _BAND
    beyond = bands * _BAND - height
    rows = tf.range(bands)[:, None] * _BAND + tf.range(_BAND + 2)
    x = tf.gather(tf.pad(x, [[0, 0], [1, 1 + beyond], [0, 0], [0, 0]]), rows, axis=1)
    upstream = tf.pad(upstream, [[0, 0], [0, beyond], [0, 0], [0, 0]])
    return tf.raw_ops.Conv2DBackpropFilter(
        input=tf.reshape(x, [batch * bands, _BAND + 2, width, inputs]),
        filter_sizes=[3, 3, inputs, outputs],
        out_backprop=tf.reshape(upstream, [batch * bands, _BAND, width, outputs]),
        strides=[1, 1, 1, 1],
        # On a large map padding SAME keeps one core busy, for twice as long.
        padding="EXPLICIT",
        explicit_paddings=[0, 0, 0, 0, 1, 1, 0, 0],
    )


def grouped_conv2d(
    x: tf.Tensor, weight: tf.Tensor, groups: int, stride: int, padding: int
) -> tf.Tensor:
    """`tf.nn.conv2d` of x [B, H, W, Cin] with weight [k, k, Cin / groups, Cout] of its type.

    The padding, of both axes, is less than k.
    """
    sides = [[0, 0], [padding, padding], [padding, padding], [0, 0]]

    @tf.custom_gradient
    def convolve(x: tf.Tensor, weight: tf.Tensor):
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            height, width, channels = tf.shape(x)[1], tf.shape(x)[2], weight.shape[2]
            kernel_size, outputs = weight.shape[0], weight.shape[3] // groups
            same = {
                "strides": [1, stride, stride, 1],
                "padding": "EXPLICIT",
                "explicit_paddings": [0, 0, padding, padding, padding, padding, 0, 0],
            }
            x_gradients, weight_gradients = [], []
            for x_group, weight_group, upstream_group in zip(
                tf.split(x, groups, 3),
                tf.split(weight, groups, 3),
                tf.split(upstream, groups, 3),
                strict=True,
            ):
                x_gradients.append(
                    tf.raw_ops.Conv2DBackpropInput(
                        input_sizes=[tf.shape(x)[0], height, width, channels],
                        filter=weight_group,
                        out_backprop=upstream_group,
                        **same,
                    )
                )
                weight_gradients.append(
                    tf.raw_ops.Conv2DBackpropFilter(
                        input=x_group,
                        filter_sizes=[kernel_size, kernel_size, channels, outputs],
                        out_backprop=upstream_group,
                        **same,
                    )
                )
            return tf.concat(x_gradients, 3), tf.concat(weight_gradients, 3)

        return tf.nn.conv2d(x, weight, stride, sides), gradient

    return convolve(x, weight)
