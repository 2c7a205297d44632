"""Point heads: a small network of each point's features (PointRend, section 3.1)."""

from __future__ import annotations

import math

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.conv1d import Conv1d
from tfdetect.modeling.features import Shapes, input_features
from tfdetect.modeling.points import own_logits
from tfdetect.modeling.registries import POINT_HEADS

_ENCODED = 256  # channels of the positional encoding


@POINT_HEADS.register()
class StandardPointHead(tf.Module):
    """Layers `fc1` .. with ReLU, and a predictor, on fine-grained features and coarse predictions.

    Args:
        in_channels: of the fine-grained features.
        num_classes: of the coarse predictions.
        num_outputs: logits of a point: `num_classes`, or 1 where they do not depend on the class.
        fc_dim: channels of the layers.
        num_fc: how many layers.
        coarse_pred_each_layer: whether every layer is given the coarse predictions once more.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        num_outputs: int,
        fc_dim: int,
        num_fc: int,
        coarse_pred_each_layer: bool,
    ):
        super().__init__()
        self._coarse_pred_each_layer = coarse_pred_each_layer
        self._layers = []
        channels = in_channels + num_classes
        for index in range(1, num_fc + 1):
            layer = Conv1d(channels, fc_dim)
            setattr(self, f"fc{index}", layer)
            self._layers.append(layer)
            channels = fc_dim + (num_classes if coarse_pred_each_layer else 0)
        self.predictor = Conv1d(channels, num_outputs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> StandardPointHead:
        """From MODEL.POINT_HEAD."""
        head = cfg.MODEL.POINT_HEAD
        return cls(
            in_channels,
            num_classes=head.NUM_CLASSES,
            num_outputs=1 if head.CLS_AGNOSTIC_MASK else head.NUM_CLASSES,
            fc_dim=head.FC_DIM,
            num_fc=head.NUM_FC,
            coarse_pred_each_layer=head.COARSE_PRED_EACH_LAYER,
        )

    def __call__(self, fine_grained: tf.Tensor, coarse: tf.Tensor) -> tf.Tensor:
        """Logits of points.

        Args:
            fine_grained: [N, P, in_channels]; it is computed in their type.
            coarse: [N, P, num_classes], the coarse predictions there.

        Returns:
            float32 [N, P, num_outputs].
        """
        coarse = tf.cast(coarse, fine_grained.dtype)
        x = tf.concat([fine_grained, coarse], 2)
        for layer in self._layers:
            x = tf.nn.relu(layer(x))
            if self._coarse_pred_each_layer:
                x = tf.concat([x, coarse], 2)
        return tf.cast(self.predictor(x), tf.float32)


@POINT_HEADS.register()
class ImplicitPointHead(tf.Module):
    """A network whose parameters are given, one set for each instance (Cheng et al., 2022, 4.2).

    Its input is the positional encoding of a point, the fine-grained features, or both. The
    frequencies of the encoding, `positional_encoding_gaussian_matrix` float32 [2, 128], are random
    and not trained.

    Args:
        in_channels: of the fine-grained features; 0 if they are not used.
        num_outputs: logits of a point.
        channels: of the layers between.
        num_layers: how many layers, the last included.
        positional_encoding: whether there is one.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_outputs: int,
        channels: int,
        num_layers: int,
        positional_encoding: bool,
    ):
        super().__init__()
        self._image_features = in_channels > 0
        self._positional_encoding = positional_encoding
        if positional_encoding:
            in_channels += _ENCODED
            self.positional_encoding_gaussian_matrix = tf.Variable(
                tf.zeros([2, _ENCODED // 2]), trainable=False
            )
        widths = [in_channels, *[channels] * (num_layers - 1), num_outputs]
        # (out, in) of each layer.
        self._shapes = list(zip(widths[1:], widths[:-1], strict=True))
        self.num_params = sum(out * inputs + out for out, inputs in self._shapes)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> ImplicitPointHead:
        """From MODEL.POINT_HEAD and MODEL.IMPLICIT_POINTREND."""
        head, implicit = cfg.MODEL.POINT_HEAD, cfg.MODEL.IMPLICIT_POINTREND
        if not implicit.IMAGE_FEATURE_ENABLED and not implicit.POS_ENC_ENABLED:
            raise InputError(
                "MODEL.IMPLICIT_POINTREND: neither IMAGE_FEATURE_ENABLED nor POS_ENC_ENABLED is "
                "set, which leaves the point head nothing to look at; set one of them"
            )
        if head.NUM_FC < 1:
            raise InputError(
                f"MODEL.POINT_HEAD.NUM_FC: is {head.NUM_FC}; give 1 or more to ImplicitPointHead"
            )
        return cls(
            in_channels if implicit.IMAGE_FEATURE_ENABLED else 0,
            num_outputs=1 if head.CLS_AGNOSTIC_MASK else head.NUM_CLASSES,
            channels=head.FC_DIM,
            num_layers=head.NUM_FC + 1,
            positional_encoding=implicit.POS_ENC_ENABLED,
        )

    def __call__(
        self,
        fine_grained: tf.Tensor,
        points: tf.Tensor,
        parameters: tf.Tensor,
        classes: tf.Tensor,
    ) -> tf.Tensor:
        """The logits of each instance's own class at points.

        Args:
            fine_grained: [R, P, in_channels]; it is computed in their type.
            points: float32 [R, P, 2], of the box.
            parameters: [R, num_params]: the weights of the layers, one after the other, each (out,
                in), and then the biases.
            classes: int32 [R].

        Returns:
            float32 [R, P].
        """
        inputs = []
        if self._positional_encoding:
            inputs.append(tf.cast(self._encode(points), fine_grained.dtype))
        if self._image_features:
            inputs.append(fine_grained)
        x = tf.concat(inputs, 2)
        rows = tf.shape(parameters)[0]
        sizes = [out * inputs for out, inputs in self._shapes] + [out for out, _ in self._shapes]
        parts = tf.split(tf.cast(parameters, x.dtype), sizes, axis=1)
        weights, biases = parts[: len(self._shapes)], parts[len(self._shapes) :]
        last = len(self._shapes) - 1
        for index, (out, channels) in enumerate(self._shapes):
            weight = tf.reshape(weights[index], [rows, out, channels])
            bias = biases[index]
            if index == last:  # of the class's own output alone
                weight = own_logits(tf.transpose(weight, [0, 2, 1]), classes)[:, None]
                bias = own_logits(bias[:, None], classes)
            x = tf.matmul(x, weight, transpose_b=True) + bias[:, None]
            if index < last:
                x = tf.nn.relu(x)
        return tf.cast(x[..., 0], tf.float32)

    def _encode(self, points: tf.Tensor) -> tf.Tensor:
        matrix = tf.convert_to_tensor(self.positional_encoding_gaussian_matrix)
        shape = tf.shape(points)
        angles = tf.matmul(tf.reshape(2.0 * points - 1.0, [-1, 2]), matrix) * (2.0 * math.pi)
        encoded = tf.concat([tf.sin(angles), tf.cos(angles)], 1)
        return tf.reshape(encoded, [shape[0], shape[1], _ENCODED])


def build_point_head(cfg: CfgNode, shapes: Shapes, num_classes: int, classes_key: str) -> tf.Module:
    """The head of MODEL.POINT_HEAD.NAME, for features of these (channels, stride) by name.

    Args:
        cfg: the whole configuration.
        shapes: of the features that there are.
        num_classes: of the model, which MODEL.POINT_HEAD.NUM_CLASSES must equal.
        classes_key: the key that says so.

    Raises:
        InputError: it does not, or there is no such head or no such feature.
    """
    head = cfg.MODEL.POINT_HEAD
    if num_classes != head.NUM_CLASSES:
        raise InputError(
            f"MODEL.POINT_HEAD.NUM_CLASSES: is {head.NUM_CLASSES}, but {classes_key} is "
            f"{num_classes}; give both the same number"
        )
    in_channels = sum(shapes[name][0] for name in point_features(cfg, shapes))
    return POINT_HEADS.build(cfg, "MODEL.POINT_HEAD.NAME", in_channels)


def point_features(cfg: CfgNode, shapes: Shapes) -> dict[str, int]:
    """The strides of the features of MODEL.POINT_HEAD.IN_FEATURES by name."""
    key = "MODEL.POINT_HEAD.IN_FEATURES"
    names = input_features(key, cfg.MODEL.POINT_HEAD.IN_FEATURES, shapes, equal_channels=False)
    return {name: shapes[name][1] for name in names}
