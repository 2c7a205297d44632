"""The loss of masks at points (PointRend, section 3.1)."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.modeling.points import point_labels
from tfdetect.modeling.replicas import mean_count
from tfdetect.modeling.roi_heads.sampling import SampledProposals
from tfdetect.modeling.structures import Targets


def object_point_labels(
    points: tf.Tensor, regions: SampledProposals, targets: Targets, image_sizes: tf.Tensor
) -> tf.Tensor:
    """How much of each point is of the region's object: see `point_labels`.

    Args:
        points: float32 [R, P, 2] in pixels of the network's input.
        regions: R of foreground.
        targets: with bitmasks.
        image_sizes: int32 [B, 2], (height, width) of each image without padding.

    Returns:
        float32 [R, P].
    """
    bitmasks = targets.gt_bitmasks
    assert bitmasks is not None  # check_training requires INPUT.MASK_FORMAT bitmask
    batch, objects, height, width = tf.unstack(tf.shape(bitmasks))
    return point_labels(
        tf.reshape(bitmasks, [batch * objects, height, width]),
        points,
        regions.image_indices * objects + regions.gt_indices,
        tf.repeat(image_sizes, objects, axis=0),
    )


def roi_mask_point_loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The mean binary cross-entropy over all points.

    Args:
        logits: float32 [R, P], of each region's own class.
        labels: float32 [R, P] in [0, 1]; -1 costs nothing, but counts in the mean.

    Returns:
        A scalar; 0 without a region.

    Detectron2: `roi_mask_point_loss`.
    """
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    entropy = tf.where(labels == -1.0, 0.0, entropy)
    # One region at a time, for the accuracy of a sum of so many terms.
    per_region = tf.reduce_mean(entropy, 1)
    return tf.reduce_sum(per_region) / mean_count(tf.shape(logits)[0])
