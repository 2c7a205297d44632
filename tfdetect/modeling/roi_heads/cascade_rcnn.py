"""Cascade R-CNN (Cai and Vasconcelos, 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import ValidSizes
from tfdetect.modeling.registries import BOX_HEADS, ROI_HEADS
from tfdetect.modeling.roi_heads.box_head import FastRCNNOutputLayers
from tfdetect.modeling.roi_heads.box_losses import FastRCNNLosses
from tfdetect.modeling.roi_heads.roi_heads import StandardROIHeads
from tfdetect.modeling.roi_heads.sampling import SampledProposals, match_proposals
from tfdetect.modeling.roi_heads.shared import flatten_boxes, per_image
from tfdetect.modeling.structures import Targets
from tfdetect.ops.boxes import apply_deltas, clip_boxes, nonempty


@ROI_HEADS.register()
class CascadeROIHeads(StandardROIHeads):
    """A sequence of box heads, each applied to the boxes predicted by the previous one.

    `box_head`, `box_predictor`, `box_losses` and `box_weights` are lists, a member for every stage.
    The boxes are those of the last stage; the scores are averaged over all stages.

    Args:
        ious: from which overlap on a region is foreground, of every stage.
        options: of `StandardROIHeads`; deltas do not depend on the class.
    """

    def __init__(self, in_features: Sequence[str], *, ious: Sequence[float], **options: Any):
        super().__init__(in_features, **options)
        self._ious = list(ious)

    @classmethod
    def _box_options(cls, cfg: CfgNode, channels: int) -> dict[str, Any]:
        box, cascade = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_BOX_CASCADE_HEAD
        if not box.CLS_AGNOSTIC_BBOX_REG:
            raise InputError(
                "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG: CascadeROIHeads passes one box of each "
                "proposal from stage to stage; set it to True"
            )
        weights = [list(stage_weights) for stage_weights in cascade.BBOX_REG_WEIGHTS]
        if len(weights) != len(cascade.IOUS):
            raise InputError(
                "MODEL.ROI_BOX_CASCADE_HEAD: BBOX_REG_WEIGHTS and IOUS need an entry for each stage"
            )
        if list(cascade.IOUS)[:1] != list(cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS):
            raise InputError(
                "MODEL.ROI_BOX_CASCADE_HEAD.IOUS: its first entry must be the one of "
                "MODEL.ROI_HEADS.IOU_THRESHOLDS"
            )
        heads = [BOX_HEADS.build(cfg, "MODEL.ROI_BOX_HEAD.NAME", channels) for _ in weights]
        return {
            "box_head": heads,
            "box_predictor": [
                FastRCNNOutputLayers.from_config(cfg, head.out_features, head.out_shape)
                for head in heads
            ],
            "box_losses": [FastRCNNLosses.from_config(cfg, numbers) for numbers in weights],
            "box_weights": weights,
            "ious": cascade.IOUS,
        }

    @profile_scope("box_head")
    def _predict_boxes(
        self,
        inputs: list[tf.Tensor],
        boxes: tf.Tensor,
        image_sizes: tf.Tensor,
        valid_sizes: ValidSizes,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        scores = []
        for index, weights in enumerate(self._box_weights):
            if index > 0:
                # Empty boxes stay: the scores of all stages must belong to the same regions.
                boxes = clip_boxes(boxes, image_sizes)
            pooled = self.box_pooler(inputs, *flatten_boxes(boxes), valid_sizes)
            predictor = self.box_predictor[index]
            logits, deltas = predictor(self.box_head[index](pooled))
            logits, deltas = per_image(logits, boxes), per_image(deltas, boxes)
            add_intermediates({f"box_logits_{index}": logits, f"box_deltas_{index}": deltas})
            boxes = apply_deltas(deltas, boxes, weights)
            scores.append(predictor.probabilities(logits))
        return boxes, tf.add_n(scores) * (1.0 / len(scores))

    def _losses_of_boxes(
        self,
        inputs: list[tf.Tensor],
        regions: SampledProposals,
        image_sizes: tf.Tensor,
        targets: Targets,
        seed: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], SampledProposals]:
        losses: dict[str, tf.Tensor] = {}
        objects = regions.where(regions.gt_classes < self._num_classes)
        seeds = tf.random.experimental.stateless_split(seed, len(self._box_weights))
        for index, weights in enumerate(self._box_weights):
            pooled = self.box_pooler(inputs, regions.boxes, regions.image_indices)
            pooled = _scale_gradient(pooled, 1.0 / len(self._box_weights))
            predictor = self.box_predictor[index]
            logits, deltas = predictor(self.box_head[index](pooled))
            found = self._box_losses[index](
                logits, deltas, regions, predictor.fed_loss_cls_weights, seeds[index]
            )
            losses |= {f"{name}_stage{index}": loss for name, loss in found.items()}
            if index + 1 < len(self._box_weights):
                boxes = apply_deltas(tf.stop_gradient(deltas), regions.boxes, weights)
                sizes = tf.gather(image_sizes, regions.image_indices)
                boxes = clip_boxes(boxes, sizes)
                usable = nonempty(boxes)
                regions = match_proposals(
                    tf.boolean_mask(boxes, usable),
                    tf.boolean_mask(regions.image_indices, usable),
                    targets,
                    self._ious[index + 1],
                    self._num_classes,
                )
        return losses, objects


@tf.custom_gradient
def _scaled(x: tf.Tensor, scale: tf.Tensor):
    return tf.identity(x), lambda upstream: (upstream * tf.cast(scale, upstream.dtype), None)


def _scale_gradient(x: tf.Tensor, scale: float) -> tf.Tensor:
    """x, with a gradient times `scale`: the features learn from the mean of the stages' losses."""
    return _scaled(x, tf.constant(scale))
