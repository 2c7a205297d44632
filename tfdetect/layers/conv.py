"""Convolutions with PyTorch's padding."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.norm import BatchNorm, apply_norm, make_norm
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.ops.backend import current_backend
from tfdetect.ops.conv import conv2d
from tfdetect.ops.empty_batch import with_nonempty_batch


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
        norm: str | None = "",
    ):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.weight = tf.Variable(
            tf.zeros([kernel_size, kernel_size, in_channels // groups, out_channels])
        )
        self.bias = tf.Variable(tf.zeros([out_channels])) if bias else None
        self.norm = make_norm(norm, out_channels)

    def __call__(
        self,
        x: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
        *,
        residual: tf.Tensor | None = None,
        upsampled: bool = False,
        relu: bool = False,
    ) -> tf.Tensor:
        """Convolve and normalise; then add `residual`, and then apply ReLU.

        With the valid sizes of x, the valid part of each image's result is what it gets alone.

        Args:
            x: [N, H, W, in_channels]; the result is in its type.
            valid_sizes: of x.
            residual: of the result's shape and type, or None.
            upsampled: whether the residual has half the height and width and is upsampled 2x
                (nearest).
            relu: whether negative results become 0.
        """
        if self.kernel_size > 1:
            x = valid_sizes.zero_padding(x)
        weight, bias, norm = self.weight, self.bias, self.norm
        # Scaling the weights, not the output, saves reading the feature map again. Not with groups:
        # TensorFlow fuses the addition with the convolution, and its fused kernel on the CPU knows
        # no groups.
        if isinstance(norm, BatchNorm) and norm.uses_stored_statistics and self.groups == 1:
            scale, shift = norm.scale_and_shift()
            weight = weight * scale
            bias = shift if bias is None else bias * scale + shift
            norm = None
        # Within the batch's guard, so that TensorFlow fuses it with the convolution.
        fused_relu = relu and norm is None and residual is None

        def convolve(x: tf.Tensor) -> tf.Tensor:
            options = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
            y = conv2d(x, weight, bias, **options)
            return tf.nn.relu(y) if fused_relu else y

        # A batch that has valid sizes is one of images.
        y = with_nonempty_batch(convolve, x, nonempty=valid_sizes.sizes is not None)
        valid_sizes = valid_sizes.strided(self.stride)
        return finish(y, norm, valid_sizes, residual, upsampled, relu and not fused_relu)


def finish(
    y: tf.Tensor,
    norm: tf.Module | None,
    valid_sizes: ValidSizes,
    residual: tf.Tensor | None,
    upsampled: bool,
    relu: bool,
) -> tf.Tensor:
    """What comes after a convolution: y, whose valid sizes these are, normalised, and so on."""
    y = apply_norm(norm, y, valid_sizes)
    if residual is not None:
        y = y + (upsample_2x(residual) if upsampled else residual)
    return tf.nn.relu(y) if relu else y


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

        def convolve(x: tf.Tensor) -> tf.Tensor:
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

        return with_nonempty_batch(convolve, x)

    def blocks(self, x: tf.Tensor, *, relu: bool = False) -> tf.Tensor:
        """The same for kernel 2, before the outputs are rearranged: a 1 x 1 convolution.

        On a CPU it takes half the time of TensorFlow's transposed convolution.

        Args:
            x: [N, H, W, in_channels].
            relu: whether negative results become 0.

        Returns:
            [N, H, W, 2 * 2 * out_channels], which `tf.nn.depth_to_space` makes the result of.
        """
        bias = tf.concat([self.bias] * 4, 0)

        def convolve(x: tf.Tensor) -> tf.Tensor:
            y = tf.nn.conv2d(x, tf.cast(self.as_pointwise(), x.dtype), 1, "VALID")
            y = tf.nn.bias_add(y, tf.cast(bias, x.dtype))
            return tf.nn.relu(y) if relu else y

        return with_nonempty_batch(convolve, x)

    def as_pointwise(self) -> tf.Tensor:
        """The weight as [1, 1, in_channels, kernel * kernel * out_channels]."""
        return as_pointwise(self.weight)


def as_pointwise(weight: tf.Tensor | tf.Variable) -> tf.Tensor:
    """The weight [kernel, kernel, out_channels, in_channels] of a `ConvTranspose2d` as that of the
    1 x 1 convolution in `blocks`."""
    by_input = tf.transpose(weight, [3, 0, 1, 2])
    return tf.reshape(by_input, [1, 1, by_input.shape[0], -1])


def upsample_2x(x: tf.Tensor) -> tf.Tensor:
    """Nearest-neighbour 2x upsampling."""
    batch, height, width, channels = tf.unstack(tf.shape(x))
    # Not a slice with new axes, of which LiteRT's own kernel takes five at most.
    x = tf.reshape(x, [batch, height, 1, width, 1, channels])
    x = tf.broadcast_to(x, [batch, height, 2, width, 2, channels])
    return tf.reshape(x, [batch, 2 * height, 2 * width, channels])


def max_pool(x: tf.Tensor, kernel_size: int, stride: int, padding: int) -> tf.Tensor:
    """`torch.nn.functional.max_pool2d`, NHWC: symmetric padding that is never the maximum."""
    pad = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    if current_backend().fixed_shapes:  # XLA pools with no padding of its own
        x = tf.pad(x, pad, constant_values=float("-inf"))
        return tf.nn.max_pool2d(x, kernel_size, stride, "VALID")
    return tf.nn.max_pool2d(x, kernel_size, stride, pad)
