"""Convolutions with PyTorch's padding."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.empty_batch import with_nonempty_batch
from tfdetect.layers.extents import WHOLE, Extents
from tfdetect.layers.norm import BatchNorm, Shift, make_norm, normalize
from tfdetect.ops import kernels
from tfdetect.ops.conv_gradients import conv2d, from_phases, lacks_gradients, to_phases
from tfdetect.ops.fixed import uses_fixed_shapes
from tfdetect.ops.packed_conv import (
    can_pack,
    can_use_winograd,
    pack_weight,
    packed_conv,
    packing_pays,
    trainable_winograd_conv,
    winograd_conv,
)


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
        self._stride = stride
        self._padding = padding
        self._dilation = dilation
        self.groups = groups
        self.weight = tf.Variable(
            tf.zeros([kernel_size, kernel_size, in_channels // groups, out_channels])
        )
        self.bias = tf.Variable(tf.zeros([out_channels])) if bias else None
        self.norm = make_norm(norm, out_channels)
        self.fits_winograd = dilation == 1 and self._can_use_winograd(stride, padding)
        self._packed: tf.Variable | None = None

    def __call__(
        self,
        x: tf.Tensor,
        extents: Extents = WHOLE,
        *,
        addend: tf.Tensor | None = None,
        doubled: bool = False,
        relu: bool = False,
    ) -> tf.Tensor:
        """Convolve and normalise; then add `addend`, and then apply ReLU.

        With the extents of x each image's own part of the result is what it gets alone.

        Args:
            x: [N, H, W, in_channels]; the result is in its type.
            extents: of x.
            addend: of the result's shape and type, or None.
            doubled: whether the addend has half the height and width, and every cell counts four
                times.
            relu: whether negative results become 0.
        """
        if doubled and (self._packed is None or self.norm is not None or self.fits_winograd):
            addend = nearest_double(addend)
        if self._packed is not None:
            return self._convolve_packed(x, extents, addend, relu)
        if self.kernel_size > 1:
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
        # Within the batch's guard, so that TensorFlow fuses it with the convolution.
        fused_relu = relu and norm is None and addend is None

        def convolve(x: tf.Tensor) -> tf.Tensor:
            y = self._convolve(x, weight, bias)
            return tf.nn.relu(y) if fused_relu else y

        # A batch that has extents is one of images.
        y = with_nonempty_batch(convolve, x, nonempty=extents.sizes is not None)
        return self._finish(y, norm, extents, addend, relu and not fused_relu)

    def _convolve(self, x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
        if self._dilation == 1 or not lacks_gradients(x):
            return self._convolve_as(x, weight, bias, self._stride, self._padding, self._dilation)
        inner, outer = divmod(self._padding, self._dilation)
        reach = self._dilation * (self.kernel_size - 1)
        height, width = (tf.shape(x)[axis] + 2 * self._padding - reach for axis in (1, 2))
        y = self._convolve_as(to_phases(x, self._dilation, outer), weight, bias, 1, inner, 1)
        return from_phases(y, self._dilation, height, width)[:, :: self._stride, :: self._stride]

    def _convolve_as(
        self,
        x: tf.Tensor,
        weight: tf.Tensor,
        bias: tf.Tensor | None,
        stride: int,
        padding: int,
        dilation: int,
    ) -> tf.Tensor:
        fits_winograd = dilation == 1 and self._can_use_winograd(stride, padding)
        if fits_winograd and x.dtype == tf.float32 and kernels.use_native_convolutions():
            shift = tf.zeros(weight.shape[3:]) if bias is None else bias
            return trainable_winograd_conv(x, weight, tf.convert_to_tensor(shift))
        weight = tf.cast(weight, x.dtype)
        y = conv2d(x, weight, stride=stride, padding=padding, dilation=dilation)
        return y if bias is None else tf.nn.bias_add(y, tf.cast(bias, x.dtype))

    def _can_use_winograd(self, stride: int, padding: int) -> bool:
        return can_use_winograd(self.weight.shape, stride, padding, self.groups)

    def pack(self) -> None:
        """Use the native kernels of `tfdetect.ops.packed_conv` from now on, where these pay.

        They replace `weight`; no norm of stored statistics may be left (see `fold_norms`).
        """
        if self._dilation != 1 or not can_pack(self.weight.shape, self.groups):
            return
        used = kernels.instruction_sets().used
        if not packing_pays(self.weight.shape, self._stride, self.groups, used):
            return
        if isinstance(self.norm, BatchNorm):
            return
        packed = pack_weight(self.weight, winograd=self.fits_winograd, groups=self.groups)
        self._packed = tf.Variable(packed, trainable=False)
        if self.bias is None:
            bias = tf.zeros(self.weight.shape[3:])
            if isinstance(self.norm, Shift):
                bias, self.norm = -self.norm.negative, None
            self.bias = tf.Variable(bias, trainable=False)
        del self.weight

    def _convolve_packed(
        self, x: tf.Tensor, extents: Extents, addend: tf.Tensor | None, relu: bool
    ) -> tf.Tensor:
        # What follows a norm that is left (GN) stays behind it.
        fused = self.norm is None and (addend is None or not self.fits_winograd)
        if self.fits_winograd:
            sizes = extents.sizes
            y = winograd_conv(x, self._packed, self.bias, relu=relu and fused, sizes=sizes)
        else:
            y = packed_conv(
                x if self.kernel_size == 1 else extents.keep(x),
                self._packed,
                self.bias,
                kernel_size=self.kernel_size,
                stride=self._stride,
                padding=self._padding,
                relu=relu and fused,
                addend=addend if fused else None,
            )
        return y if fused else self._finish(y, self.norm, extents, addend, relu)

    def _finish(
        self,
        y: tf.Tensor,
        norm: tf.Module | None,
        extents: Extents,
        addend: tf.Tensor | None,
        relu: bool,
    ) -> tf.Tensor:
        y = normalize(norm, y, extents.strided(self._stride))
        if addend is not None:
            y = y + addend
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
        self._packed: tf.Variable | None = None

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
        """The same for kernel 2, before its cells are put in their places: a 1 x 1 convolution.

        On a CPU it takes half the time of TensorFlow's transposed convolution.

        Args:
            x: [N, H, W, in_channels].
            relu: whether negative results become 0.

        Returns:
            [N, H, W, 2 * 2 * out_channels], which `tf.nn.depth_to_space` makes the result of.
        """
        bias = tf.concat([self.bias] * 4, 0)
        if self._packed is not None:
            return packed_conv(x, self._packed, bias, kernel_size=1, stride=1, padding=0, relu=relu)

        def convolve(x: tf.Tensor) -> tf.Tensor:
            y = tf.nn.conv2d(x, tf.cast(self._as_pointwise(), x.dtype), 1, "VALID")
            y = tf.nn.bias_add(y, tf.cast(bias, x.dtype))
            return tf.nn.relu(y) if relu else y

        return with_nonempty_batch(convolve, x)

    def pack(self) -> None:
        """As `Conv2d.pack`, where outputs do not overlap (kernel 2); only `blocks` is left then."""
        weight = self._as_pointwise()
        if self.weight.shape[0] == 2 and can_pack(weight.shape, 1):
            self._packed = tf.Variable(pack_weight(weight), trainable=False)
            del self.weight

    def _as_pointwise(self) -> tf.Tensor:
        """The weight as [1, 1, in_channels, kernel * kernel * out_channels]."""
        by_input = tf.transpose(self.weight, [3, 0, 1, 2])
        return tf.reshape(by_input, [1, 1, by_input.shape[0], -1])


def nearest_double(x: tf.Tensor) -> tf.Tensor:
    """Repeat every cell twice along height and width."""
    batch, height, width, channels = tf.unstack(tf.shape(x))
    x = tf.broadcast_to(x[:, :, None, :, None], [batch, height, 2, width, 2, channels])
    return tf.reshape(x, [batch, 2 * height, 2 * width, channels])


def max_pool(x: tf.Tensor, kernel_size: int, stride: int, padding: int) -> tf.Tensor:
    """`torch.nn.functional.max_pool2d`, NHWC: symmetric padding that never wins."""
    pad = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    if uses_fixed_shapes():  # XLA pools with no padding of its own
        x = tf.pad(x, pad, constant_values=float("-inf"))
        return tf.nn.max_pool2d(x, kernel_size, stride, "VALID")
    return tf.nn.max_pool2d(x, kernel_size, stride, pad)
