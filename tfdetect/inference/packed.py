"""Layers whose weights are in the order in which the CPU's own kernels read them.

Each takes the place of a layer of `tfdetect.layers` or `tfdetect.modeling` in what `optimize` makes
for a CPU, and is called as that is. Features are of the weight's type, float32 or bfloat16; biases
are float32 in every case. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.layers.conv import finish
from tfdetect.layers.linear import flatten, with_last_axis
from tfdetect.layers.norm import EPSILON, GroupNorm
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.ops.group_norm import group_norm
from tfdetect.ops.packed_conv import pack_weight, packed_conv, winograd_conv


class PackedConv2d(tf.Module):
    """A `Conv2d` as matrix products.

    Args:
        weight: float32 or bfloat16 [k, k, Cin / groups, Cout], as `can_pack` has it.
        bias: float32 [Cout].
        norm: what depends on the input (GN) or was left by folding, or None.
    """

    def __init__(
        self,
        weight: tf.Tensor,
        bias: tf.Tensor,
        norm: tf.Module | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ):
        super().__init__()
        self.kernel_size = weight.shape[0]
        self.stride = stride
        self.padding = padding
        self.groups = groups
        self.packed = tf.Variable(pack_weight(weight, groups=groups), trainable=False)
        self.bias = tf.Variable(bias, trainable=False)
        self.norm = norm

    def __call__(
        self,
        x: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
        *,
        residual: tf.Tensor | None = None,
        upsampled: bool = False,
        relu: bool = False,
    ) -> tf.Tensor:
        """As `Conv2d`."""
        fused = self.norm is None  # what follows a norm stays behind it
        y = packed_conv(
            x if self.kernel_size == 1 else valid_sizes.zero_padding(x),
            self.packed,
            self.bias,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
            relu=relu and fused,
            residual=residual if fused else None,
        )
        if fused:
            return y
        valid_sizes = valid_sizes.strided(self.stride)
        return _finish(y, self.norm, valid_sizes, residual, upsampled, relu)


class WinogradConv2d(tf.Module):
    """A `Conv2d` of 3 x 3 and stride 1 by Winograd's minimal filtering.

    Args:
        weight: float32 or bfloat16 [3, 3, Cin, Cout], as `can_use_winograd` has it.
        bias, norm: as `PackedConv2d`'s.
    """

    def __init__(self, weight: tf.Tensor, bias: tf.Tensor, norm: tf.Module | None = None):
        super().__init__()
        self.packed = tf.Variable(pack_weight(weight, winograd=True), trainable=False)
        self.bias = tf.Variable(bias, trainable=False)
        self.norm = norm

    def __call__(
        self,
        x: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
        *,
        residual: tf.Tensor | None = None,
        upsampled: bool = False,
        relu: bool = False,
    ) -> tf.Tensor:
        """As `Conv2d`."""
        fused = self.norm is None and residual is None
        y = winograd_conv(x, self.packed, self.bias, relu=relu and fused, sizes=valid_sizes.sizes)
        if fused:
            return y
        return _finish(y, self.norm, valid_sizes, residual, upsampled, relu)


class PackedGroupNorm(tf.Module):
    """A `GroupNorm`, with what follows it in the same pass.

    Args:
        norm: whose values it takes, of a number of channels that is a multiple of 8.
    """

    takes_valid_sizes = True

    def __init__(self, norm: GroupNorm):
        super().__init__()
        self.groups = norm.groups
        self.weight = tf.Variable(norm.weight, trainable=False)
        self.bias = tf.Variable(norm.bias, trainable=False)

    def __call__(
        self,
        x: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
        *,
        residual: tf.Tensor | None = None,
        relu: bool = False,
    ) -> tf.Tensor:
        """As `GroupNorm`; then add `residual`, and then apply ReLU."""
        return group_norm(
            x,
            self.weight,
            self.bias,
            groups=self.groups,
            epsilon=EPSILON,
            relu=relu,
            sizes=valid_sizes.sizes,
            residual=residual,
        )


def _finish(
    y: tf.Tensor,
    norm: tf.Module | None,
    valid_sizes: ValidSizes,
    residual: tf.Tensor | None,
    upsampled: bool,
    relu: bool,
) -> tf.Tensor:
    """As `finish`, in one pass where the norm can."""
    if isinstance(norm, PackedGroupNorm) and not upsampled:
        return norm(y, valid_sizes, residual=residual, relu=relu)
    return finish(y, norm, valid_sizes, residual, upsampled, relu)


class PackedConvTranspose2d(tf.Module):
    """A `ConvTranspose2d` of kernel 2, whose outputs do not overlap: a matrix product.

    Args:
        pointwise: float32 or bfloat16 [1, 1, Cin, 2 * 2 * Cout], as `can_pack` has it.
        bias: float32 [Cout].
    """

    def __init__(self, pointwise: tf.Tensor, bias: tf.Tensor):
        super().__init__()
        self.packed = tf.Variable(pack_weight(pointwise), trainable=False)
        self.bias = tf.Variable(bias, trainable=False)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """As `ConvTranspose2d`."""
        return tf.nn.depth_to_space(self.blocks(x), 2)

    def blocks(self, x: tf.Tensor, *, relu: bool = False) -> tf.Tensor:
        """As `ConvTranspose2d.blocks`."""
        bias = tf.concat([self.bias] * 4, 0)
        return packed_conv(x, self.packed, bias, kernel_size=1, stride=1, padding=0, relu=relu)


class PackedLinear(tf.Module):
    """A `Linear`, with what follows it in the same pass.

    Args:
        weight: float32 or bfloat16 [in_features, out_features]; out_features is a multiple of 16.
        bias: float32 [out_features].
    """

    def __init__(self, weight: tf.Tensor, bias: tf.Tensor):
        super().__init__()
        self.packed = tf.Variable(pack_weight(weight[None, None]), trainable=False)
        self.bias = tf.Variable(bias, trainable=False)

    def __call__(
        self,
        x: tf.Tensor,
        *,
        residual: tf.Tensor | None = None,
        relu: bool = False,
        gelu: bool = False,
    ) -> tf.Tensor:
        """As `Linear`."""
        y = packed_conv(
            flatten(x)[None, None],
            self.packed,
            self.bias,
            kernel_size=1,
            stride=1,
            padding=0,
            relu=relu,
            gelu=gelu,
            residual=None if residual is None else flatten(residual)[None, None],
        )
        return with_last_axis(tf.squeeze(y, [0, 1]), x)


class PackedRPNHead(tf.Module):
    """An `RPNHead` with logits and deltas of one convolution, which reads the features once.

    Args:
        convs: the 3 x 3 convolutions, optimized.
        weight, bias: of logits and deltas, [1, 1, C, A * (1 + box_dim)] and [A * (1 + box_dim)].
        anchors_per_location: A.
    """

    def __init__(
        self,
        convs: Sequence[tf.Module],
        weight: tf.Tensor,
        bias: tf.Tensor,
        anchors_per_location: int,
    ):
        super().__init__()
        self.convs = list(convs)
        self._sizes = [anchors_per_location, weight.shape[3] - anchors_per_location]
        # Channels of zeros that fill vectors: the native kernels take no others (`can_pack`).
        beyond = -weight.shape[3] % 16
        weight = tf.pad(weight, [[0, 0], [0, 0], [0, 0], [0, beyond]])
        self.both = PackedConv2d(weight, tf.pad(bias, [[0, beyond]]))

    def __call__(
        self, feature: tf.Tensor, valid_sizes: ValidSizes = WHOLE
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `RPNHead`."""
        for conv in self.convs:
            feature = conv(feature, valid_sizes, relu=True)
        both = tf.cast(self.both(feature), tf.float32)
        anchors, deltas = self._sizes
        return both[..., :anchors], both[..., anchors : anchors + deltas]
