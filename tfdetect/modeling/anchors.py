"""Anchors (Faster R-CNN, section 3.1.1), placed and ordered as Detectron2 does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> np.ndarray:
    """Anchors centred at the origin: float32 [len(sizes) * len(aspect_ratios), 4], sizes outermost.

    Their area is size ** 2, their height / width the aspect ratio, their corners not rounded.
    """
    boxes = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = (size**2.0 / ratio) ** 0.5
            height = ratio * width
            boxes.append([-width / 2.0, -height / 2.0, width / 2.0, height / 2.0])
    return np.array(boxes, np.float32)


def grid_anchors(
    cells: np.ndarray, height: tf.Tensor, width: tf.Tensor, stride: int, offset: float
) -> tf.Tensor:
    """Anchors of one feature map, in pixels of the network's input image.

    Args:
        cells: float32 [A, 4], from `cell_anchors`.
        height, width: of the feature map.
        stride: pixels per feature cell.
        offset: where in its cell an anchor's centre is, in strides: 0 at the corner.

    Returns:
        float32 [height * width * A, 4], ordered by row, column, anchor.
    """
    x = (tf.range(width, dtype=tf.float32) + offset) * stride
    y = (tf.range(height, dtype=tf.float32) + offset) * stride
    x, y = tf.meshgrid(x, y)
    shifts = tf.stack([x, y, x, y], -1)
    return tf.reshape(shifts[:, :, None] + cells, [-1, 4])


class AnchorGenerator:
    """Detectron2's DefaultAnchorGenerator over the feature maps with the given strides."""

    def __init__(self, cfg: CfgNode, strides: Sequence[int]):
        anchors = cfg.MODEL.ANCHOR_GENERATOR
        if anchors.NAME != "DefaultAnchorGenerator":
            raise InputError(f"MODEL.ANCHOR_GENERATOR.NAME: {anchors.NAME!r} is not supported")
        sizes = _per_level("SIZES", anchors.SIZES, len(strides))
        ratios = _per_level("ASPECT_RATIOS", anchors.ASPECT_RATIOS, len(strides))
        self._cells = [cell_anchors(s, r) for s, r in zip(sizes, ratios, strict=True)]
        self._strides = list(strides)
        self._offset = float(anchors.OFFSET)
        self.anchors_per_cell = len(self._cells[0])
        if any(len(cells) != self.anchors_per_cell for cells in self._cells):
            raise InputError(
                "MODEL.ANCHOR_GENERATOR: every level needs the same number of anchors per cell"
            )

    def __call__(self, features: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The anchors of each [N, H, W, C] feature map: float32 [H * W * A, 4]."""
        result = []
        for feature, cells, stride in zip(features, self._cells, self._strides, strict=True):
            shape = tf.shape(feature)
            result.append(grid_anchors(cells, shape[1], shape[2], stride, self._offset))
        return result


def _per_level(key: str, values: Sequence, levels: int) -> Sequence:
    """One list per level; a single one serves for all."""
    if not values or not all(isinstance(value, (list, tuple)) for value in values):
        raise InputError(f"MODEL.ANCHOR_GENERATOR.{key}: expected a list of lists, got {values}")
    if len(values) == 1:
        return list(values) * levels
    if len(values) != levels:
        raise InputError(
            f"MODEL.ANCHOR_GENERATOR.{key}: has {len(values)} lists for {levels} feature maps"
        )
    return values
