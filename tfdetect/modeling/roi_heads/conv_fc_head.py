"""One vector of each region: PointRend's coarse masks, or the parameters of a point head."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.layers.conv import Conv2d
from tfdetect.layers.linear import Linear


class ConvFCHead(tf.Module):
    """Convolutions that lessen channels and halve the region, then `fc1` .. and a `prediction`.

    Detectron2's class of this name in PointRend.

    Args:
        in_channels: of the regions; a 1 x 1 convolution comes first where they are more than
            `conv_dim`.
        side: of the regions, even.
        conv_dim: channels of the convolutions.
        fc_dims: channels of each fully connected layer, at least one.
        out_features: length of the result.
    """

    def __init__(
        self,
        in_channels: int,
        side: int,
        *,
        conv_dim: int,
        fc_dims: Sequence[int],
        out_features: int,
    ):
        super().__init__()
        self._convs = []
        if in_channels > conv_dim:
            self.reduce_channel_dim_conv = Conv2d(in_channels, conv_dim, 1)
            self._convs.append(self.reduce_channel_dim_conv)
        self.reduce_spatial_dim_conv = Conv2d(conv_dim, conv_dim, 2, stride=2)
        self._convs.append(self.reduce_spatial_dim_conv)
        self._layers = []
        half = side // 2
        features, flattened = half * half * conv_dim, (half, half, conv_dim)
        self._features = features
        for index, fc_dim in enumerate(fc_dims, start=1):
            layer = Linear(features, fc_dim, flattened if index == 1 else None)
            setattr(self, f"fc{index}", layer)
            self._layers.append(layer)
            features = fc_dim
        self.prediction = Linear(features, out_features)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[R, side, side, in_channels] -> float32 [R, out_features]."""
        for conv in self._convs:
            x = conv(x, relu=True)
        x = tf.reshape(x, [-1, self._features])
        for layer in self._layers:
            x = layer(x, relu=True)
        return tf.cast(self.prediction(x), tf.float32)
