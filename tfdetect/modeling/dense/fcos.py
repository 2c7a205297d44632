"""FCOS (Tian et al., 2019; of 2020 as Detectron2 has it): a box from every location, no anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.modeling.anchors import AnchorGenerator
from tfdetect.modeling.build import build_backbone
from tfdetect.modeling.dense.detector import DenseDetector
from tfdetect.modeling.dense.fcos_targets import centerness, label_locations
from tfdetect.modeling.dense.heads import FCOSHead
from tfdetect.modeling.dense.losses import classification_loss
from tfdetect.modeling.dense.options import DenseOptions
from tfdetect.modeling.losses import giou_loss
from tfdetect.modeling.registries import META_ARCHITECTURES
from tfdetect.modeling.structures import Targets
from tfdetect.ops.linear_deltas import apply_linear_deltas, get_linear_deltas
from tfdetect.ops.probabilities import sigmoid

# How many positive locations are taken for granted at first.
_LOSS_NORMALIZER = 300.0


@META_ARCHITECTURES.register()
class FCOS(DenseDetector):
    """Detectron2's FCOS.

    A location is stood for by a square about it, whose side is the level's stride.

    Args:
        backbone, head: of `DenseDetector`.
        strides: of the features.
        offset: where in its cell a location is, in strides.
        in_features, num_classes, selection: of `DenseDetector`.
        normalize_by_size: of `get_linear_deltas`.
        radius: of `label_locations`.
        focal: `alpha` and `gamma` of `sigmoid_focal_loss`.
    """

    outputs = ("cls_logits", "anchor_deltas", "centerness")

    def __init__(
        self,
        backbone: tf.Module,
        head: FCOSHead,
        strides: Sequence[int],
        *,
        offset: float,
        in_features: Sequence[str],
        num_classes: int,
        selection: Mapping[str, Any],
        normalize_by_size: bool,
        radius: float,
        focal: Mapping[str, float],
    ):
        sizes = [[stride] for stride in strides]
        super().__init__(
            backbone,
            head,
            AnchorGenerator(strides, sizes=sizes, aspect_ratios=[1.0], offset=offset),
            in_features=in_features,
            num_classes=num_classes,
            selection={
                **selection,
                "to_scores": tf.identity,
                "decode": partial(apply_linear_deltas, normalize_by_size=normalize_by_size),
            },
            loss_normalizer=_LOSS_NORMALIZER,
        )
        self._normalize_by_size = normalize_by_size
        self._radius = radius
        self._focal = dict(focal)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> FCOS:
        """From MODEL.BACKBONE and MODEL.FCOS."""
        backbone = build_backbone(cfg)
        options = DenseOptions.from_config(cfg, "FCOS", backbone.output_shapes)
        strides, fcos = options.strides, cfg.MODEL.FCOS
        return cls(
            backbone,
            FCOSHead(options.in_channels, len(strides), **options.head),
            strides,
            offset=fcos.OFFSET,
            in_features=options.in_features,
            num_classes=options.num_classes,
            selection=options.selection,
            normalize_by_size=fcos.NORMALIZE_BY_SIZE,
            radius=fcos.CENTER_SAMPLING_RADIUS,
            focal=options.focal,
        )

    def ranks(self, *maps: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The scores: the geometric mean of the probability of the class and the centerness."""
        logits, _, centered = maps
        return [
            tf.sqrt(sigmoid(level_logits) * sigmoid(level_centered))
            for level_logits, level_centered in zip(logits, centered, strict=True)
        ]

    def label_anchors(
        self, anchors: Sequence[tf.Tensor], targets: Targets
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `label_locations`; none is ignored."""
        return label_locations(anchors, targets, num_classes=self._num_classes, radius=self._radius)

    def sum_losses(
        self,
        outputs: Sequence[tf.Tensor],
        labels: tf.Tensor,
        positives: tf.Tensor,
        anchors: tf.Tensor,
        gt_boxes: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """`loss_fcos_cls`, `loss_fcos_loc` and `loss_fcos_ctr` (Detectron2: `FCOS.losses`).

        The boxes' loss is GIoU's, and is not weighted by centerness.
        """
        logits, deltas, centered = outputs
        by_size = self._normalize_by_size
        boxes = apply_linear_deltas(
            tf.gather_nd(deltas, positives), anchors, normalize_by_size=by_size
        )
        # Of positives alone: elsewhere it would be the root of a negative number.
        wanted = centerness(get_linear_deltas(anchors, gt_boxes, normalize_by_size=by_size))
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(
            labels=wanted, logits=tf.gather_nd(centered, positives)[:, 0]
        )
        return {
            "loss_fcos_cls": classification_loss(logits, labels, **self._focal),
            "loss_fcos_loc": giou_loss(boxes, gt_boxes, "sum"),
            "loss_fcos_ctr": tf.reduce_sum(entropy),
        }
