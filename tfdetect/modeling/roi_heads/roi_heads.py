"""The heads that look at regions, put together."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.modeling.roi_heads.box_head import FastRCNNConvFCHead, FastRCNNOutputLayers
from tfdetect.modeling.roi_heads.keypoint_head import KRCNNConvDeconvUpsampleHead
from tfdetect.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead, class_masks
from tfdetect.modeling.roi_heads.pooler import RoIPooler
from tfdetect.modeling.roi_heads.selection import select_detections
from tfdetect.ops.boxes import apply_deltas
from tfdetect.ops.keypoints import decode_keypoints


class StandardROIHeads(tf.Module):
    """Box head on the proposals, mask and keypoint heads on the detections.

    Args:
        cfg: the whole configuration.
        shapes: (channels, stride) of the backbone's features by name.
    """

    def __init__(self, cfg: CfgNode, shapes: dict[str, tuple[int, int]]):
        super().__init__()
        heads = cfg.MODEL.ROI_HEADS
        missing = [name for name in heads.IN_FEATURES if name not in shapes]
        if missing:
            raise InputError(
                f"MODEL.ROI_HEADS.IN_FEATURES: {missing[0]!r} is not a feature of the backbone "
                f"({', '.join(shapes)})"
            )
        self._in_features = list(heads.IN_FEATURES)
        channels = shapes[self._in_features[0]][0]
        strides = [shapes[name][1] for name in self._in_features]

        def make_pooler(key: str) -> RoIPooler:
            head = cfg.MODEL[key]
            return RoIPooler(
                f"MODEL.{key}",
                head.POOLER_TYPE,
                head.POOLER_RESOLUTION,
                head.POOLER_SAMPLING_RATIO,
                strides,
            )

        box = cfg.MODEL.ROI_BOX_HEAD
        _require_name("MODEL.ROI_BOX_HEAD.NAME", box.NAME, "FastRCNNConvFCHead")
        self.box_pooler = make_pooler("ROI_BOX_HEAD")
        self.box_head = FastRCNNConvFCHead(cfg, channels)
        self.box_predictor = FastRCNNOutputLayers(
            cfg, self.box_head.out_features, self.box_head.out_shape
        )
        self._box_weights = list(box.BBOX_REG_WEIGHTS)
        self._selection = {
            "score_threshold": heads.SCORE_THRESH_TEST,
            "nms_threshold": heads.NMS_THRESH_TEST,
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
        }
        self.mask_head = None
        if cfg.MODEL.MASK_ON:
            mask = cfg.MODEL.ROI_MASK_HEAD
            _require_name("MODEL.ROI_MASK_HEAD.NAME", mask.NAME, "MaskRCNNConvUpsampleHead")
            self.mask_pooler = make_pooler("ROI_MASK_HEAD")
            self.mask_head = MaskRCNNConvUpsampleHead(cfg, channels)
        self.keypoint_head = None
        if cfg.MODEL.KEYPOINT_ON:
            keypoint = cfg.MODEL.ROI_KEYPOINT_HEAD
            _require_name(
                "MODEL.ROI_KEYPOINT_HEAD.NAME", keypoint.NAME, "KRCNNConvDeconvUpsampleHead"
            )
            self.keypoint_pooler = make_pooler("ROI_KEYPOINT_HEAD")
            self.keypoint_head = KRCNNConvDeconvUpsampleHead(cfg, channels)

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
            where the model has them; and the stages `box_logits` [B, P, K + 1] and `box_deltas`.
        """
        inputs = [features[name] for name in self._in_features]
        batch, count = tf.shape(proposals)[0], tf.shape(proposals)[1]
        box_indices = tf.repeat(tf.range(batch), count)
        pooled = self.box_pooler(inputs, tf.reshape(proposals, [-1, 4]), box_indices)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        logits = tf.reshape(logits, [batch, count, logits.shape[1]])
        deltas = tf.reshape(deltas, [batch, count, deltas.shape[1]])
        detections = select_detections(
            apply_deltas(deltas, proposals, self._box_weights),
            tf.nn.softmax(logits),
            counts,
            image_sizes,
            **self._selection,
        )
        detections |= self.predict_masks_and_keypoints(inputs, detections)
        return detections, {"box_logits": logits, "box_deltas": deltas}

    def predict_masks_and_keypoints(
        self, inputs: list[tf.Tensor], detections: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """`pred_masks` and `pred_keypoints` of the detections, where the model has the heads."""
        boxes = detections["pred_boxes"]
        # Only slots that hold a detection go through the heads.
        used = tf.range(boxes.shape[1]) < detections["num_detections"][:, None]
        slots = tf.where(used)
        flat_boxes = tf.gather_nd(boxes, slots)
        box_indices = tf.cast(slots[:, 0], tf.int32)
        classes = tf.gather_nd(detections["pred_classes"], slots)

        def place(values: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([tf.shape(boxes)[:2], tf.shape(values)[1:]], 0)
            return tf.scatter_nd(slots, values, tf.cast(shape, tf.int64))

        def pool(pooler: Callable) -> tf.Tensor:
            return pooler(inputs, flat_boxes, box_indices)

        result = {}
        if self.mask_head is not None:
            masks = class_masks(self.mask_head(pool(self.mask_pooler)), classes)
            result["pred_masks"] = place(masks)
        if self.keypoint_head is not None:
            heatmaps = self.keypoint_head(pool(self.keypoint_pooler))
            keypoints = decode_keypoints(heatmaps, flat_boxes)
            result["pred_keypoints"] = place(tf.gather(keypoints, [0, 1, 3], axis=2))
        return result


def _require_name(key: str, value: str, known: str) -> None:
    if value != known:
        raise InputError(f"{key}: {value!r} is not supported; use {known}")
