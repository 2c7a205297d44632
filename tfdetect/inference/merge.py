"""Merging of the boxes that are found in the augmented images of one image."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdetect.inference.augmentations import AugmentedImages
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.modeling.roi_heads.selection import keep_best
from tfdetect.modeling.structures import Instances
from tfdetect.ops.boxes import all_finite, clip_boxes

_LEAST_SCORE = 1e-8
"""A merged detection has more."""
_LOWEST = float("-inf")


class Found(NamedTuple):
    """The boxes in all augmented images, M together.

    Attributes:
        boxes: float32 [M, 4] in pixels of the augmented images.
        scores: float32 [M].
        classes: int32 [M].
        indices: int32 [M], the augmented image of each, in order.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor
    indices: tf.Tensor


@profile_scope("detections")
def merge_detections(
    augmented: AugmentedImages, found: Found, *, nms_threshold: float, max_detections: int
) -> Instances:
    """Detectron2's `GeneralizedRCNNWithTTA._merge_detections`.

    The boxes are mapped back and clipped to the image, and go through NMS of each class together.
    Each keeps its score.

    Args:
        augmented: the augmented images.
        found: what is in them.
        nms_threshold: see `batched_nms`.
        max_detections: the best of them that are kept; negative for all.

    Returns:
        N detections as a batch of one image, in its pixels; `region_indices` are indices into M.
        Boxes may be empty.
    """
    boxes = augmented.to_original(found.boxes, found.indices)
    usable = all_finite(boxes) & tf.math.is_finite(found.scores)
    boxes = clip_boxes(tf.where(usable[:, None], boxes, 0.0)[None], augmented.size[None])
    candidate = usable & (found.scores > _LEAST_SCORE)
    scores = tf.where(candidate, found.scores, _LOWEST)
    # There has to be a box: one more, which is not a candidate.
    merged = keep_best(
        tf.pad(boxes, [[0, 0], [0, 1], [0, 0]]),
        tf.pad(scores[None], [[0, 0], [0, 1]], constant_values=_LOWEST),
        tf.pad(found.classes[None], [[0, 0], [0, 1]]),
        nms_threshold,
        max_detections,
    )
    count = merged.num_detections[0]
    slots = {
        name: values[:, :count]
        for name, values in merged.as_dict().items()
        if name != "num_detections"
    }
    return merged._replace(**slots)
