"""Cascade R-CNN (Cai and Vasconcelos, 2018)."""

from __future__ import annotations

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.modeling.roi_heads.box_head import FastRCNNConvFCHead, FastRCNNOutputLayers
from tfdetect.modeling.roi_heads.roi_heads import StandardROIHeads
from tfdetect.modeling.roi_heads.shared import flatten_proposals, per_image
from tfdetect.ops.boxes import apply_deltas, clip_boxes


class CascadeROIHeads(StandardROIHeads):
    """Box heads one after the other, each on the boxes of the one before.

    `box_head` and `box_predictor` are lists, a member for every entry of
    MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS. The boxes are the last one's, the scores the mean
    of all.
    """

    def _make_box_heads(self, cfg: CfgNode, channels: int) -> None:
        if not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
            raise InputError(
                "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG: CascadeROIHeads hands one box of each "
                "region from stage to stage; set it to True"
            )
        self._stage_weights = [
            list(weights) for weights in cfg.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS
        ]
        if len(self._stage_weights) != len(cfg.MODEL.ROI_BOX_CASCADE_HEAD.IOUS):
            raise InputError(
                "MODEL.ROI_BOX_CASCADE_HEAD: BBOX_REG_WEIGHTS and IOUS need an entry for each stage"
            )
        self.box_head = [FastRCNNConvFCHead(cfg, channels) for _ in self._stage_weights]
        self.box_predictor = [
            FastRCNNOutputLayers(cfg, head.out_features, head.out_shape) for head in self.box_head
        ]

    def _predict_boxes(
        self, inputs: list[tf.Tensor], proposals: tf.Tensor, image_sizes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        stages: dict[str, tf.Tensor] = {}
        scores, boxes = [], proposals
        for index, weights in enumerate(self._stage_weights):
            if index > 0:
                # Empty boxes stay: the scores of all stages must belong to the same regions.
                boxes = clip_boxes(boxes, image_sizes)
            pooled = self.box_pooler(inputs, *flatten_proposals(boxes))
            predictor = self.box_predictor[index]
            logits, deltas = predictor(self.box_head[index](pooled))
            stages[f"box_logits_{index}"] = per_image(logits, proposals)
            stages[f"box_deltas_{index}"] = per_image(deltas, proposals)
            boxes = apply_deltas(stages[f"box_deltas_{index}"], boxes, weights)
            scores.append(predictor.probabilities(stages[f"box_logits_{index}"]))
        return boxes, tf.add_n(scores) * (1.0 / len(scores)), stages
