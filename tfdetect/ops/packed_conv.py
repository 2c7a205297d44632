"""CPU convolutions with pre-packed weights.

3 x 3 convolutions with stride 1 use Winograd's minimal filtering (Lavin and Gray, 2016) with tiles
of 2 x 2, which rounds no worse than direct convolution; others are matrix products. They exist only
as native operators, equivalent to `tf.nn.conv2d` followed by the bias, the residual and ReLU.
"""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.conv_gradients import weight_gradient
from tfdetect.ops.kernels.instruction_set import BASELINE


def can_pack(weight_shape: tf.TensorShape, groups: int) -> bool:
    """Whether `packed_conv` takes a weight [k, k, Cin / groups, Cout].

    Output channels must be a multiple of the vector length 16; others use TensorFlow.
    """
    return weight_shape[3] % 16 == 0 and weight_shape[3] % groups == 0


def can_use_winograd(weight_shape: tf.TensorShape, stride: int, padding: int, groups: int) -> bool:
    """Whether `winograd_conv` takes such a convolution."""
    height, width, inputs, outputs = weight_shape.as_list()
    plain = (height, width, stride, padding, groups) == (3, 3, 1, 1, 1)
    return plain and inputs % 8 == 0 and outputs % 16 == 0


def packing_pays(
    weight_shape: tf.TensorShape, stride: int, groups: int, instruction_set: str
) -> bool:
    """Whether the native kernel of a convolution is faster than TensorFlow's.

    Measured for every shape of the zoo (docs/convolutions.md; `benchmarks/convolutions.py` repeats
    it) beside what TensorFlow uses by default with that instruction set: its own convolutions with
    AVX2, oneDNN's with AVX-512.

    Args:
        weight_shape: [k, k, Cin / groups, Cout].
        stride: of both axes.
        groups: number of channel groups.
        instruction_set: of the native kernels on the processor that runs the model: "baseline",
            "avx2" or "avx512".
    """
    kernel_size, _, inputs, _ = weight_shape
    if instruction_set == BASELINE:
        return False
    if groups > 1 and inputs >= 64:
        return False
    if instruction_set == "avx2":
        return True
    if groups > 1 and inputs <= 8:
        return False
    return kernel_size < 7


def pack_weight(weight: tf.Tensor, *, winograd: bool = False, groups: int = 1) -> tf.Tensor:
    """The packed weight of a convolution, in the order in which the kernel reads it.

    Args:
        weight: float32 [k, k, Cin / groups, Cout].
        winograd: whether for `winograd_conv`, and not for `packed_conv`.
        groups: number of channel groups.

    Returns:
        float32 [matrices, panels, rows, 16].
    """
    library = kernels.library()
    return library.tfdetect_pack_weights(weight=weight, winograd=winograd, groups=groups)


def packed_conv(
    x: tf.Tensor,
    packed: tf.Tensor,
    bias: tf.Tensor,
    *,
    kernel_size: int,
    stride: int,
    padding: int,
    relu: bool,
    gelu: bool = False,
    residual: tf.Tensor | None = None,
) -> tf.Tensor:
    """2-D convolution with zeros around x.

    Args:
        x: float32 [B, H, W, Cin].
        packed: of `pack_weight`.
        bias: float32 [Cout].
        kernel_size: k, of both axes, as are `stride` and `padding`.
        relu: whether negative results become 0, after all.
        gelu: whether GELU is applied, after all.
        residual: added to the result: float32 of its shape, or of half its height and width, which
            is upsampled 2x; or None.

    Returns:
        float32 [B, h, w, Cout], h = (H + 2 padding - k) // stride + 1.
    """
    return kernels.library().tfdetect_packed_conv(
        x=x,
        packed=packed,
        bias=bias,
        residual=tf.zeros([0]) if residual is None else residual,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        relu=relu,
        gelu=gelu,
    )


def winograd_conv(
    x: tf.Tensor,
    packed: tf.Tensor,
    bias: tf.Tensor,
    *,
    relu: bool,
    sizes: tf.Tensor | None = None,
) -> tf.Tensor:
    """3 x 3 convolution of stride 1, padded by 1.

    Args:
        x: float32 [B, H, W, Cin].
        packed: of `pack_weight`.
        bias: float32 [Cout].
        relu: whether negative results become 0.
        sizes: int32 [B, 2], the valid (height, width) of each image; the rest is read as 0. None:
            everything is valid.

    Returns:
        float32 [B, H, W, Cout].
    """
    return kernels.library().tfdetect_winograd_conv(
        x=x,
        packed=packed,
        bias=bias,
        sizes=tf.zeros([0, 2], tf.int32) if sizes is None else sizes,
        relu=relu,
    )


def trainable_winograd_conv(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """`winograd_conv` for training, differentiable in x, weight and bias.

    The gradient of x is such a convolution too; the others are TensorFlow's.

    Args:
        x: float32 [B, H, W, Cin].
        weight: float32 [3, 3, Cin, Cout].
        bias: float32 [Cout].

    Returns:
        float32 [B, H, W, Cout].
    """

    @tf.custom_gradient
    def convolve(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor):
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            turned = tf.transpose(weight[::-1, ::-1], [0, 1, 3, 2])
            nothing = tf.zeros(turned.shape[3:])
            x_gradient = winograd_conv(
                upstream, pack_weight(turned, winograd=True), nothing, relu=False
            )
            bias_gradient = tf.raw_ops.BiasAddGrad(out_backprop=upstream)
            return x_gradient, weight_gradient(x, upstream), bias_gradient

        y = winograd_conv(x, pack_weight(weight, winograd=True), bias, relu=False)
        return y, gradient

    return convolve(x, weight, bias)
