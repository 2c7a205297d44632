"""The convolutional heads of dense detectors: two subnets, shared by all levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from tfdetect.layers.conv import Conv2d
from tfdetect.layers.norm import LevelBatchNorm, apply_norm, make_norm
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes


class Subnet(tf.Module):
    """3 x 3 convolutions, each with its norm, if any, and ReLU.

    The layers are attributes `0`, `1`, .. by their place in that sequence, ReLU included.
    """

    def __init__(self, channels: int, convs: int, norm: str, levels: int):
        super().__init__()
        self._steps: list[tuple[tf.Module, tf.Module | None]] = []
        for index in range(convs):
            conv, norm_layer = Conv2d(channels, channels, 3, padding=1), None
            place = index * (3 if norm else 2)
            setattr(self, str(place), conv)
            if norm:
                # Of these two, Detectron2's heads keep separate statistics for each level.
                per_level = norm in ("BN", "SyncBN")
                norm_layer = (
                    LevelBatchNorm(channels, norm, levels)
                    if per_level
                    else make_norm(norm, channels)
                )
                setattr(self, str(place + 1), norm_layer)
            self._steps.append((conv, norm_layer))

    def __call__(self, x: tf.Tensor, level: int, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """[B, H, W, channels] of the level of this index -> the same shape."""
        for conv, norm in self._steps:
            if norm is None:
                x = conv(x, valid_sizes, relu=True)
                continue
            x = conv(x, valid_sizes)
            if isinstance(norm, LevelBatchNorm):
                x = tf.nn.relu(norm(x, level))
            else:
                x = tf.nn.relu(apply_norm(norm, x, valid_sizes))
        return x


class RetinaNetHead(tf.Module):
    """Two subnets, shared by all levels: one for class logits, one for anchor deltas.

    Args:
        in_channels: of every level.
        anchors_per_location: of every level.
        levels: number of feature maps.
        num_classes: K.
        num_convs: of each subnet.
        norm: of their convolutions, as Detectron2 names it.
        prior_probability: of each class at each anchor, before training: the bias of `cls_score`
            begins at its logit (Lin et al., 2017, section 3.3).

    Detectron2: the class of this name.
    """

    def __init__(
        self,
        in_channels: int,
        anchors_per_location: int,
        levels: int,
        *,
        num_classes: int,
        num_convs: int,
        norm: str = "",
        prior_probability: float = 0.01,
    ):
        super().__init__()
        subnet = (in_channels, num_convs, norm, levels)
        self.cls_subnet = Subnet(*subnet)
        self.bbox_subnet = Subnet(*subnet)
        self.cls_score = Conv2d(in_channels, anchors_per_location * num_classes, 3, padding=1)
        self.bbox_pred = Conv2d(in_channels, anchors_per_location * 4, 3, padding=1)
        prior = math.log(prior_probability / (1 - prior_probability))
        assert self.cls_score.bias is not None
        self.cls_score.bias.assign(tf.fill(self.cls_score.bias.shape, prior))

    @profile_scope("dense_head")
    def __call__(
        self, features: Sequence[tf.Tensor], valid_sizes: Sequence[ValidSizes]
    ) -> tuple[list[tf.Tensor], ...]:
        """[B, H, W, C] of each level -> logits [B, H, W, A * K], deltas [B, H, W, A * 4].

        All are float32; K logits, and 4 deltas, of the first anchor come first. `valid_sizes` are
        those of each level.
        """
        levels = [
            self.at_level(level, feature, here)
            for level, (feature, here) in enumerate(zip(features, valid_sizes, strict=True))
        ]
        kinds = zip(*levels, strict=True)
        return tuple([tf.cast(found, tf.float32) for found in kind] for kind in kinds)

    def at_level(
        self, level: int, feature: tf.Tensor, valid_sizes: ValidSizes
    ) -> tuple[tf.Tensor, ...]:
        """Logits and deltas of one level."""
        logits = self.cls_score(self.cls_subnet(feature, level, valid_sizes), valid_sizes)
        deltas = self.bbox_pred(self.bbox_subnet(feature, level, valid_sizes), valid_sizes)
        return logits, deltas


class FCOSHead(RetinaNetHead):
    """The same for one anchor a location, with its centerness beside the deltas: `ctrness`.

    Detectron2: the class of this name. It has no learned scale for each level.
    """

    def __init__(
        self,
        in_channels: int,
        levels: int,
        *,
        num_classes: int,
        num_convs: int,
        norm: str = "",
        prior_probability: float = 0.01,
    ):
        super().__init__(
            in_channels,
            1,
            levels,
            num_classes=num_classes,
            num_convs=num_convs,
            norm=norm,
            prior_probability=prior_probability,
        )
        self.ctrness = Conv2d(in_channels, 1, 3, padding=1)

    def at_level(
        self, level: int, feature: tf.Tensor, valid_sizes: ValidSizes
    ) -> tuple[tf.Tensor, ...]:
        """Logits, deltas and the logit of centerness, [B, H, W, 1], of one level."""
        logits = self.cls_score(self.cls_subnet(feature, level, valid_sizes), valid_sizes)
        of_boxes = self.bbox_subnet(feature, level, valid_sizes)
        return (
            logits,
            self.bbox_pred(of_boxes, valid_sizes),
            self.ctrness(of_boxes, valid_sizes),
        )
