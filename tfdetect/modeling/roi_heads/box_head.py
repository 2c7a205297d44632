"""The box head: pooled regions to class logits and box deltas (Fast R-CNN; FPN, section 4.2)."""

from __future__ import annotations

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.linear import Linear
from tfdetect.modeling.registries import BOX_HEADS


@BOX_HEADS.register()
class FastRCNNConvFCHead(tf.Module):
    """Convolutions `conv1` .. and fully connected layers `fc1` .. with ReLU."""

    def __init__(self, cfg: CfgNode, in_channels: int):
        super().__init__()
        head = cfg.MODEL.ROI_BOX_HEAD
        if head.NUM_CONV + head.NUM_FC == 0:
            raise InputError("MODEL.ROI_BOX_HEAD: NUM_CONV and NUM_FC are both 0; set one")
        side = head.POOLER_RESOLUTION
        self._convs, self._fcs = [], []
        channels = in_channels
        for index in range(1, head.NUM_CONV + 1):
            conv = Conv2d(channels, head.CONV_DIM, 3, padding=1, bias=not head.NORM, norm=head.NORM)
            setattr(self, f"conv{index}", conv)
            self._convs.append(conv)
            channels = head.CONV_DIM
        shape: tuple[int, int, int] | None = (side, side, channels)
        self.out_features = side * side * channels
        for index in range(1, head.NUM_FC + 1):
            fc = Linear(self.out_features, head.FC_DIM, flattened=shape)
            setattr(self, f"fc{index}", fc)
            self._fcs.append(fc)
            self.out_features, shape = head.FC_DIM, None
        self.out_shape = shape

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[R, side, side, C] -> [R, out_features]."""
        for conv in self._convs:
            x = conv(x, relu=True)
        x = tf.reshape(x, [tf.shape(x)[0], -1])
        for fc in self._fcs:
            x = tf.nn.relu(fc(x))
        return x


class FastRCNNOutputLayers(tf.Module):
    """Class logits (background last) and box deltas.

    Attributes:
        fed_loss_cls_weights: float32 [K], how likely the federated loss draws each class; with
            MODEL.ROI_BOX_HEAD.USE_FED_LOSS, else None. Zeros: not known yet.

    Args:
        cfg: the whole configuration.
        in_features: length of the head's vectors.
        in_shape: (height, width, channels) if these vectors are a flattened map.
    """

    def __init__(
        self, cfg: CfgNode, in_features: int, in_shape: tuple[int, int, int] | None = None
    ):
        super().__init__()
        classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        head = cfg.MODEL.ROI_BOX_HEAD
        self._sigmoid = head.USE_SIGMOID_CE
        self.cls_score = Linear(in_features, classes + 1, flattened=in_shape)
        box_classes = 1 if head.CLS_AGNOSTIC_BBOX_REG else classes
        self.bbox_pred = Linear(in_features, box_classes * 4, flattened=in_shape)
        self.fed_loss_cls_weights = None
        if head.USE_FED_LOSS:
            self.fed_loss_cls_weights = tf.Variable(tf.zeros([classes]), trainable=False)

    def __call__(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """[R, in_features] -> logits [R, K + 1] and deltas [R, K * 4 or 4], both float32."""
        logits, deltas = self.cls_score(x), self.bbox_pred(x)
        return tf.cast(logits, tf.float32), tf.cast(deltas, tf.float32)

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Scores of the same shape: softmax, or each class for itself with USE_SIGMOID_CE."""
        return tf.sigmoid(logits) if self._sigmoid else tf.nn.softmax(logits)
