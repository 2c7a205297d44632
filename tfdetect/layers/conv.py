"""Convolutions with PyTorch's padding."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.extents import WHOLE, Extents
from tfdetect.layers.norm import BatchNorm, make_norm, normalize
from tfdetect.ops.fixed import uses_fixed_shapes


class Conv2d(tf.Module):
    """2-D convolution, NHWC, padded symmetrically as `torch.nn.Conv2d`, and its normalisation.

    Variables are `weight` float32 [kernel, kernel, in_channels / groups, out_channels], `bias`
    float32 [out_channels] where there is one, and those of `norm`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        norm: str = "",
    ):
        super().__init__()
        self._kernel_size = kernel_size
        self._stride = stride
        self._padding = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
        self._dilation = dilation
        self.groups = groups
        self.weight = tf.Variable(
            tf.zeros([kernel_size, kernel_size, in_channels // groups, out_channels])
        )
        self.bias = tf.Variable(tf.zeros([out_channels])) if bias else None
        self.norm = make_norm(norm, out_channels)

    def __call__(self, x: tf.Tensor, extents: Extents = WHOLE) -> tf.Tensor:
        """x: [N, H, W, in_channels]; the result is in its type.

        With the extents of x each image's own part of the result is what it gets alone.
        """
        if self._kernel_size > 1:
            x = extents.keep(x)
        weight = self.weight
        bias = self.bias
        norm = self.norm
        # Scaling the weights, not the output, saves a pass over the feature map. Not with groups:
        # TensorFlow fuses the addition with the convolution, and its fused kernel on the CPU knows
        # no groups.
        if isinstance(norm, BatchNorm) and norm.uses_stored_statistics and self.groups == 1:
            scale, shift = norm.scale_and_shift()
            weight = weight * scale
            bias = shift if bias is None else bias * scale + shift
            norm = None
        y = tf.nn.conv2d(
            x,
            tf.cast(weight, x.dtype),
            strides=self._stride,
            padding=self._padding,
            dilations=self._dilation,
        )
        if bias is not None:
            y = tf.nn.bias_add(y, tf.cast(bias, x.dtype))
        return normalize(norm, y, extents.strided(self._stride))


class ConvTranspose2d(tf.Module):
    """2-D transposed convolution with stride 2 that doubles height and width exactly.

    `torch.nn.ConvTranspose2d` with kernel 2 and padding 0, or kernel 4 and padding 1. Variables are
    `weight` float32 [kernel, kernel, out_channels, in_channels] and `bias` float32 [out_channels].
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        self.weight = tf.Variable(tf.zeros([kernel_size, kernel_size, out_channels, in_channels]))
        self.bias = tf.Variable(tf.zeros([out_channels]))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[N, H, W, in_channels] -> [N, 2 H, 2 W, out_channels]."""
        shape = tf.shape(x)
        # For both kernels TensorFlow's SAME crops as much on each side as PyTorch's padding.
        y = tf.nn.conv2d_transpose(
            x,
            tf.cast(self.weight, x.dtype),
            [shape[0], 2 * shape[1], 2 * shape[2], self.weight.shape[2]],
            strides=2,
            padding="SAME",
        )
        return tf.nn.bias_add(y, tf.cast(self.bias, x.dtype))


def max_pool(x: tf.Tensor, kernel_size: int, stride: int, padding: int) -> tf.Tensor:
    """`torch.nn.functional.max_pool2d`, NHWC: symmetric padding that never wins."""
    pad = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    if uses_fixed_shapes():  # XLA pools with no padding of its own
        x = tf.pad(x, pad, constant_values=float("-inf"))
        return tf.nn.max_pool2d(x, kernel_size, stride, "VALID")
    return tf.nn.max_pool2d(x, kernel_size, stride, pad)
