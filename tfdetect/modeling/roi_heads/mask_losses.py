"""Losses of the mask head (Mask R-CNN, section 3)."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.masks.bitmasks import crop_bitmasks
from tfdetect.modeling.mask_targets import mask_targets
from tfdetect.modeling.replicas import mean_count
from tfdetect.modeling.roi_heads.sampling import SampledProposals
from tfdetect.modeling.structures import Targets


def mask_rcnn_loss(
    logits: tf.Tensor, regions: SampledProposals, targets: Targets, mask_size: int
) -> tf.Tensor:
    """The mean binary cross-entropy over the pixels of each region's own class.

    Args:
        logits: float32 [R, M, M, K], or K = 1 for masks that do not depend on the class.
        regions: R of foreground.
        targets: with polygons or bitmasks.
        mask_size: M.

    Returns:
        A scalar; 0 if there are no regions.

    Detectron2: `mask_rcnn_loss`.
    """
    if logits.shape[3] == 1:
        chosen = logits[..., 0]
    else:
        chosen = tf.gather(tf.transpose(logits, [0, 3, 1, 2]), regions.gt_classes, batch_dims=1)
    wanted = tf.cast(_targets(regions, targets, mask_size), tf.float32)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=chosen)
    # One proposal at a time, for the accuracy of a sum of so many terms.
    per_region = tf.reduce_mean(entropy, [1, 2])
    return tf.reduce_sum(per_region) / mean_count(tf.shape(logits)[0])


def _targets(regions: SampledProposals, targets: Targets, mask_size: int) -> tf.Tensor:
    """The mask targets of the sampled proposals: bool [R, M, M]."""
    if targets.gt_bitmasks is not None:
        bitmasks = targets.gt_bitmasks
        batch, objects, height, width = tf.unstack(tf.shape(bitmasks))
        return crop_bitmasks(
            tf.reshape(bitmasks, [batch * objects, height, width]),
            regions.boxes,
            regions.image_indices * objects + regions.gt_indices,
            mask_size,
        )
    # Polygons are cut out image by image: regions, which are in the order of their images, become
    # rows of equal length.
    batch = tf.shape(targets.gt_polygons)[0]
    counts = tf.math.bincount(regions.image_indices, minlength=batch, maxlength=batch)
    first = tf.gather(tf.cumsum(counts, exclusive=True), regions.image_indices)
    slots = tf.stack([regions.image_indices, tf.range(tf.size(first)) - first], 1)
    shape = tf.stack([batch, tf.reduce_max(counts)])
    boxes = tf.scatter_nd(slots, regions.boxes, tf.concat([shape, [4]], 0))
    # Shifted by one, so that the slots without a region hold -1.
    indices = tf.scatter_nd(slots, regions.gt_indices + 1, shape) - 1
    masks = mask_targets(targets.gt_polygons, boxes, indices, mask_size)
    return tf.gather_nd(masks, slots)
