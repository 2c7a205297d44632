"""What flows between the parts of a model, for a batch of B images: typed tuples of tensors.

Boxes are (x1, y1, x2, y2) in pixels, in continuous coordinates; rotated ones have five numbers in
place of four, (x centre, y centre, width, height, angle in degrees). A batch is padded: each image
has the same number of slots, and says how many of them, the first ones, hold something.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Proposals(NamedTuple):
    """Boxes in which there may be an object, the best first.

    Attributes:
        boxes: float32 [B, P, 4] in pixels of the network's input; zeros in slots without one.
        num_valid: int32 [B], how many of each image's P slots hold a proposal.
        logits: float32 [B, P], objectness; None for proposals that were given.

    Detectron2: the `Instances` with `proposal_boxes` and `objectness_logits`.
    """

    boxes: tf.Tensor
    num_valid: tf.Tensor
    logits: tf.Tensor | None = None


class Instances(NamedTuple):
    """Detections, by descending score; zeros in slots without one.

    Attributes:
        pred_boxes: float32 [B, D, 4] in pixels of the network's input, or, once rescaled, of the
            original images.
        scores: float32 [B, D], in [0, 1]; of a `ProposalNetwork` objectness logits.
        pred_classes: int32 [B, D], in [0, number of classes).
        num_detections: int32 [B], how many of each image's D slots hold a detection.
        pred_masks: float32 [B, D, M, M], probabilities within the box; None without a mask head.
        pred_keypoints: float32 [B, D, K, 3] of x, y (as the boxes) and score; None without a
            keypoint head.
        region_indices: int32 [B, D], the proposal that each comes from; None where there is none.

    Detectron2: the class of this name, with the same names.
    """

    pred_boxes: tf.Tensor
    scores: tf.Tensor
    pred_classes: tf.Tensor
    num_detections: tf.Tensor
    pred_masks: tf.Tensor | None = None
    pred_keypoints: tf.Tensor | None = None
    region_indices: tf.Tensor | None = None

    def as_dict(self) -> dict[str, tf.Tensor]:
        """By name, what there is."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Predictions(NamedTuple):
    """What a model returns; None for what it does not predict.

    Attributes:
        instances: in pixels of the network's input.
        sem_seg_logits: float32 [B, H', W', K] at MODEL.SEM_SEG_HEAD.COMMON_STRIDE.
    """

    instances: Instances | None = None
    sem_seg_logits: tf.Tensor | None = None


class Targets(NamedTuple):
    """The ground truth of a training step, padded to G >= 1 objects of an image.

    Attributes:
        gt_boxes: float32 [B, G, 4] in pixels of the network's input, wider and higher than 0.
        gt_classes: int32 [B, G], in [0, number of classes).
        gt_valid: bool [B, G], false for padding; an image may have no object.
        gt_polygons: float64 [B, P, 4], rows of `tfdetect.masks.polygon_rows`; None for a model
            without masks, or with bitmasks.
        gt_bitmasks: bool [B, G, H, W]; None for a model without masks, or with polygons.
        gt_keypoints: float32 [B, G, N, 3] of x, y and visibility (0, 1 or 2); None for a model
            without keypoints.
        gt_sem_seg: uint8 or int32 [B, H, W], the stuff class of each pixel of the network's input,
            or MODEL.SEM_SEG_HEAD.IGNORE_VALUE; None for a model without a semantic head.

    Detectron2: the `Instances` of `gt_instances`, and `sem_seg`.
    """

    gt_boxes: tf.Tensor
    gt_classes: tf.Tensor
    gt_valid: tf.Tensor
    gt_polygons: tf.Tensor | None = None
    gt_bitmasks: tf.Tensor | None = None
    gt_keypoints: tf.Tensor | None = None
    gt_sem_seg: tf.Tensor | None = None
