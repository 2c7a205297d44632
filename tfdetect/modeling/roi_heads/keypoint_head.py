"""The keypoint head (Mask R-CNN, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.layers.conv import Conv2d, ConvTranspose2d
from tfdetect.modeling.registries import KEYPOINT_HEADS


@KEYPOINT_HEADS.register()
class KRCNNConvDeconvUpsampleHead(tf.Module):
    """Convolutions `conv_fcn1` .., a transposed convolution, and bilinear doubling.

    Args:
        in_channels: of the pooled regions.
        num_keypoints: K.
        conv_dims: the channels of each convolution.
    """

    def __init__(self, in_channels: int, *, num_keypoints: int, conv_dims: Sequence[int]):
        super().__init__()
        self._convs = []
        for index, dim in enumerate(conv_dims, start=1):
            conv = Conv2d(in_channels, dim, 3, padding=1)
            setattr(self, f"conv_fcn{index}", conv)
            self._convs.append(conv)
            in_channels = dim
        self.score_lowres = ConvTranspose2d(in_channels, num_keypoints, 4)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> KRCNNConvDeconvUpsampleHead:
        """From MODEL.ROI_KEYPOINT_HEAD."""
        head = cfg.MODEL.ROI_KEYPOINT_HEAD
        return cls(in_channels, num_keypoints=head.NUM_KEYPOINTS, conv_dims=head.CONV_DIMS)

    def output_size(self, side: int) -> int:
        """The side of the heatmaps of regions that are pooled to `side` x `side`."""
        return 4 * side

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[R, side, side, C] -> heatmap logits float32 [R, 4 side, 4 side, keypoints]."""
        for conv in self._convs:
            x = conv(x, relu=True)
        x = tf.cast(self.score_lowres(x), tf.float32)
        return tf.image.resize(x, 2 * tf.shape(x)[1:3])  # bilinear between pixel centres
