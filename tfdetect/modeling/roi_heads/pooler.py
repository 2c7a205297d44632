"""RoI pooling from the levels of a feature pyramid (FPN, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdetect.errors import InputError
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.conventions import last_pixels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.fixed.roi_align import pool_levels
from tfdetect.ops.fixed.roi_align_rotated import pool_rotated_levels
from tfdetect.ops.roi_align import roi_align_levels
from tfdetect.ops.roi_align_rotated import roi_align_rotated_levels
from tfdetect.ops.roi_pool import roi_pool_levels
from tfdetect.ops.rotated_boxes import BOX_DIM as ROTATED
from tfdetect.ops.rotated_boxes import rotated_area

# A box of this size, in pixels, as ImageNet's images, is pooled from this level.
_CANONICAL_SIZE = 224
_CANONICAL_LEVEL = 4


def assign_levels(boxes: tf.Tensor, lowest: int, highest: int, epsilon: float = 1e-8) -> tf.Tensor:
    """The pyramid level of each box (Detectron2's `assign_boxes_to_levels`).

    floor(4 + log2(sqrt(area) / 224 + epsilon)), within [lowest, highest].

    Args:
        boxes: float32 [R, 4], or [R, 5] of rotated ones.

    Returns:
        int32 [R].
    """
    if boxes.shape[1] == ROTATED:
        area = rotated_area(boxes)
    else:
        x1, y1, x2, y2 = tf.unstack(boxes, axis=1)
        area = (x2 - x1) * (y2 - y1)
    size = tf.sqrt(area)
    bounds = tf.constant([_least_size(level, epsilon) for level in range(lowest + 1, highest + 1)])
    return lowest + tf.reduce_sum(tf.cast(size[:, None] >= bounds, tf.int32), 1)


def _least_size(level: int, epsilon: float) -> np.float32:
    """The least float32 sqrt(area) that Detectron2 gives this level, or a higher one.

    It rounds every step to float32 (112, 224 and 448 pixels are not quite where the level changes);
    TensorFlow has no log2 to do the same with.
    """

    def reaches(size: np.float32) -> bool:
        ratio = np.float32(size / np.float32(_CANONICAL_SIZE)) + np.float32(epsilon)
        return np.float32(_CANONICAL_LEVEL) + np.log2(np.float64(ratio)).astype(np.float32) >= level

    size = np.float32(_CANONICAL_SIZE * 2.0 ** (level - _CANONICAL_LEVEL))
    while reaches(below := np.nextafter(size, np.float32(0))):
        size = below
    return size


class RoIPooler:
    """RoIAlign or RoIPool of each box on the level that fits its size.

    Args:
        key: the configuration node it was made from, for errors.
        pooler_type: "ROIAlignV2", or "ROIAlign" without the half-pixel shift; "ROIPool"; or
            "ROIAlignRotated" of rotated boxes.
        resolution: bins along each side.
        sampling_ratio: see `roi_align`; "ROIPool" has none.
        strides: of the levels, each twice the one before.
        level_epsilon, inclusive_boxes: see `Conventions`.
        rotated: whether boxes are.
    """

    def __init__(
        self,
        key: str,
        pooler_type: str,
        resolution: int,
        sampling_ratio: int,
        strides: Sequence[int],
        *,
        level_epsilon: float = 1e-8,
        inclusive_boxes: bool = False,
        rotated: bool = False,
    ):
        known = ("ROIAlignRotated",) if rotated else ("ROIAlignV2", "ROIAlign", "ROIPool")
        if pooler_type not in known:
            boxes = "rotated" if rotated else "horizontal"
            raise InputError(
                f"{key}.POOLER_TYPE: {pooler_type!r} is not supported for {boxes} boxes; use "
                f"{' or '.join(known)}"
            )
        levels = [math.log2(stride) for stride in strides]
        # As Detectron2 counts: a permutation within the pyramid passes, each box still being pooled
        # with the stride of its own map.
        if not levels[0].is_integer() or levels[-1] - levels[0] != len(levels) - 1:
            raise InputError(
                f"MODEL.ROI_HEADS.IN_FEATURES: the strides {list(strides)} do not form a "
                f"pyramid; give "
                "features from the highest resolution down, each of half the one before"
            )
        self.resolution = resolution
        self._sampling_ratio = sampling_ratio
        self._rotated = rotated
        self._aligned = pooler_type == "ROIAlignV2"
        self._takes_largest = pooler_type == "ROIPool"
        self._level_epsilon = level_epsilon
        self._inclusive_boxes = inclusive_boxes
        self._strides = list(strides)
        self._levels = [int(level) for level in levels]

    @profile_scope("pooler")
    def __call__(
        self,
        features: Sequence[tf.Tensor],
        boxes: tf.Tensor,
        box_indices: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> tf.Tensor:
        """Pool.

        Args:
            features: one [B, H, W, C] per stride.
            boxes: float32 [R, 4], or [R, 5] of rotated ones, in pixels of the network's input
                image.
            box_indices: int32 [R], the image of each box.
            valid_sizes: of the images; samples stay within their own image.

        Returns:
            [R, resolution, resolution, C].
        """
        levels = assign_levels(boxes, self._levels[0], self._levels[-1], self._level_epsilon)
        if self._inclusive_boxes:
            boxes = last_pixels(boxes)
        levels -= self._levels[0]
        scales = [1.0 / stride for stride in self._strides]
        fixed_shapes = current_backend().fixed_shapes
        sizes = [None] * len(scales)
        if not fixed_shapes:
            sizes = [valid_sizes.strided(stride).sizes for stride in self._strides]
        if self._takes_largest:
            return roi_pool_levels(
                features, boxes, box_indices, levels, self.resolution, scales, sizes
            )
        common = (
            features,
            boxes,
            box_indices,
            levels,
            self.resolution,
            scales,
            self._sampling_ratio,
        )
        if fixed_shapes:
            if self._rotated:
                return pool_rotated_levels(*common)
            return pool_levels(*common, self._aligned)
        if self._rotated:
            return roi_align_rotated_levels(*common, sizes)
        return roi_align_levels(*common, self._aligned, sizes)
