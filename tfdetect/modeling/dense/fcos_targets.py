"""Which locations are to predict which objects in FCOS (Tian et al., 2019 and 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.modeling.structures import Targets

# The smaller an object, the better it matches a location: by this number less its area.
_LARGEST_AREA = 1e8
# Below this, nothing matches.
_LEAST_QUALITY = 1e-5


def label_locations(
    anchors: Sequence[tf.Tensor], targets: Targets, *, num_classes: int, radius: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """What the location of each anchor is to predict.

    A location has an object if it is inside its box, if it is near its centre (on both axes nearer
    than `radius` strides), and if the largest of its distances from the box's sides is one of its
    level's: between 4 and 8 strides; the first level also has all smaller ones, and the last one
    all larger ones. All bounds are exclusive. Of several objects it has the smallest; areas are
    compared in float32 as differences from 1e8, in steps of 8, and the first of equal ones wins.

    Args:
        anchors: per level float32 [R_l, 4], squares of the level's stride about the locations.
        targets: the objects.
        num_classes: K.
        radius: see above.

    Returns:
        labels: int32 [B, R], in [0, K); K is background.
        matches: int32 [B, R], the object of each location, in [0, G); 0 for background.

    Detectron2: `FCOS.label_anchors`.
    """
    every = tf.concat(anchors, 0)
    centers = (every[:, :2] + every[:, 2:]) / 2
    strides = every[:, 2] - every[:, 0]
    lower, upper = strides * 4, strides * 8
    first, last = tf.shape(anchors[0])[0], tf.shape(anchors[-1])[0]
    lower = tf.concat([tf.zeros([first]), lower[first:]], 0)
    upper = tf.concat([upper[: tf.size(upper) - last], tf.fill([last], float("inf"))], 0)

    def label(inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        boxes, classes, valid = inputs
        # Per axis, so that no [G, R, 4] array is made: R is the number of all locations.
        near, inside, farthest = valid[:, None], True, 0.0
        for axis in (0, 1):
            low, high, here = boxes[:, None, axis], boxes[:, None, axis + 2], centers[:, axis]
            near &= tf.abs(here - (low + high) / 2) < radius * strides
            inside &= tf.minimum(here - low, high - here) > 0
            farthest = tf.maximum(farthest, tf.maximum(here - low, high - here))
        matching = near & inside & (farthest > lower) & (farthest < upper)
        sides = boxes[:, 2:] - boxes[:, :2]
        quality = tf.where(matching, _LARGEST_AREA - (sides[:, :1] * sides[:, 1:]), 0.0)
        best = tf.reduce_max(quality, 0)
        # The first object of the best quality; tf.argmax takes a hundred times as long on a CPU.
        rows = tf.range(tf.shape(quality)[0])[:, None]
        matches = tf.reduce_min(tf.where(quality == best, rows, tf.shape(quality)[0]), 0)
        found = best >= _LEAST_QUALITY
        matches = tf.where(found, matches, 0)
        return tf.where(found, tf.gather(classes, matches), num_classes), matches

    row = tf.TensorSpec([None], tf.int32)
    return tf.map_fn(
        label,
        (targets.gt_boxes, targets.gt_classes, targets.gt_valid),
        fn_output_signature=(row, row),
    )


def centerness(deltas: tf.Tensor) -> tf.Tensor:
    """How near its object's centre a location is: 1 there, 0 on the box's sides.

    Args:
        deltas: float32 [..., 4], of `get_linear_deltas`, all above 0: of locations in their boxes.

    Returns:
        float32 [...]: the root of the product of both axes' smaller over larger distance.

    Detectron2: `FCOS.compute_ctrness_targets`.
    """
    near = tf.minimum(deltas[..., :2], deltas[..., 2:])
    far = tf.maximum(deltas[..., :2], deltas[..., 2:])
    return tf.sqrt(tf.reduce_prod(near / far, -1))
