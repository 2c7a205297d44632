"""Pooling of regions from the levels of a feature pyramid (FPN, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from tfdetect.errors import InputError
from tfdetect.layers.extents import WHOLE, Extents
from tfdetect.ops.roi_align import roi_align

# A box of this size, in pixels, as ImageNet's images, is pooled from this level.
_CANONICAL_SIZE = 224
_CANONICAL_LEVEL = 4


def assign_levels(boxes: tf.Tensor, lowest: int, highest: int) -> tf.Tensor:
    """The pyramid level of each box (Detectron2's `assign_boxes_to_levels`).

    floor(4 + log2(sqrt(area) / 224 + 1e-8)), within [lowest, highest]. TensorFlow has no log2: the
    logarithm is taken in float64 and rounded to float32, so that the sum rounds as PyTorch's does
    at the sizes where the level changes (112, 224, 448 pixels).

    Args:
        boxes: float32 [R, 4].

    Returns:
        int32 [R].
    """
    size = tf.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    ratio = tf.cast(size / _CANONICAL_SIZE + 1e-8, tf.float64)
    log2 = tf.cast(tf.math.log(ratio) / math.log(2.0), tf.float32)
    level = tf.math.floor(_CANONICAL_LEVEL + log2)
    level = tf.where(tf.math.is_nan(level), float(lowest), level)
    return tf.cast(tf.clip_by_value(level, float(lowest), float(highest)), tf.int32)


class RoIPooler:
    """RoIAlign of each box on the level that fits its size.

    Args:
        key: the configuration node it was made from, for errors.
        pooler_type: "ROIAlignV2", or "ROIAlign" without the half-pixel shift.
        resolution: bins along each side.
        sampling_ratio: see `roi_align`.
        strides: of the levels, each twice the one before.
    """

    def __init__(
        self,
        key: str,
        pooler_type: str,
        resolution: int,
        sampling_ratio: int,
        strides: Sequence[int],
    ):
        if pooler_type not in ("ROIAlign", "ROIAlignV2"):
            raise InputError(
                f"{key}.POOLER_TYPE: {pooler_type!r} is not supported; use ROIAlignV2 or ROIAlign "
                "(rotated boxes are out of scope)"
            )
        self.resolution = resolution
        self._sampling_ratio = sampling_ratio
        self._aligned = pooler_type == "ROIAlignV2"
        self._strides = list(strides)
        self._levels = [int(math.log2(stride)) for stride in strides]

    def __call__(
        self,
        features: Sequence[tf.Tensor],
        boxes: tf.Tensor,
        box_indices: tf.Tensor,
        extents: Extents = WHOLE,
    ) -> tf.Tensor:
        """Pool.

        Args:
            features: one [B, H, W, C] per stride.
            boxes: float32 [R, 4] in pixels of the network's input image.
            box_indices: int32 [R], the image of each box.
            extents: of the images; samples do not leave that of their own.

        Returns:
            [R, resolution, resolution, C].
        """

        def pool(level: int, boxes: tf.Tensor, box_indices: tf.Tensor) -> tf.Tensor:
            return roi_align(
                features[level],
                boxes,
                box_indices,
                self.resolution,
                1.0 / self._strides[level],
                self._sampling_ratio,
                self._aligned,
                extents.strided(self._strides[level]).sizes,
            )

        if len(features) == 1:
            return pool(0, boxes, box_indices)
        levels = assign_levels(boxes, self._levels[0], self._levels[-1])
        pooled, positions = [], []
        for index, level in enumerate(self._levels):
            here = tf.cast(tf.where(levels == level)[:, 0], tf.int32)
            positions.append(here)
            pooled.append(pool(index, tf.gather(boxes, here), tf.gather(box_indices, here)))
        order = tf.math.invert_permutation(tf.concat(positions, 0))
        return tf.gather(tf.concat(pooled, 0), order)
