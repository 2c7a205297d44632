"""The standard RoI heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.conventions import DETECTRON2, Conventions, conventions, last_pixels
from tfdetect.modeling.features import Shapes, input_features
from tfdetect.modeling.registries import BOX_HEADS, KEYPOINT_HEADS, MASK_HEADS, ROI_HEADS
from tfdetect.modeling.roi_heads.box_head import FastRCNNOutputLayers
from tfdetect.modeling.roi_heads.box_losses import FastRCNNLosses
from tfdetect.modeling.roi_heads.keypoint_losses import KeypointRCNNLoss, has_visible_keypoints
from tfdetect.modeling.roi_heads.mask_head import FeatureMaskHead, MaskHead
from tfdetect.modeling.roi_heads.mask_losses import mask_rcnn_loss
from tfdetect.modeling.roi_heads.pooler import RoIPooler
from tfdetect.modeling.roi_heads.sampling import (
    SampledProposals,
    label_and_sample_proposals,
    sampling_options,
)
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
from tfdetect.ops.keypoints import decode_keypoints


@ROI_HEADS.register()
class StandardROIHeads(tf.Module):
    """Box head on the proposals, mask and keypoint heads on the detections.

    Args:
        in_features: the names of the features that regions are pooled from.
        num_classes: K, without the background.
        selection: options of `select_detections`.
        sampling: options of `label_and_sample_proposals`.
        box_pooler, box_head, box_predictor: predict the boxes.
        box_losses: of what they predict.
        box_weights: of the box deltas, see `apply_deltas`.
        train_on_pred_boxes: whether masks and keypoints are trained on predicted boxes.
        mask_pooler, mask_head: predict masks; None for a model without. A `FeatureMaskHead` has no
            pooler.
        keypoint_pooler, keypoint_head, keypoint_loss: the same of keypoints.
        conventions: of the model.
    """

    # Modules; in a cascade, lists of them.
    box_head: Any
    box_predictor: Any

    def __init__(
        self,
        in_features: Sequence[str],
        *,
        num_classes: int,
        selection: Mapping[str, Any],
        sampling: Mapping[str, Any],
        box_pooler: RoIPooler,
        box_head: Any,
        box_predictor: Any,
        box_losses: Any,
        box_weights: Any,
        train_on_pred_boxes: bool = False,
        mask_pooler: RoIPooler | None = None,
        mask_head: MaskHead | FeatureMaskHead | None = None,
        keypoint_pooler: RoIPooler | None = None,
        keypoint_head: tf.Module | None = None,
        keypoint_loss: KeypointRCNNLoss | None = None,
        conventions: Conventions = DETECTRON2,
    ):
        super().__init__()
        self._in_features = list(in_features)
        self._num_classes = num_classes
        self._selection = dict(selection)
        self._sampling = dict(sampling)
        self._conventions = conventions
        self.box_pooler = box_pooler
        self.box_head = box_head
        self.box_predictor = box_predictor
        self._box_losses = box_losses
        self._box_weights = box_weights
        self._train_on_pred_boxes = train_on_pred_boxes
        self.mask_pooler: Any = mask_pooler
        self.mask_head: Any = mask_head
        self.keypoint_pooler: Any = keypoint_pooler
        self.keypoint_head: Any = keypoint_head
        self._keypoint_loss: Any = keypoint_loss

    @classmethod
    def from_config(cls, cfg: CfgNode, shapes: dict[str, tuple[int, int]]) -> StandardROIHeads:
        """From MODEL.ROI_HEADS and the sections of the heads that are switched on.

        Args:
            cfg: the whole configuration.
            shapes: (channels, stride) of the backbone's features by name.
        """
        names = input_features(
            "MODEL.ROI_HEADS.IN_FEATURES", cfg.MODEL.ROI_HEADS.IN_FEATURES, shapes
        )
        channels = shapes[names[0]][0]
        strides = [shapes[name][1] for name in names]
        options: dict[str, Any] = {"box_pooler": make_pooler(cfg, "ROI_BOX_HEAD", strides)}
        options |= cls._box_options(cfg, channels)
        if cfg.MODEL.MASK_ON:
            options |= cls._mask_options(cfg, names, shapes)
        if cfg.MODEL.KEYPOINT_ON:
            pooler = make_pooler(cfg, "ROI_KEYPOINT_HEAD", strides)
            head = KEYPOINT_HEADS.build(cfg, "MODEL.ROI_KEYPOINT_HEAD.NAME", channels)
            heatmap_size = head.output_size(pooler.resolution)
            options |= {"keypoint_pooler": pooler, "keypoint_head": head}
            options["keypoint_loss"] = KeypointRCNNLoss.from_config(cfg, heatmap_size)
        return cls(
            names,
            num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            selection=selection_options(cfg),
            sampling=sampling_options(cfg),
            conventions=conventions(cfg),
            **options,
        )

    @classmethod
    def _box_options(cls, cfg: CfgNode, channels: int) -> dict[str, Any]:
        """The constructor's arguments that predict boxes."""
        head = BOX_HEADS.build(cfg, "MODEL.ROI_BOX_HEAD.NAME", channels)
        weights = list(cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS)
        return {
            "box_head": head,
            "box_predictor": FastRCNNOutputLayers.from_config(
                cfg, head.out_features, head.out_shape
            ),
            "box_losses": FastRCNNLosses.from_config(cfg, weights),
            "box_weights": weights,
            "train_on_pred_boxes": cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES,
        }

    @classmethod
    def _mask_options(cls, cfg: CfgNode, names: Sequence[str], shapes: Shapes) -> dict[str, Any]:
        """The constructor's arguments that predict masks."""
        key = "MODEL.ROI_MASK_HEAD.NAME"
        if cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE == "":  # the head looks at the features itself
            given = {feature: shapes[feature] for feature in names}
            return {"mask_head": MASK_HEADS.build(cfg, key, given)}
        return {
            "mask_pooler": make_pooler(cfg, "ROI_MASK_HEAD", [shapes[f][1] for f in names]),
            "mask_head": MASK_HEADS.build(cfg, key, shapes[names[0]][0]),
        }

    def __call__(
        self,
        features: dict[str, tf.Tensor],
        proposals: Proposals,
        image_sizes: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> Instances:
        """Detect.

        Args:
            features: by name, [B, H, W, C].
            proposals: of each image.
            image_sizes: int32 [B, 2], (height, width) of each image without padding.
            valid_sizes: of the images; see `GeneralizedRCNN`.

        Returns:
            D = TEST.DETECTIONS_PER_IMAGE slots. Intermediates: `box_logits` [B, P, K + 1] and
            `box_deltas`, in a cascade `box_logits_0` and so on.
        """
        detections = self.detect_boxes(features, proposals, image_sizes, valid_sizes)
        return self.forward_with_given_boxes(features, detections, valid_sizes)

    def detect_boxes(
        self,
        features: dict[str, tf.Tensor],
        proposals: Proposals,
        image_sizes: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> Instances:
        """The first part of a call: the detections without masks and keypoints."""
        inputs = [features[name] for name in self._in_features]
        boxes, scores = self._predict_boxes(inputs, proposals.boxes, image_sizes, valid_sizes)
        return select_detections(boxes, scores, proposals.num_valid, image_sizes, **self._selection)

    def forward_with_given_boxes(
        self,
        features: dict[str, tf.Tensor],
        detections: Instances,
        valid_sizes: ValidSizes = WHOLE,
        *,
        decode: bool = True,
    ) -> Instances:
        """The second part of a call: masks and keypoints, where the model has the heads.

        Args:
            features: as above.
            detections: boxes, which need not be of this model, and their classes.
            valid_sizes: as above.
            decode: False for heatmaps in place of keypoints: `pred_keypoints` is float32
                [B, D, S, S, K] then, the head's logits.

        Returns:
            `detections` with them.

        Detectron2: the method of this name.
        """
        inputs = [features[name] for name in self._in_features]
        return predict_on_detections(
            detections,
            lambda boxes, box_indices, classes: self._predict_on_boxes(
                inputs, boxes, box_indices, classes, valid_sizes, decode=decode
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
        """The losses of the heads on sampled proposals.

        Args:
            features, proposals, image_sizes: as above.
            targets: the objects.
            seeds: int [B, 2], of the random sampling in each image.

        Returns:
            Scalars `loss_cls` and `loss_box_reg` (in a cascade `loss_cls_stage0` and so on), and
            `loss_mask` (or what a `FeatureMaskHead` has) and `loss_keypoint` where the model has
            the heads. The latter two use foreground proposals only, and the last only those with a
            visible keypoint.
        """
        inputs = [features[name] for name in self._in_features]
        regions = label_and_sample_proposals(proposals, targets, seeds, **self._sampling)
        losses, objects = self._losses_of_boxes(inputs, regions, image_sizes, targets, seeds[0])
        if self.mask_pooler is None and self.mask_head is not None:
            named = dict(zip(self._in_features, inputs, strict=True))
            losses |= self.mask_head.losses(named, objects, targets, image_sizes, seeds)
        elif self.mask_head is not None:
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
        regions: SampledProposals,
        image_sizes: tf.Tensor,
        targets: Targets,
        seed: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], SampledProposals]:
        """The box head's losses, and the foreground proposals for the other heads."""
        del image_sizes  # only a cascade clips intermediate boxes
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

    @profile_scope("box_head")
    def _predict_boxes(
        self,
        inputs: list[tf.Tensor],
        boxes: tf.Tensor,
        image_sizes: tf.Tensor,
        valid_sizes: ValidSizes,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes [B, P, K * 4 or 4] and scores [B, P, K + 1] of proposals [B, P, 4]."""
        del image_sizes  # only a cascade clips intermediate boxes
        pooled = self.box_pooler(inputs, *flatten_boxes(boxes), valid_sizes)
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
        valid_sizes: ValidSizes,
        *,
        decode: bool,
    ) -> dict[str, tf.Tensor]:
        """Masks [R, M, M] and keypoints [R, K, 3] of given boxes, where the model has the heads."""
        result = {}
        if self.mask_head is not None:
            with profile_scope("mask_head"):
                result["pred_masks"] = self._predict_masks(
                    inputs, boxes, box_indices, classes, valid_sizes
                )
        if self.keypoint_head is not None:
            with profile_scope("keypoint_head"):
                pooled = self.keypoint_pooler(inputs, boxes, box_indices, valid_sizes)
                heatmaps = self.keypoint_head(pooled)
            result["pred_keypoints"] = heatmaps
            if decode:
                result["pred_keypoints"] = self._decode_keypoints(heatmaps, boxes)
        return result

    def _predict_masks(
        self,
        inputs: list[tf.Tensor],
        boxes: tf.Tensor,
        box_indices: tf.Tensor,
        classes: tf.Tensor,
        valid_sizes: ValidSizes,
    ) -> tf.Tensor:
        if self.mask_pooler is None:
            named = dict(zip(self._in_features, inputs, strict=True))
            return self.mask_head.predict(named, boxes, box_indices, classes, valid_sizes)
        pooled = self.mask_pooler(inputs, boxes, box_indices, valid_sizes)
        return self.mask_head.predict(pooled, classes)

    def _decode_keypoints(self, heatmaps: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
        if self._conventions.inclusive_boxes:
            boxes = last_pixels(boxes)
        with profile_scope("decode_keypoints"):
            keypoints = decode_keypoints(heatmaps, boxes)
        return tf.gather(keypoints, [0, 1, self._conventions.keypoint_scores], axis=2)
