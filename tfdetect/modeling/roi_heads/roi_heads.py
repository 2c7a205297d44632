"""The heads that look at regions of a feature pyramid, put together."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.layers.extents import WHOLE, Extents
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.stage import stage
from tfdetect.modeling.conventions import conventions, last_pixels
from tfdetect.modeling.registries import BOX_HEADS, KEYPOINT_HEADS, MASK_HEADS, ROI_HEADS
from tfdetect.modeling.roi_heads.box_head import FastRCNNOutputLayers
from tfdetect.modeling.roi_heads.box_losses import FastRCNNLosses
from tfdetect.modeling.roi_heads.keypoint_losses import KeypointRCNNLoss, has_visible_keypoints
from tfdetect.modeling.roi_heads.mask_losses import mask_rcnn_loss
from tfdetect.modeling.roi_heads.sampling import (
    Regions,
    label_and_sample_proposals,
    sampling_options,
)
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
from tfdetect.ops.keypoints import decode_keypoints


@ROI_HEADS.register()
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
        self._conventions = conventions(cfg)
        self._in_features = input_features(cfg, shapes)
        channels = shapes[self._in_features[0]][0]
        strides = [shapes[name][1] for name in self._in_features]
        self.box_pooler = make_pooler(cfg, "ROI_BOX_HEAD", strides)
        self._selection = selection_options(cfg)
        self._sampling = sampling_options(cfg)
        self._num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        self._make_box_heads(cfg, channels)
        self.mask_head = None
        if cfg.MODEL.MASK_ON:
            name = cfg.MODEL.ROI_MASK_HEAD.NAME
            self.mask_pooler = make_pooler(cfg, "ROI_MASK_HEAD", strides)
            self.mask_head = MASK_HEADS.build("MODEL.ROI_MASK_HEAD.NAME", name, cfg, channels)
        self.keypoint_head = None
        if cfg.MODEL.KEYPOINT_ON:
            name = cfg.MODEL.ROI_KEYPOINT_HEAD.NAME
            self.keypoint_pooler = make_pooler(cfg, "ROI_KEYPOINT_HEAD", strides)
            self.keypoint_head = KEYPOINT_HEADS.build(
                "MODEL.ROI_KEYPOINT_HEAD.NAME", name, cfg, channels
            )
            heatmap_size = self.keypoint_head.output_size(self.keypoint_pooler.resolution)
            self._keypoint_loss = KeypointRCNNLoss(cfg, heatmap_size)

    def _make_box_heads(self, cfg: CfgNode, channels: int) -> None:
        name = cfg.MODEL.ROI_BOX_HEAD.NAME
        self.box_head = BOX_HEADS.build("MODEL.ROI_BOX_HEAD.NAME", name, cfg, channels)
        self.box_predictor = FastRCNNOutputLayers(
            cfg, self.box_head.out_features, self.box_head.out_shape
        )
        self._box_weights = list(cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS)
        self._box_losses = FastRCNNLosses(cfg, self._box_weights)
        self._train_on_pred_boxes = cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES

    def __call__(
        self,
        features: dict[str, tf.Tensor],
        proposals: Proposals,
        image_sizes: tf.Tensor,
        extents: Extents = WHOLE,
    ) -> Instances:
        """Detect.

        Args:
            features: by name, [B, H, W, C].
            proposals: of each image.
            image_sizes: int32 [B, 2], (height, width) of each image without padding.
            extents: of the images; see `GeneralizedRCNN`.

        Returns:
            D = TEST.DETECTIONS_PER_IMAGE slots. Intermediates: `box_logits` [B, P, K + 1] and
            `box_deltas`, in a cascade `box_logits_0` and so on.
        """
        inputs = [features[name] for name in self._in_features]
        boxes, scores = self._predict_boxes(inputs, proposals.boxes, image_sizes, extents)
        detections = select_detections(
            boxes, scores, proposals.num_valid, image_sizes, **self._selection
        )
        return predict_on_detections(
            detections,
            lambda boxes, box_indices, classes: self._predict_on_boxes(
                inputs, boxes, box_indices, classes, extents
            ),
        )

    def losses(
        self,
        features: dict[str, tf.Tensor],
        proposals: Proposals,
        image_sizes: tf.Tensor,
        targets: Targets,
        seeds: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """How wrong the heads are about a sample of the proposals.

        Args:
            features, proposals, image_sizes: as above.
            targets: the objects.
            seeds: int [B, 2], of what is chosen at random in each image.

        Returns:
            Scalars `loss_cls` and `loss_box_reg` (in a cascade `loss_cls_stage0` and so on), and
            `loss_mask` and `loss_keypoint` where the model has the heads. The latter two look at
            the foreground only, the last at regions in which there is a keypoint.
        """
        inputs = [features[name] for name in self._in_features]
        regions = label_and_sample_proposals(proposals, targets, seeds, **self._sampling)
        losses, objects = self._losses_of_boxes(inputs, regions, image_sizes, targets, seeds[0])
        if self.mask_head is not None:
            logits = self.mask_head(self.mask_pooler(inputs, objects.boxes, objects.image_indices))
            mask_size = self.mask_head.output_size(self.mask_pooler.resolution)
            losses["loss_mask"] = mask_rcnn_loss(logits, objects, targets, mask_size)
        if self.keypoint_head is not None:
            keypoints = objects.of_objects(targets.gt_keypoints)
            visible = has_visible_keypoints(keypoints, objects.boxes)
            objects, keypoints = objects.where(visible), tf.boolean_mask(keypoints, visible)
            heatmaps = self.keypoint_head(
                self.keypoint_pooler(inputs, objects.boxes, objects.image_indices)
            )
            losses["loss_keypoint"] = self._keypoint_loss(
                heatmaps, keypoints, objects.boxes, tf.shape(proposals.boxes)[0]
            )
        return losses

    def _losses_of_boxes(
        self,
        inputs: list[tf.Tensor],
        regions: Regions,
        image_sizes: tf.Tensor,
        targets: Targets,
        seed: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], Regions]:
        """The box head's losses, and the foreground, which the other heads look at."""
        del image_sizes  # only a cascade clips boxes on the way
        pooled = self.box_pooler(inputs, regions.boxes, regions.image_indices)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        weights = self.box_predictor.fed_loss_cls_weights
        losses = self._box_losses(logits, deltas, regions, weights, seed)
        foreground = regions.gt_classes < self._num_classes
        objects = regions.where(foreground)
        if self._train_on_pred_boxes:
            deltas = tf.stop_gradient(tf.boolean_mask(deltas, foreground))
            objects = objects._replace(boxes=self._box_losses.predicted_boxes(deltas, objects))
        return losses, objects

    @stage("box_head")
    def _predict_boxes(
        self,
        inputs: list[tf.Tensor],
        boxes: tf.Tensor,
        image_sizes: tf.Tensor,
        extents: Extents,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes [B, P, K * 4 or 4] and scores [B, P, K + 1] of proposals [B, P, 4]."""
        del image_sizes  # only a cascade clips boxes on the way
        pooled = self.box_pooler(inputs, *flatten_boxes(boxes), extents)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        logits, deltas = per_image(logits, boxes), per_image(deltas, boxes)
        add_intermediates({"box_logits": logits, "box_deltas": deltas})
        scores = self.box_predictor.probabilities(logits)
        return apply_deltas(deltas, boxes, self._box_weights), scores

    def _predict_on_boxes(
        self,
        inputs: list[tf.Tensor],
        boxes: tf.Tensor,
        box_indices: tf.Tensor,
        classes: tf.Tensor,
        extents: Extents,
    ) -> dict[str, tf.Tensor]:
        """Masks [R, M, M] and keypoints [R, K, 3] of given boxes, where the model has the heads."""
        result = {}
        if self.mask_head is not None:
            with stage("mask_head"):
                regions = self.mask_pooler(inputs, boxes, box_indices, extents)
                result["pred_masks"] = self.mask_head.predict(regions, classes)
        if self.keypoint_head is not None:
            with stage("keypoint_head"):
                pooled = self.keypoint_pooler(inputs, boxes, box_indices, extents)
                heatmaps = self.keypoint_head(pooled)
            if self._conventions.inclusive_boxes:
                boxes = last_pixels(boxes)
            with stage("decode_keypoints"):
                keypoints = decode_keypoints(heatmaps, boxes)
            columns = [0, 1, self._conventions.keypoint_scores]
            result["pred_keypoints"] = tf.gather(keypoints, columns, axis=2)
        return result
