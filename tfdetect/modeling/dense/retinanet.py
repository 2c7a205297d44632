"""RetinaNet (Lin et al., 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.modeling.anchors import AnchorGenerator
from tfdetect.modeling.build import build_backbone
from tfdetect.modeling.dense.detector import DenseDetector
from tfdetect.modeling.dense.heads import RetinaNetHead
from tfdetect.modeling.dense.losses import classification_loss
from tfdetect.modeling.dense.options import DenseOptions
from tfdetect.modeling.losses import BoxRegressionLoss
from tfdetect.modeling.matcher import match, pairwise_iou
from tfdetect.modeling.registries import META_ARCHITECTURES
from tfdetect.modeling.structures import Targets
from tfdetect.ops.boxes import apply_deltas
from tfdetect.ops.probabilities import sigmoid

# How many positive anchors are taken for granted at first.
_LOSS_NORMALIZER = 100.0


@META_ARCHITECTURES.register()
class RetinaNet(DenseDetector):
    """Detectron2's RetinaNet.

    Args:
        backbone, head, anchor_generator: of `DenseDetector`.
        in_features, num_classes, selection: of `DenseDetector`.
        matching: `thresholds` and `labels` of `match`.
        focal: `alpha` and `gamma` of `sigmoid_focal_loss`.
        box_loss: of the positive anchors' deltas.
    """

    def __init__(
        self,
        backbone: tf.Module,
        head: RetinaNetHead,
        anchor_generator: AnchorGenerator,
        *,
        in_features: Sequence[str],
        num_classes: int,
        selection: Mapping[str, Any],
        matching: Mapping[str, Any],
        focal: Mapping[str, float],
        box_loss: BoxRegressionLoss,
    ):
        super().__init__(
            backbone,
            head,
            anchor_generator,
            in_features=in_features,
            num_classes=num_classes,
            selection=selection,
            loss_normalizer=_LOSS_NORMALIZER,
        )
        self._matching = dict(matching)
        self._focal = dict(focal)
        self._box_loss = box_loss

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RetinaNet:
        """From MODEL.BACKBONE, MODEL.ANCHOR_GENERATOR and MODEL.RETINANET."""
        backbone = build_backbone(cfg)
        options = DenseOptions.from_config(cfg, "RETINANET", backbone.output_shapes)
        retinanet = cfg.MODEL.RETINANET
        anchors = AnchorGenerator.from_config(cfg, options.strides)
        weights = list(retinanet.BBOX_REG_WEIGHTS)
        return cls(
            backbone,
            RetinaNetHead(
                options.in_channels,
                anchors.anchors_per_location,
                len(options.strides),
                **options.head,
            ),
            anchors,
            in_features=options.in_features,
            num_classes=options.num_classes,
            selection={
                **options.selection,
                # The logits' order is that of the scores, and also of those that saturate at 1.
                "to_scores": sigmoid,
                "decode": partial(apply_deltas, weights=weights),
            },
            matching={
                "thresholds": list(retinanet.IOU_THRESHOLDS),
                "labels": list(retinanet.IOU_LABELS),
            },
            focal=options.focal,
            box_loss=BoxRegressionLoss(
                "MODEL.RETINANET",
                retinanet.BBOX_REG_LOSS_TYPE,
                retinanet.SMOOTH_L1_LOSS_BETA,
                weights,
            ),
        )

    def ranks(self, *maps: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The class logits."""
        return list(maps[0])

    def label_anchors(
        self, anchors: Sequence[tf.Tensor], targets: Targets
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """By IoU; the best anchors of an object have it, too, however small theirs is."""
        every = tf.concat(anchors, 0)

        def label(inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
            boxes, classes, valid = inputs
            matches, found = match(
                pairwise_iou(boxes, every), **self._matching, allow_low_quality=True, valid=valid
            )
            labels = tf.where(found == 1, tf.gather(classes, matches), found)
            labels = tf.where(found == 0, self._num_classes, labels)
            # Whatever IOU_LABELS say, an image without objects is background.
            return tf.where(tf.reduce_any(valid), labels, self._num_classes), matches

        row = tf.TensorSpec([None], tf.int32)
        return tf.map_fn(
            label,
            (targets.gt_boxes, targets.gt_classes, targets.gt_valid),
            fn_output_signature=(row, row),
        )

    def sum_losses(
        self,
        outputs: Sequence[tf.Tensor],
        labels: tf.Tensor,
        positives: tf.Tensor,
        anchors: tf.Tensor,
        gt_boxes: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """`loss_cls` and `loss_box_reg` (Detectron2: `RetinaNet.losses`)."""
        logits, deltas = outputs
        return {
            "loss_cls": classification_loss(logits, labels, **self._focal),
            "loss_box_reg": self._box_loss(tf.gather_nd(deltas, positives), anchors, gt_boxes),
        }
