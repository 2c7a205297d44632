"""The box head: from pooled features to class logits and box deltas (Fast R-CNN; FPN, section
4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.errors import InputError
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.linear import Linear
from tfdetect.modeling.registries import BOX_HEADS
from tfdetect.ops.probabilities import sigmoid, softmax


@BOX_HEADS.register()
class FastRCNNConvFCHead(tf.Module):
    """Convolutions `conv1` .. and fully connected layers `fc1` .. with ReLU.

    Attributes:
        out_features: length of the vectors that it gives.
        out_shape: (height, width, channels) if they are a flattened map, else None.

    Args:
        in_channels: of the pooled regions.
        side: they are `side` x `side`.
        conv_dims: the channels of each convolution.
        fc_dims: the features of each fully connected layer.
        norm: of the convolutions, as Detectron2 names it; "" or None for none.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        side: int,
        conv_dims: Sequence[int],
        fc_dims: Sequence[int],
        norm: str | None = "",
    ):
        super().__init__()
        self._convs, self._fcs = [], []
        channels = in_channels
        for index, dim in enumerate(conv_dims, start=1):
            conv = Conv2d(channels, dim, 3, padding=1, bias=not norm, norm=norm)
            setattr(self, f"conv{index}", conv)
            self._convs.append(conv)
            channels = dim
        shape: tuple[int, int, int] | None = (side, side, channels)
        self.out_features = side * side * channels
        for index, dim in enumerate(fc_dims, start=1):
            fc = Linear(self.out_features, dim, flattened=shape)
            setattr(self, f"fc{index}", fc)
            self._fcs.append(fc)
            self.out_features, shape = dim, None
        self.out_shape = shape

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> FastRCNNConvFCHead:
        """From MODEL.ROI_BOX_HEAD."""
        head = cfg.MODEL.ROI_BOX_HEAD
        if head.NUM_CONV + head.NUM_FC == 0:
            raise InputError("MODEL.ROI_BOX_HEAD: NUM_CONV and NUM_FC are both 0; set one")
        return cls(
            in_channels,
            side=head.POOLER_RESOLUTION,
            conv_dims=[head.CONV_DIM] * head.NUM_CONV,
            fc_dims=[head.FC_DIM] * head.NUM_FC,
            norm=head.NORM,
        )

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[R, side, side, C] -> [R, out_features]."""
        for conv in self._convs:
            x = conv(x, relu=True)
        x = tf.reshape(x, [tf.shape(x)[0], -1])
        for fc in self._fcs:
            x = fc(x, relu=True)
        return x


class FastRCNNOutputLayers(tf.Module):
    """Class logits (background last) and box deltas.

    Attributes:
        fed_loss_cls_weights: float32 [K], how likely the federated loss draws each class; None
            without `use_fed_loss`. Zeros: not known yet.

    Args:
        in_features: length of the head's vectors.
        in_shape: (height, width, channels) if these vectors are a flattened map.
        num_classes: K, without the background.
        cls_agnostic_bbox_reg: whether the deltas do not depend on the class.
        use_sigmoid_ce: whether each class has a probability of its own, or all of them one sum.
        use_fed_loss: see above.
        box_dim: numbers of a box's deltas: 4, or 5 for rotated boxes.
    """

    def __init__(
        self,
        in_features: int,
        in_shape: tuple[int, int, int] | None = None,
        *,
        num_classes: int,
        cls_agnostic_bbox_reg: bool = False,
        use_sigmoid_ce: bool = False,
        use_fed_loss: bool = False,
        box_dim: int = 4,
    ):
        super().__init__()
        self._sigmoid = use_sigmoid_ce
        self.cls_score = Linear(in_features, num_classes + 1, flattened=in_shape)
        box_classes = 1 if cls_agnostic_bbox_reg else num_classes
        self.bbox_pred = Linear(in_features, box_classes * box_dim, flattened=in_shape)
        self.fed_loss_cls_weights = None
        if use_fed_loss:
            self.fed_loss_cls_weights = tf.Variable(tf.zeros([num_classes]), trainable=False)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, in_features: int, in_shape: tuple[int, int, int] | None = None
    ) -> FastRCNNOutputLayers:
        """From MODEL.ROI_HEADS and MODEL.ROI_BOX_HEAD."""
        head = cfg.MODEL.ROI_BOX_HEAD
        return cls(
            in_features,
            in_shape,
            num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            cls_agnostic_bbox_reg=head.CLS_AGNOSTIC_BBOX_REG,
            use_sigmoid_ce=head.USE_SIGMOID_CE,
            use_fed_loss=head.USE_FED_LOSS,
            box_dim=capabilities(cfg).box_dim,
        )

    def __call__(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """[R, in_features] -> logits [R, K + 1] and deltas [R, K * box_dim or box_dim], float32."""
        logits, deltas = self.cls_score(x), self.bbox_pred(x)
        return tf.cast(logits, tf.float32), tf.cast(deltas, tf.float32)

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Scores of the same shape: softmax, or a sigmoid per class with USE_SIGMOID_CE."""
        return sigmoid(logits) if self._sigmoid else softmax(logits)
