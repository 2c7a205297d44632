"""Sampling of anchors for training, and their targets."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.modeling.matcher import match, pairwise_iou, subsample_labels
from tfdetect.modeling.structures import Targets

# Makes these random numbers independent of those of the RoI heads.
_STREAM = 0


def label_and_sample_anchors(
    anchors: tf.Tensor,
    image_sizes: tf.Tensor,
    targets: Targets,
    seeds: tf.Tensor,
    *,
    thresholds: Sequence[float],
    labels: Sequence[int],
    batch_size_per_image: int,
    positive_fraction: float,
    boundary_threshold: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Match the anchors of every image and sample some (Faster R-CNN, section 3.1.2).

    Args:
        anchors: float32 [N, 4] in pixels of the network's input, those of all levels.
        image_sizes: int32 [B, 2], (height, width) of each image without padding.
        targets: the objects.
        seeds: int [B, 2], of each image.
        thresholds, labels: of `match`, which also takes the best anchors of each object.
        batch_size_per_image: how many anchors to choose.
        positive_fraction: the largest share of foreground.
        boundary_threshold: how many pixels an anchor may extend beyond its image; -1 for no limit.

    Returns:
        int32 [B, N]: 1 for the foreground that was chosen, 0 for the background, -1 for the rest;
        and int32 [B, N], the object that each anchor is matched to.

    Detectron2: `RPN.label_and_sample_anchors`.
    """

    def label(
        inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor]:
        seed, size, boxes, valid = inputs
        matches, found = match(pairwise_iou(boxes, anchors), thresholds, labels, True, valid)
        if boundary_threshold >= 0:
            limits = tf.cast(size, tf.float32) + boundary_threshold
            inside = tf.reduce_all(anchors[:, :2] >= -boundary_threshold, 1)
            inside &= tf.reduce_all(anchors[:, 2:] < limits[::-1], 1)
            found = tf.where(inside, found, -1)
        positive, negative = subsample_labels(
            found,
            batch_size_per_image,
            positive_fraction,
            0,
            tf.random.experimental.stateless_fold_in(seed, _STREAM),
        )
        return tf.where(positive, 1, tf.where(negative, 0, -1)), matches

    # TensorFlow cannot stack no rows of unknown length: of no images, there is one without objects.
    batch = tf.shape(seeds)[0]
    missing = tf.cast(tf.equal(batch, 0), tf.int32)
    inputs = [
        tf.pad(x, [[0, missing]] + [[0, 0]] * (len(x.shape) - 1))
        for x in (seeds, image_sizes, targets.gt_boxes, targets.gt_valid)
    ]
    row = tf.TensorSpec([None], tf.int32)
    labeled, matches = tf.map_fn(label, tuple(inputs), fn_output_signature=(row, row))
    return labeled[:batch], matches[:batch]
