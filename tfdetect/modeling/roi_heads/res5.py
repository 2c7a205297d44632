"""The heads of a C4 model (He et al., 2016, appendix A): res5 runs on every box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.backbone.resnet import make_stage, stage_options
from tfdetect.modeling.features import input_features
from tfdetect.modeling.registries import MASK_HEADS, ROI_HEADS
from tfdetect.modeling.roi_heads.box_head import FastRCNNOutputLayers
from tfdetect.modeling.roi_heads.box_losses import FastRCNNLosses
from tfdetect.modeling.roi_heads.mask_head import MaskHead
from tfdetect.modeling.roi_heads.mask_losses import mask_rcnn_loss
from tfdetect.modeling.roi_heads.pooler import RoIPooler
from tfdetect.modeling.roi_heads.sampling import label_and_sample_proposals, sampling_options
from tfdetect.modeling.roi_heads.selection import select_detections
from tfdetect.modeling.roi_heads.shared import (
    flatten_boxes,
    make_pooler,
    per_image,
    predict_on_detections,
    selection_options,
)
from tfdetect.modeling.structures import Instances, Proposals, Targets
from tfdetect.ops.boxes import apply_deltas

# res5 of ResNet-50, 101 and 152 alike.
_BLOCKS = 3


@ROI_HEADS.register()
class Res5ROIHeads(tf.Module):
    """Predicts boxes and masks from the same pooled features, processed by `res5`.

    Args:
        in_feature: the name of the feature that regions are pooled from.
        num_classes: K, without the background.
        selection, sampling, box_losses, box_weights: as of `StandardROIHeads`.
        pooler: of all heads.
        res5: the blocks of the stage.
        box_predictor: of its mean.
        mask_head: None for a model without masks.
    """

    def __init__(
        self,
        in_feature: str,
        *,
        num_classes: int,
        selection: Mapping[str, Any],
        sampling: Mapping[str, Any],
        pooler: RoIPooler,
        res5: list[tf.Module],
        box_predictor: FastRCNNOutputLayers,
        box_losses: FastRCNNLosses,
        box_weights: Sequence[float],
        mask_head: MaskHead | None = None,
    ):
        super().__init__()
        self._in_feature = in_feature
        self.pooler = pooler
        self.res5 = res5
        self.box_predictor = box_predictor
        self._box_weights = box_weights
        self._selection = dict(selection)
        self._sampling = dict(sampling)
        self._num_classes = num_classes
        self._box_losses = box_losses
        self.mask_head = mask_head

    @classmethod
    def from_config(cls, cfg: CfgNode, shapes: dict[str, tuple[int, int]]) -> Res5ROIHeads:
        """From MODEL.ROI_HEADS, MODEL.RESNETS and the sections of the heads.

        Args:
            cfg: the whole configuration.
            shapes: (channels, stride) of the backbone's features by name.
        """
        names = input_features(
            "MODEL.ROI_HEADS.IN_FEATURES", cfg.MODEL.ROI_HEADS.IN_FEATURES, shapes
        )
        if len(names) != 1:
            raise InputError(
                f"MODEL.ROI_HEADS.IN_FEATURES: Res5ROIHeads takes one feature, not {names}"
            )
        if cfg.MODEL.KEYPOINT_ON:
            raise InputError("MODEL.KEYPOINT_ON: Res5ROIHeads has no keypoint head; set it False")
        resnets = cfg.MODEL.RESNETS
        if resnets.DEPTH < 50:
            raise InputError(
                f"MODEL.RESNETS.DEPTH: {resnets.DEPTH} has no bottlenecks for Res5ROIHeads; "
                "use 50, 101 or 152"
            )
        if resnets.DEFORM_ON_PER_STAGE[-1]:
            raise InputError(
                "MODEL.RESNETS.DEFORM_ON_PER_STAGE: the res5 of Res5ROIHeads cannot be deformable; "
                "set the last entry False"
            )
        channels, stride = shapes[names[0]]
        pooler = make_pooler(cfg, "ROI_BOX_HEAD", [stride])
        # MODEL.BACKBONE.FREEZE_AT counts the backbone's stages only.
        stage_5 = stage_options(cfg, 5)
        res5 = make_stage(
            _BLOCKS, in_channels=channels, stride=2, norm=resnets.NORM or "", **stage_5
        )
        weights = list(cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS)
        mask_head = None
        if cfg.MODEL.MASK_ON:
            mask_head = MASK_HEADS.build(cfg, "MODEL.ROI_MASK_HEAD.NAME", stage_5["out_channels"])
        return cls(
            names[0],
            num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            selection=selection_options(cfg),
            sampling=sampling_options(cfg),
            pooler=pooler,
            res5=res5,
            box_predictor=FastRCNNOutputLayers.from_config(cfg, stage_5["out_channels"]),
            box_losses=FastRCNNLosses.from_config(cfg, weights),
            box_weights=weights,
            mask_head=mask_head,
        )

    def __call__(
        self,
        features: dict[str, tf.Tensor],
        proposals: Proposals,
        image_sizes: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> Instances:
        """Detect: as `StandardROIHeads`, without keypoints."""
        detections = self.detect_boxes(features, proposals, image_sizes, valid_sizes)
        return self.forward_with_given_boxes(features, detections, valid_sizes)

    def detect_boxes(
        self,
        features: dict[str, tf.Tensor],
        proposals: Proposals,
        image_sizes: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> Instances:
        """As `StandardROIHeads.detect_boxes`."""
        feature = features[self._in_feature]
        with profile_scope("box_head"):
            logits, deltas = self.predict_boxes(
                self.region_features(feature, *flatten_boxes(proposals.boxes), valid_sizes)
            )
        logits, deltas = per_image(logits, proposals.boxes), per_image(deltas, proposals.boxes)
        add_intermediates({"box_logits": logits, "box_deltas": deltas})
        return select_detections(
            apply_deltas(deltas, proposals.boxes, self._box_weights),
            self.box_predictor.probabilities(logits),
            proposals.num_valid,
            image_sizes,
            **self._selection,
        )

    def forward_with_given_boxes(
        self,
        features: dict[str, tf.Tensor],
        detections: Instances,
        valid_sizes: ValidSizes = WHOLE,
        *,
        decode: bool = True,
    ) -> Instances:
        """As `StandardROIHeads.forward_with_given_boxes`; there are no keypoints to decode."""
        del decode
        mask_head = self.mask_head
        if mask_head is None:
            return detections

        @profile_scope("mask_head")
        def predict_masks(
            boxes: tf.Tensor, box_indices: tf.Tensor, classes: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            region_features = self.region_features(
                features[self._in_feature], boxes, box_indices, valid_sizes
            )
            return {"pred_masks": mask_head.predict(region_features, classes)}

        return predict_on_detections(detections, predict_masks)

    def losses(
        self,
        features: dict[str, tf.Tensor],
        proposals: Proposals,
        image_sizes: tf.Tensor,
        targets: Targets,
        seeds: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """As `StandardROIHeads.losses`, without keypoints."""
        del image_sizes  # only a cascade clips intermediate boxes
        regions = label_and_sample_proposals(proposals, targets, seeds, **self._sampling)
        region_features = self.region_features(
            features[self._in_feature], regions.boxes, regions.image_indices
        )
        weights = self.box_predictor.fed_loss_cls_weights
        losses = self._box_losses(*self.predict_boxes(region_features), regions, weights, seeds[0])
        if self.mask_head is not None:
            foreground = regions.gt_classes < self._num_classes
            logits = self.mask_head(tf.boolean_mask(region_features, foreground))
            # res5 halves what was pooled, rounding up.
            mask_size = self.mask_head.output_size((self.pooler.resolution + 1) // 2)
            losses["loss_mask"] = mask_rcnn_loss(
                logits, regions.where(foreground), targets, mask_size
            )
        return losses

    def region_features(
        self,
        feature: tf.Tensor,
        boxes: tf.Tensor,
        box_indices: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> tf.Tensor:
        """Pool boxes [R, 4] and run res5: [R, side / 2, side / 2, C]."""
        x = self.pooler([feature], boxes, box_indices, valid_sizes)
        for block in self.res5:
            x = block(x)
        return x

    def predict_boxes(self, region_features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits [R, K + 1] and deltas of what `region_features` gives, from its mean."""
        mean = tf.reduce_mean(tf.cast(region_features, tf.float32), [1, 2])
        return self.box_predictor(tf.cast(mean, region_features.dtype))
