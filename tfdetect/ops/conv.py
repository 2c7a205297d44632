"""2-D convolution with PyTorch's padding."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.backend import current_backend
from tfdetect.ops.conv_gradients import from_phases, grouped_conv2d, to_phases
from tfdetect.ops.packed_conv import can_use_winograd, packing_pays, trainable_winograd_conv


def conv2d(
    x: tf.Tensor,
    weight: tf.Tensor,
    bias: tf.Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> tf.Tensor:
    """2-D convolution with zeros around x, differentiable on every device (for one pass).

    Args:
        x: float [B, H, W, Cin].
        weight: float32 [k, k, Cin / groups, Cout].
        bias: float32 [Cout], or None.
        stride, padding, dilation: of both axes; padding is less than k where there are groups.

    Returns:
        [B, h, w, Cout] in the type of x, h = (H + 2 padding - dilation (k - 1) - 1) // stride + 1.

    `torch.nn.functional.conv2d`.
    """
    if dilation == 1 or not _lacks_gradients():
        return _convolve(x, weight, bias, stride, padding, dilation)
    inner, outer = divmod(padding, dilation)
    reach = dilation * (weight.shape[0] - 1)
    height, width = (tf.shape(x)[axis] + 2 * padding - reach for axis in (1, 2))
    y = _convolve(to_phases(x, dilation, outer), weight, bias, 1, inner, 1)
    return from_phases(y, dilation, height, width)[:, ::stride, ::stride]


def _convolve(
    x: tf.Tensor,
    weight: tf.Tensor,
    bias: tf.Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
) -> tf.Tensor:
    groups = x.shape[3] // weight.shape[2]
    if (
        x.dtype == tf.float32
        and dilation == 1
        and can_use_winograd(weight.shape, stride, padding, groups)
        and (backend := current_backend()).native_sums
        and packing_pays(weight.shape, stride, groups, backend.instruction_set)
    ):
        shift = tf.zeros(weight.shape[3:]) if bias is None else bias
        return trainable_winograd_conv(x, tf.convert_to_tensor(weight), tf.convert_to_tensor(shift))
    weight = tf.cast(weight, x.dtype)
    if groups > 1 and dilation == 1 and _lacks_gradients():
        y = grouped_conv2d(x, weight, groups, stride, padding)
    else:
        sides = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
        y = tf.nn.conv2d(x, weight, stride, sides, dilations=dilation)
    return y if bias is None else tf.nn.bias_add(y, tf.cast(bias, x.dtype))


def _lacks_gradients() -> bool:
    """Whether TensorFlow cannot differentiate a grouped or dilated convolution.

    It can on a GPU. Graphs of fixed shapes are never trained.
    """
    backend = current_backend()
    return backend.device == "cpu" and not backend.fixed_shapes
