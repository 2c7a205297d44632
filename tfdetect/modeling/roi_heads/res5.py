"""The heads of a C4 model (He et al., 2016, appendix A): res5 runs on every region."""

from __future__ import annotations

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.extents import WHOLE, Extents
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.stage import stage
from tfdetect.modeling.backbone.resnet import make_stage, stage_channels
from tfdetect.modeling.registries import MASK_HEADS, ROI_HEADS
from tfdetect.modeling.roi_heads.box_head import FastRCNNOutputLayers
from tfdetect.modeling.roi_heads.box_losses import FastRCNNLosses
from tfdetect.modeling.roi_heads.mask_losses import mask_rcnn_loss
from tfdetect.modeling.roi_heads.sampling import label_and_sample_proposals, sampling_options
from tfdetect.modeling.roi_heads.selection import select_detections
from tfdetect.modeling.roi_heads.shared import (
    flatten_boxes,
    input_features,
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
    """Boxes and masks from the same pooled features, which `res5` works on.

    Args:
        cfg: the whole configuration.
        shapes: (channels, stride) of the backbone's features by name.
    """

    def __init__(self, cfg: CfgNode, shapes: dict[str, tuple[int, int]]):
        super().__init__()
        names = input_features(cfg, shapes)
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
        self._in_feature = names[0]
        channels, stride = shapes[self._in_feature]
        self.pooler = make_pooler(cfg, "ROI_BOX_HEAD", [stride])
        # MODEL.BACKBONE.FREEZE_AT counts the backbone's stages only.
        self.res5 = make_stage(
            cfg, 5, _BLOCKS, in_channels=channels, stride=2, dilation=1, norm=resnets.NORM or ""
        )
        self.box_predictor = FastRCNNOutputLayers(cfg, stage_channels(cfg, 5))
        self._box_weights = list(cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS)
        self._selection = selection_options(cfg)
        self._sampling = sampling_options(cfg)
        self._num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        self._box_losses = FastRCNNLosses(cfg, self._box_weights)
        self.mask_head = None
        if cfg.MODEL.MASK_ON:
            name = cfg.MODEL.ROI_MASK_HEAD.NAME
            self.mask_head = MASK_HEADS.build(
                "MODEL.ROI_MASK_HEAD.NAME", name, cfg, stage_channels(cfg, 5)
            )

    def __call__(
        self,
        features: dict[str, tf.Tensor],
        proposals: Proposals,
        image_sizes: tf.Tensor,
        extents: Extents = WHOLE,
    ) -> Instances:
        """Detect: as `StandardROIHeads`, without keypoints."""
        feature = features[self._in_feature]
        with stage("box_head"):
            logits, deltas = self.predict_boxes(
                self.region_features(feature, *flatten_boxes(proposals.boxes), extents)
            )
        logits, deltas = per_image(logits, proposals.boxes), per_image(deltas, proposals.boxes)
        add_intermediates({"box_logits": logits, "box_deltas": deltas})
        detections = select_detections(
            apply_deltas(deltas, proposals.boxes, self._box_weights),
            self.box_predictor.probabilities(logits),
            proposals.num_valid,
            image_sizes,
            **self._selection,
        )
        mask_head = self.mask_head
        if mask_head is None:
            return detections

        @stage("mask_head")
        def predict_masks(
            boxes: tf.Tensor, box_indices: tf.Tensor, classes: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            region_features = self.region_features(feature, boxes, box_indices, extents)
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
        del image_sizes  # only a cascade clips boxes on the way
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
        extents: Extents = WHOLE,
    ) -> tf.Tensor:
        """Pool boxes [R, 4] and run res5: [R, side / 2, side / 2, C]."""
        x = self.pooler([feature], boxes, box_indices, extents)
        for block in self.res5:
            x = block(x)
        return x

    def predict_boxes(self, region_features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits [R, K + 1] and deltas of what `region_features` gives, from its mean."""
        mean = tf.reduce_mean(tf.cast(region_features, tf.float32), [1, 2])
        return self.box_predictor(tf.cast(mean, region_features.dtype))
