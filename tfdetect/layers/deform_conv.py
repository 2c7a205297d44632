"""Convolution with displaced taps, as a layer."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.norm import BatchNorm, apply_norm, make_norm
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.ops.deform_conv import deform_conv


class DeformConv2d(tf.Module):
    """Deformable convolution, NHWC, and its normalisation (`DeformConv`, `ModulatedDeformConv`).

    Variables are `weight` float32 [kernel, kernel, in_channels / groups, out_channels], the
    kernel being 3, and those of `norm`; there is no bias. The offsets come from a separate
    convolution, which belongs to the module that uses this layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dilation: int,
        groups: int,
        deformable_groups: int,
        norm: str,
    ):
        super().__init__()
        self._options = {
            "stride": stride,
            "padding": dilation,
            "dilation": dilation,
            "groups": groups,
            "deformable_groups": deformable_groups,
        }
        self.weight = tf.Variable(tf.zeros([3, 3, in_channels // groups, out_channels]))
        self.norm = make_norm(norm, out_channels)

    def __call__(
        self,
        x: tf.Tensor,
        offset: tf.Tensor,
        mask: tf.Tensor | None,
        valid_sizes: ValidSizes = WHOLE,
    ) -> tf.Tensor:
        """Convolve.

        Args:
            x: [N, H, W, in_channels].
            offset: [N, h, w, deformable_groups * 18], (dy, dx) of each tap in pixels of `x`.
            mask: [N, h, w, deformable_groups * 9], the factor of each tap, or None for version 1.
            valid_sizes: of x; the valid part of each image's result is what it gets alone.

        Returns:
            [N, h, w, out_channels] in the type of x; the arithmetic is float32, because positions
            need more than bfloat16's eight bits.
        """
        weight = self.weight
        shift = None
        if isinstance(self.norm, BatchNorm) and self.norm.uses_stored_statistics:
            scale, shift = self.norm.scale_and_shift()
            weight = weight * scale
        y = deform_conv(
            tf.cast(valid_sizes.zero_padding(x), tf.float32),
            tf.cast(offset, tf.float32),
            None if mask is None else tf.cast(mask, tf.float32),
            tf.convert_to_tensor(weight),
            **self._options,
        )
        if shift is not None:
            y = tf.nn.bias_add(y, shift)
        else:
            y = apply_norm(self.norm, y, valid_sizes.strided(self._options["stride"]))
        return tf.cast(y, x.dtype)
