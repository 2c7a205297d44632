"""RetinaNet (Lin et al., 2017): dense detection, without proposals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.layers.conv import Conv2d
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.level_norm import LevelBatchNorm
from tfdetect.layers.norm import apply_norm, make_norm
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.anchors import AnchorGenerator
from tfdetect.modeling.build import build_backbone
from tfdetect.modeling.detector import Detector
from tfdetect.modeling.features import input_features
from tfdetect.modeling.registries import META_ARCHITECTURES
from tfdetect.modeling.structures import Instances, Predictions
from tfdetect.ops.boxes import apply_deltas
from tfdetect.ops.nms import best_after_nms


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
                # Norms trained with batch statistics keep separate statistics for each level.
                per_level = norm in ("BN", "SyncBN")
                norm_layer = (
                    LevelBatchNorm(channels, levels) if per_level else make_norm(norm, channels)
                )
                setattr(self, str(place + 1), norm_layer)
            self._steps.append((conv, norm_layer))

    def __call__(self, x: tf.Tensor, level: int, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """[B, H, W, channels] of the level of this index -> the same shape."""
        for conv, norm in self._steps:
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
    ):
        super().__init__()
        subnet = (in_channels, num_convs, norm, levels)
        self.cls_subnet = Subnet(*subnet)
        self.bbox_subnet = Subnet(*subnet)
        self.cls_score = Conv2d(in_channels, anchors_per_location * num_classes, 3, padding=1)
        self.bbox_pred = Conv2d(in_channels, anchors_per_location * 4, 3, padding=1)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, in_channels: int, anchors_per_location: int, levels: int
    ) -> RetinaNetHead:
        """From MODEL.RETINANET."""
        retinanet = cfg.MODEL.RETINANET
        return cls(
            in_channels,
            anchors_per_location,
            levels,
            num_classes=retinanet.NUM_CLASSES,
            num_convs=retinanet.NUM_CONVS,
            norm=retinanet.NORM or "",
        )

    @profile_scope("retinanet_head")
    def __call__(
        self, features: Sequence[tf.Tensor], valid_sizes: Sequence[ValidSizes]
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """[B, H, W, C] of each level -> logits [B, H, W, A * K], deltas [B, H, W, A * 4].

        Both are float32; K logits, and 4 deltas, of the first anchor come first. `valid_sizes` are
        those of each level.
        """
        logits, deltas = [], []
        for level, (feature, here) in enumerate(zip(features, valid_sizes, strict=True)):
            logits.append(self.cls_score(self.cls_subnet(feature, level, here), here))
            deltas.append(self.bbox_pred(self.bbox_subnet(feature, level, here), here))
        return (
            [tf.cast(level_logits, tf.float32) for level_logits in logits],
            [tf.cast(level_deltas, tf.float32) for level_deltas in deltas],
        )


@META_ARCHITECTURES.register()
class RetinaNet(Detector):
    """Detectron2's RetinaNet.

    Args:
        backbone: see `ResNet` for what one has.
        head: of all levels.
        anchor_generator: of the features.
        in_features: the features' names.
        selection: options of `select_dense_detections`.
    """

    def __init__(
        self,
        backbone: tf.Module,
        head: RetinaNetHead,
        anchor_generator: AnchorGenerator,
        *,
        in_features: Sequence[str],
        selection: Mapping[str, Any],
    ):
        super().__init__(backbone)
        self._in_features = list(in_features)
        self._strides = anchor_generator.strides
        self.anchor_generator = anchor_generator
        self.selection = dict(selection)
        self.head = head

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RetinaNet:
        """From MODEL.BACKBONE, MODEL.ANCHOR_GENERATOR and MODEL.RETINANET."""
        backbone = build_backbone(cfg)
        retinanet, shapes = cfg.MODEL.RETINANET, backbone.output_shapes
        names = input_features("MODEL.RETINANET.IN_FEATURES", retinanet.IN_FEATURES, shapes)
        strides = [shapes[name][1] for name in names]
        anchors = AnchorGenerator.from_config(cfg, strides)
        channels = shapes[names[0]][0]
        return cls(
            backbone,
            RetinaNetHead.from_config(cfg, channels, anchors.anchors_per_location, len(strides)),
            anchors,
            in_features=names,
            selection={
                "weights": list(retinanet.BBOX_REG_WEIGHTS),
                "score_threshold": retinanet.SCORE_THRESH_TEST,
                "topk_candidates": retinanet.TOPK_CANDIDATES_TEST,
                "nms_threshold": retinanet.NMS_THRESH_TEST,
                "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            },
        )

    def __call__(
        self, images: tf.Tensor, image_sizes: tf.Tensor, valid_sizes: ValidSizes = WHOLE
    ) -> Predictions:
        """Detect objects.

        Args:
            images: [B, H, W, 3], normalised, zero beyond each image's own size.
            image_sizes: int32 [B, 2], (height, width) of each image without padding; the
                detections do not depend on it: boxes are clipped in the original image only.
            valid_sizes: of the images; see `GeneralizedRCNN`.

        Returns:
            `instances`: see `select_dense_detections`. Intermediates: `cls_logits_i`
            [B, H, W, A * K] and `anchor_deltas_i` [B, H, W, A * 4] of each level.
        """
        features = self.backbone(images, valid_sizes)
        inputs = [features[name] for name in self._in_features]
        levels = [valid_sizes.strided(stride) for stride in self._strides]
        logits, deltas = self.head(inputs, levels)
        own_logits = [
            here.fill(level_logits, float("-inf"))
            for here, level_logits in zip(levels, logits, strict=True)
        ]
        add_intermediates({f"cls_logits_{level}": found for level, found in enumerate(logits)})
        add_intermediates({f"anchor_deltas_{level}": found for level, found in enumerate(deltas)})
        anchors = self.anchor_generator(inputs)
        return Predictions(select_dense_detections(own_logits, deltas, anchors, **self.selection))


@profile_scope("detections")
def select_dense_detections(
    logits: Sequence[tf.Tensor],
    deltas: Sequence[tf.Tensor],
    anchors: Sequence[tf.Tensor],
    *,
    weights: Sequence[float],
    score_threshold: float,
    topk_candidates: int,
    nms_threshold: float,
    max_detections: int,
) -> Instances:
    """Detectron2's `RetinaNet.forward_inference`.

    Takes the best `topk_candidates` (anchor, class) pairs of every level with scores strictly above
    the threshold, applies NMS per class over all levels, and returns the best `max_detections`.
    Pairs are ranked by
    logit, equal ones by position (level, row, column, anchor, class). Detectron2 ranks by score:
    the same except where the sigmoid saturates, where its order is arbitrary.

    Args:
        logits: per level float32 [B, H, W, A * K].
        deltas: per level float32 [B, H, W, A * 4].
        anchors: per level float32 [H * W * A, 4], in pixels of the network's input image.
        weights: four divisors of the deltas.

    Returns:
        D = `max_detections` slots; boxes are not clipped.
    """
    lowest = tf.constant(float("-inf"))
    classes = logits[0].shape[3] * 4 // deltas[0].shape[3]
    batch = tf.shape(logits[0])[0]
    level_boxes, level_logits, level_labels = [], [], []
    for cell_logits, cell_deltas, cell_anchors in zip(logits, deltas, anchors, strict=True):
        flat = tf.reshape(cell_logits, [batch, -1])
        flat = tf.where(tf.math.is_nan(flat), lowest, flat)
        best, indices = tf.math.top_k(flat, tf.minimum(topk_candidates, tf.shape(flat)[1]))
        anchor = indices // classes
        chosen = tf.gather(tf.reshape(cell_deltas, [batch, -1, 4]), anchor, batch_dims=1)
        level_boxes.append(apply_deltas(chosen, tf.gather(cell_anchors, anchor), weights))
        level_logits.append(best)
        level_labels.append(indices % classes)
    boxes, ranked = tf.concat(level_boxes, 1), tf.concat(level_logits, 1)
    labels = tf.concat(level_labels, 1)

    ranked = tf.where(tf.sigmoid(ranked) > score_threshold, ranked, lowest)
    order, num_valid = best_after_nms(boxes, ranked, labels, nms_threshold, max_detections)
    used = tf.sequence_mask(num_valid, max_detections)
    best = tf.gather(ranked, order, batch_dims=1)
    return Instances(
        pred_boxes=tf.where(used[..., None], tf.gather(boxes, order, batch_dims=1), 0.0),
        scores=tf.where(used, tf.sigmoid(best), 0.0),
        pred_classes=tf.where(used, tf.gather(labels, order, batch_dims=1), 0),
        num_detections=num_valid,
    )
