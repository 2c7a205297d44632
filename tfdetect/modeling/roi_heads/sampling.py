"""Sampling of proposals for training, and their targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.modeling.matcher import match, pairwise_iou, subsample_labels
from tfdetect.modeling.structures import Proposals, Targets

# Makes these random numbers independent of those of the RPN.
_STREAM = 1


class SampledProposals(NamedTuple):
    """Proposals sampled from the images of a batch, and the objects that they are matched to.

    Attributes:
        boxes: float32 [R, 4] in pixels of the network's input.
        image_indices: int32 [R], the image of each.
        gt_indices: int32 [R], the index of the object in its image; arbitrary for background.
        gt_classes: int32 [R], `num_classes` for background.
        gt_boxes: float32 [R, 4], of the object.
    """

    boxes: tf.Tensor
    image_indices: tf.Tensor
    gt_indices: tf.Tensor
    gt_classes: tf.Tensor
    gt_boxes: tf.Tensor

    def of_objects(self, values: tf.Tensor) -> tf.Tensor:
        """`values` [B, G, ...] gathered for each proposal's object: [R, ...]."""
        return tf.gather_nd(values, tf.stack([self.image_indices, self.gt_indices], 1))

    def where(self, mask: tf.Tensor) -> SampledProposals:
        """The proposals where `mask`, bool [R], is true."""
        return SampledProposals(*(tf.boolean_mask(values, mask) for values in self))


def sampling_options(cfg: CfgNode) -> dict[str, Any]:
    """The options of `label_and_sample_proposals`."""
    heads = cfg.MODEL.ROI_HEADS
    return {
        "thresholds": list(heads.IOU_THRESHOLDS),
        "labels": list(heads.IOU_LABELS),
        "num_classes": heads.NUM_CLASSES,
        "batch_size_per_image": heads.BATCH_SIZE_PER_IMAGE,
        "positive_fraction": heads.POSITIVE_FRACTION,
        "append_gt": heads.PROPOSAL_APPEND_GT,
    }


def label_and_sample_proposals(
    proposals: Proposals,
    targets: Targets,
    seeds: tf.Tensor,
    *,
    thresholds: Sequence[float],
    labels: Sequence[int],
    num_classes: int,
    batch_size_per_image: int,
    positive_fraction: float,
    append_gt: bool,
) -> SampledProposals:
    """Match the proposals of every image to its objects and sample some (Fast R-CNN, section 2.3).

    Args:
        proposals: of each image.
        targets: its objects.
        seeds: int [B, 2], of each image.
        thresholds, labels: of `match`.
        num_classes: the label of background.
        batch_size_per_image: how many to choose in each image.
        positive_fraction: the largest share of foreground.
        append_gt: whether the ground truth is among the proposals.

    Detectron2: `ROIHeads.label_and_sample_proposals`.
    """
    candidates = proposals.boxes
    usable = tf.range(tf.shape(candidates)[1]) < proposals.num_valid[:, None]
    if append_gt:
        candidates = tf.concat([candidates, targets.gt_boxes], 1)
        usable = tf.concat([usable, targets.gt_valid], 1)

    def sample(inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        seed, boxes, usable, gt_boxes, gt_classes, valid = inputs
        matches, found = match(pairwise_iou(gt_boxes, boxes), thresholds, labels, False, valid)
        classes = _classes(tf.gather(gt_classes, matches), found, num_classes)
        positive, negative = subsample_labels(
            tf.where(usable, classes, -1),
            batch_size_per_image,
            positive_fraction,
            num_classes,
            tf.random.experimental.stateless_fold_in(seed, _STREAM),
        )
        return positive | negative, matches, classes

    row = tf.TensorSpec([None], tf.int32)
    chosen, matches, classes = tf.map_fn(
        sample,
        (
            seeds,
            candidates,
            usable,
            targets.gt_boxes,
            targets.gt_classes,
            targets.gt_valid,
        ),
        fn_output_signature=(tf.TensorSpec([None], tf.bool), row, row),
    )
    slots = tf.where(chosen)
    image_indices = tf.cast(slots[:, 0], tf.int32)
    gt_indices = tf.gather_nd(matches, slots)
    return SampledProposals(
        boxes=tf.gather_nd(candidates, slots),
        image_indices=image_indices,
        gt_indices=gt_indices,
        gt_classes=tf.gather_nd(classes, slots),
        gt_boxes=tf.gather_nd(targets.gt_boxes, tf.stack([image_indices, gt_indices], 1)),
    )


def match_proposals(
    boxes: tf.Tensor,
    image_indices: tf.Tensor,
    targets: Targets,
    threshold: float,
    num_classes: int,
) -> SampledProposals:
    """Match all `boxes`, float32 [R, 4], of a cascade stage to objects.

    Detectron2: `CascadeROIHeads._match_and_label_boxes`.
    """
    batch, objects = tf.unstack(tf.shape(targets.gt_valid))
    owner = tf.repeat(tf.range(batch), objects)
    candidate = tf.reshape(targets.gt_valid, [-1])[:, None] & (owner[:, None] == image_indices)
    quality = pairwise_iou(tf.reshape(targets.gt_boxes, [-1, 4]), boxes)
    # Objects of other images rank below no overlap; a box in an image without objects is background
    # whatever it is matched to.
    matches, found = match(tf.where(candidate, quality, -1.0), [threshold], [0, 1], False)
    gt_classes = tf.gather(tf.reshape(targets.gt_classes, [-1]), matches)
    return SampledProposals(
        boxes=boxes,
        image_indices=image_indices,
        gt_indices=matches % objects,
        gt_classes=_classes(gt_classes, found, num_classes),
        gt_boxes=tf.gather(tf.reshape(targets.gt_boxes, [-1, 4]), matches),
    )


def _classes(gt_classes: tf.Tensor, labels: tf.Tensor, background: int) -> tf.Tensor:
    """The classes of boxes that `match` labelled: of their objects, background, or -1 (ignored)."""
    return tf.where(labels == 0, background, tf.where(labels == -1, -1, gt_classes))
