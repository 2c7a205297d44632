"""ResNet blocks."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdetect.layers.conv import Conv2d, max_pool
from tfdetect.layers.deform_conv import DeformConv2d
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes


class Stem(tf.Module):
    """7 x 7 convolution and max-pool: stride 4."""

    def __init__(self, out_channels: int, norm: str):
        super().__init__()
        self.conv1 = Conv2d(3, out_channels, 7, stride=2, padding=3, bias=False, norm=norm)

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """[N, H, W, 3] to [N, H / 4, W / 4, out_channels]."""
        x = self.conv1(x, valid_sizes, relu=True)
        # After ReLU, zeros never exceed the values in the image.
        return max_pool(valid_sizes.strided(2).zero_padding(x), 3, 2, 1)


class BasicBlock(tf.Module):
    """Two 3 x 3 convolutions around a shortcut (ResNet-18 and ResNet-34)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: str):
        super().__init__()
        self.stride = stride
        self.shortcut = _make_shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = Conv2d(
            in_channels, out_channels, 3, stride=stride, padding=1, bias=False, norm=norm
        )
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1, bias=False, norm=norm)

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """[N, H, W, in_channels] to [N, H / stride, W / stride, out_channels]."""
        y = self.conv1(x, valid_sizes, relu=True)
        shortcut = x if self.shortcut is None else self.shortcut(x, valid_sizes)
        return self.conv2(y, valid_sizes.strided(self.stride), residual=shortcut, relu=True)


class Deformation(NamedTuple):
    """How the 3 x 3 convolution of a block is deformed.

    Attributes:
        modulated: version 2, where every tap has a modulation factor in addition to its offset.
        groups: number of channel groups with separate offsets.
    """

    modulated: bool
    groups: int


class BottleneckBlock(tf.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut.

    With a `deformation` it is Detectron2's DeformBottleneckBlock: a further convolution,
    `conv2_offset`, says where the taps of the 3 x 3 one lie.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bottleneck_channels: int,
        *,
        stride: int,
        stride_in_1x1: bool,
        dilation: int,
        groups: int,
        norm: str,
        deformation: Deformation | None = None,
    ):
        super().__init__()
        self.shortcut = _make_shortcut(in_channels, out_channels, stride, norm)
        # The original MSRA models stride in the 1 x 1, those trained with Torch in the 3 x 3.
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.stride = stride
        self._stride_1x1 = stride_1x1
        self.conv1 = Conv2d(
            in_channels, bottleneck_channels, 1, stride=stride_1x1, bias=False, norm=norm
        )
        self.conv2_offset: Conv2d | None = None
        self.conv2: tf.Module
        if deformation is None:
            self.conv2 = Conv2d(
                bottleneck_channels,
                bottleneck_channels,
                3,
                stride=stride_3x3,
                padding=dilation,
                dilation=dilation,
                groups=groups,
                bias=False,
                norm=norm,
            )
        else:
            # Nine taps in each group: (dy, dx), and where modulated all factors after all offsets.
            self._offset_channels = 18 * deformation.groups
            self._factor_channels = 9 * deformation.groups if deformation.modulated else 0
            self.conv2_offset = Conv2d(
                bottleneck_channels,
                self._offset_channels + self._factor_channels,
                3,
                stride=stride_3x3,
                padding=dilation,
                dilation=dilation,
            )
            self.conv2 = DeformConv2d(
                bottleneck_channels,
                bottleneck_channels,
                stride=stride_3x3,
                dilation=dilation,
                groups=groups,
                deformable_groups=deformation.groups,
                norm=norm,
            )
        self.conv3 = Conv2d(bottleneck_channels, out_channels, 1, bias=False, norm=norm)

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """[N, H, W, in_channels] to [N, H / stride, W / stride, out_channels]."""
        between = valid_sizes.strided(self._stride_1x1)
        y = self.conv1(x, valid_sizes, relu=True)
        if self.conv2_offset is None:
            y = self.conv2(y, between, relu=True)
        else:
            offset, factor = tf.split(
                self.conv2_offset(y, between),
                [self._offset_channels, self._factor_channels],
                axis=-1,
            )
            factor = tf.sigmoid(factor) if self._factor_channels else None
            y = tf.nn.relu(self.conv2(y, offset, factor, between))
        shortcut = x if self.shortcut is None else self.shortcut(x, valid_sizes)
        return self.conv3(y, valid_sizes.strided(self.stride), residual=shortcut, relu=True)


def _make_shortcut(in_channels: int, out_channels: int, stride: int, norm: str) -> Conv2d | None:
    """A projection where the channels change; None where the input itself is the shortcut."""
    if in_channels == out_channels:
        return None
    return Conv2d(in_channels, out_channels, 1, stride=stride, bias=False, norm=norm)
