"""The heads that look at regions of a feature pyramid, put together."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.modeling.roi_heads.box_head import FastRCNNConvFCHead, FastRCNNOutputLayers
from tfdetect.modeling.roi_heads.keypoint_head import KRCNNConvDeconvUpsampleHead
from tfdetect.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead, class_masks
from tfdetect.modeling.roi_heads.selection import select_detections
from tfdetect.modeling.roi_heads.shared import (
    flatten_proposals,
    input_features,
    make_pooler,
    per_image,
    predict_on_detections,
    require_name,
    selection_options,
)
from tfdetect.ops.boxes import apply_deltas
from tfdetect.ops.keypoints import decode_keypoints


class StandardROIHeads(tf.Module):
    """Box head on the proposals, mask and keypoint heads on the detections.

    Args:
        cfg: the whole configuration.
        shapes: (channels, stride) of the backbone's features by name.
    """

    # Modules; in a cascade, lists of them.
    box_head: Any
    box_predictor: Any

    def __init__(self, cfg: CfgNode, shapes: dict[str, tuple[int, int]]):
        super().__init__()
        self._in_features = input_features(cfg, shapes)
        channels = shapes[self._in_features[0]][0]
        strides = [shapes[name][1] for name in self._in_features]
        require_name("MODEL.ROI_BOX_HEAD.NAME", cfg.MODEL.ROI_BOX_HEAD.NAME, "FastRCNNConvFCHead")
        self.box_pooler = make_pooler(cfg, "ROI_BOX_HEAD", strides)
        self._selection = selection_options(cfg)
        self._make_box_heads(cfg, channels)
        self.mask_head = None
        if cfg.MODEL.MASK_ON:
            mask = cfg.MODEL.ROI_MASK_HEAD
            require_name("MODEL.ROI_MASK_HEAD.NAME", mask.NAME, "MaskRCNNConvUpsampleHead")
            self.mask_pooler = make_pooler(cfg, "ROI_MASK_HEAD", strides)
            self.mask_head = MaskRCNNConvUpsampleHead(cfg, channels)
        self.keypoint_head = None
        if cfg.MODEL.KEYPOINT_ON:
            keypoint = cfg.MODEL.ROI_KEYPOINT_HEAD
            require_name(
                "MODEL.ROI_KEYPOINT_HEAD.NAME", keypoint.NAME, "KRCNNConvDeconvUpsampleHead"
            )
            self.keypoint_pooler = make_pooler(cfg, "ROI_KEYPOINT_HEAD", strides)
            self.keypoint_head = KRCNNConvDeconvUpsampleHead(cfg, channels)

    def _make_box_heads(self, cfg: CfgNode, channels: int) -> None:
        self.box_head = FastRCNNConvFCHead(cfg, channels)
        self.box_predictor = FastRCNNOutputLayers(
            cfg, self.box_head.out_features, self.box_head.out_shape
        )
        self._box_weights = list(cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS)

    def __call__(
        self,
        features: dict[str, tf.Tensor],
        proposals: tf.Tensor,
        counts: tf.Tensor,
        image_sizes: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Detect.

        Args:
            features: by name, [B, H, W, C].
            proposals: float32 [B, P, 4] in pixels of the network's input image.
            counts: int32 [B], how many of each image's proposals are meant.
            image_sizes: int32 [B, 2], (height, width) of each image without padding.

        Returns:
            The detections: what `select_detections` gives, and `pred_masks` float32 [B, D, M, M]
            (probabilities inside the box) and `pred_keypoints` float32 [B, D, K, 3] (x, y, score)
            where the model has them; and the stages `box_logits` [B, P, K + 1] and `box_deltas`,
            in a cascade `box_logits_0` and so on.
        """
        inputs = [features[name] for name in self._in_features]
        boxes, scores, stages = self._predict_boxes(inputs, proposals, image_sizes)
        detections = select_detections(boxes, scores, counts, image_sizes, **self._selection)
        detections |= predict_on_detections(
            detections,
            lambda boxes, box_indices, classes: self._predict_on_boxes(
                inputs, boxes, box_indices, classes
            ),
        )
        return detections, stages

    def _predict_boxes(
        self, inputs: list[tf.Tensor], proposals: tf.Tensor, image_sizes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Boxes [B, P, K * 4 or 4], scores [B, P, K + 1] of the proposals, and the stages."""
        del image_sizes  # only a cascade clips boxes on the way
        pooled = self.box_pooler(inputs, *flatten_proposals(proposals))
        logits, deltas = self.box_predictor(self.box_head(pooled))
        logits, deltas = per_image(logits, proposals), per_image(deltas, proposals)
        boxes = apply_deltas(deltas, proposals, self._box_weights)
        scores = self.box_predictor.probabilities(logits)
        return boxes, scores, {"box_logits": logits, "box_deltas": deltas}

    def _predict_on_boxes(
        self, inputs: list[tf.Tensor], boxes: tf.Tensor, box_indices: tf.Tensor, classes: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Masks [R, M, M] and keypoints [R, K, 3] of given boxes, where the model has the heads."""
        result = {}
        if self.mask_head is not None:
            logits = self.mask_head(self.mask_pooler(inputs, boxes, box_indices))
            result["pred_masks"] = class_masks(logits, classes)
        if self.keypoint_head is not None:
            heatmaps = self.keypoint_head(self.keypoint_pooler(inputs, boxes, box_indices))
            keypoints = decode_keypoints(heatmaps, boxes)
            result["pred_keypoints"] = tf.gather(keypoints, [0, 1, 3], axis=2)
        return result
