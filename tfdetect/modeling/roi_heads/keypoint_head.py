"""The keypoint head (Mask R-CNN, section 5)."""

from __future__ import annotations

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.layers.conv import Conv2d, ConvTranspose2d
from tfdetect.modeling.registries import KEYPOINT_HEADS


@KEYPOINT_HEADS.register()
class KRCNNConvDeconvUpsampleHead(tf.Module):
    """Convolutions `conv_fcn1` .., a transposed convolution, and bilinear doubling."""

    def __init__(self, cfg: CfgNode, in_channels: int):
        super().__init__()
        head = cfg.MODEL.ROI_KEYPOINT_HEAD
        self._convs = []
        for index, dim in enumerate(head.CONV_DIMS, start=1):
            conv = Conv2d(in_channels, dim, 3, padding=1)
            setattr(self, f"conv_fcn{index}", conv)
            self._convs.append(conv)
            in_channels = dim
        self.score_lowres = ConvTranspose2d(in_channels, head.NUM_KEYPOINTS, 4)

    def output_size(self, side: int) -> int:
        """The side of the heatmaps of regions that are pooled to `side` x `side`."""
        return 4 * side

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[R, side, side, C] -> heatmap logits float32 [R, 4 side, 4 side, keypoints]."""
        for conv in self._convs:
            x = conv(x, relu=True)
        x = tf.cast(self.score_lowres(x), tf.float32)
        return tf.image.resize(x, 2 * tf.shape(x)[1:3])  # bilinear between pixel centres
