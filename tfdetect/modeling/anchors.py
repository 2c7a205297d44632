"""Anchors (Faster R-CNN, section 3.1.1), placed and ordered as Detectron2 does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.conventions import conventions


def cell_anchors(
    sizes: Sequence[float], aspect_ratios: Sequence[float], *, rounded: bool = False
) -> np.ndarray:
    """Anchors centred at the origin: float32 [len(sizes) * len(aspect_ratios), 4], sizes outermost.

    Their area is size ** 2, their height / width the aspect ratio, their corners not rounded;
    or rounded, halves to even, and then the ratios are outermost: torchvision's way.
    """
    if rounded:
        height = np.sqrt(np.array(aspect_ratios, np.float32))[:, None]
        scale = np.array(sizes, np.float32)
        half = np.stack([1 / height * scale, height * scale], -1).reshape(-1, 2) / 2
        return np.round(np.concatenate([-half, half], 1)).astype(np.float32)
    boxes = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = (size**2.0 / ratio) ** 0.5
            height = ratio * width
            boxes.append([-width / 2.0, -height / 2.0, width / 2.0, height / 2.0])
    return np.array(boxes, np.float32)


def quantized_cell_anchors(
    sizes: Sequence[float], aspect_ratios: Sequence[float], stride: int
) -> np.ndarray:
    """Detectron's anchors at the origin: float32 like `cell_anchors`, ratios outermost.

    A square of `stride` pixels is changed to each ratio with integer sides and then scaled by size
    / stride about its middle pixel. Detectron has the boxes as (x1, y1,
    x2, y2) of inclusive pixels, here they end at x2 + 1 and y2 + 1.
    """
    center = (stride - 1) / 2
    boxes = []
    for ratio in aspect_ratios:
        width = np.round(np.sqrt(stride * stride / ratio))
        height = np.round(width * ratio)
        for size in sizes:
            half_x, half_y = (width * (size / stride) - 1) / 2, (height * (size / stride) - 1) / 2
            boxes.append(
                [center - half_x, center - half_y, center + half_x + 1, center + half_y + 1]
            )
    return np.array(boxes, np.float32)


def grid_anchors(
    base_anchors: np.ndarray, height: tf.Tensor, width: tf.Tensor, stride: int, offset: float
) -> tf.Tensor:
    """Anchors for one feature map, in pixels of the network's input.

    Args:
        base_anchors: float32 [A, 4], from `cell_anchors`, or [A, 5] of rotated ones.
        height, width: of the feature map.
        stride: of the feature map, in pixels.
        offset: of the anchor centres, in strides; 0 is the top left corner.

    Returns:
        float32 [height * width * A, 4 or 5], ordered by row, column, anchor.
    """
    # Which numbers of a box are its x: both corners', or the centre's.
    x_axis = np.array([1, 0, 1, 0] if base_anchors.shape[1] == 4 else [1, 0, 0, 0, 0], np.float32)
    x, y = (tf.range(tf.cast(length, tf.float32)) for length in (width, height))
    if offset:
        x, y = x + offset, y + offset
    # Other numbers become 0, which rounds nothing.
    columns = tf.reshape(x, [-1, 1, 1]) * (x_axis * stride) + base_anchors
    rows = tf.reshape(y, [-1, 1, 1, 1]) * (np.roll(x_axis, 1) * stride)
    return tf.reshape(rows + columns, [-1, len(x_axis)])


class AnchorGenerator:
    """Detectron2's DefaultAnchorGenerator over the feature maps with the given strides.

    Attributes:
        box_dim: numbers of an anchor.
        strides: of the feature maps.
        anchors_per_location: of every feature map.

    Args:
        strides: pixels per location of each feature map.
        sizes, aspect_ratios: of the anchors of each feature map, or of all of them; see
            `cell_anchors`.
        offset: where in its location an anchor's centre is, in strides.
        kind: "exact", or what other conventions have: see `Conventions.anchors`.

    Raises:
        InputError: sizes and ratios do not go with the feature maps.
    """

    box_dim = 4

    def __init__(
        self,
        strides: Sequence[int],
        *,
        sizes: Sequence[Any],
        aspect_ratios: Sequence[Any],
        offset: float = 0.0,
        kind: str = "exact",
    ):
        sizes = _per_level("SIZES", sizes, len(strides))
        ratios = _per_level("ASPECT_RATIOS", aspect_ratios, len(strides))
        self._kind = kind
        base_anchors = [
            quantized_cell_anchors(*level)
            if self._kind == "quantized"
            else cell_anchors(*level[:2], rounded=self._kind == "rounded")
            for level in zip(sizes, ratios, strides, strict=True)
        ]
        self.strides = list(strides)
        self._offset = float(offset)
        self._set_base_anchors(base_anchors, "ASPECT_RATIOS")

    def _set_base_anchors(self, base_anchors: list[np.ndarray], keys: str) -> None:
        """Take these anchors [A, box_dim] of each feature map, which SIZES and `keys` gave."""
        self._base_anchors = base_anchors
        counts = [len(level) for level in base_anchors]
        self.anchors_per_location = counts[0]
        if len(set(counts)) > 1:
            raise InputError(
                f"MODEL.ANCHOR_GENERATOR.SIZES: with {keys} they give the feature maps {counts} "
                "anchors per location; give all the same number"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, strides: Sequence[int]) -> AnchorGenerator:
        """From MODEL.ANCHOR_GENERATOR and MODEL.CONVENTIONS."""
        anchors = cfg.MODEL.ANCHOR_GENERATOR
        if anchors.NAME != "DefaultAnchorGenerator":
            raise InputError(
                f"MODEL.ANCHOR_GENERATOR.NAME: {anchors.NAME!r} is not supported; use "
                "DefaultAnchorGenerator, or for rotated boxes MODEL.PROPOSAL_GENERATOR.NAME RRPN"
            )
        return cls(
            strides,
            sizes=anchors.SIZES,
            aspect_ratios=anchors.ASPECT_RATIOS,
            offset=anchors.OFFSET,
            kind=conventions(cfg).anchors,
        )

    def __call__(
        self, features: Sequence[tf.Tensor], valid_sizes: ValidSizes = WHOLE
    ) -> list[tf.Tensor]:
        """The anchors of each [N, H, W, C] feature map: float32 [H * W * A, box_dim].

        If anchors depend on the input size, float32 [N, H * W * A, 4], or [1, ...] if the whole
        batch is valid for every image.
        """
        result = []
        for feature, base_anchors, stride in zip(
            features, self._base_anchors, self.strides, strict=True
        ):
            _, height, width, _ = tf.unstack(tf.shape(feature))
            if self._kind != "rounded":
                result.append(grid_anchors(base_anchors, height, width, stride, self._offset))
                continue
            # The first map's stride divides the size of the network's input.
            sizes, input_sizes = valid_sizes.strided(stride).sizes, valid_sizes.sizes
            if sizes is None:
                sizes = tf.shape(feature)[None, 1:3]
                input_sizes = tf.shape(features[0])[None, 1:3] * self.strides[0]
            steps = tf.cast(tf.gather(input_sizes // sizes, [1, 0, 1, 0], axis=1), tf.float32)
            places = grid_anchors(np.zeros_like(base_anchors), height, width, 1, self._offset)
            anchors = places * steps[:, None] + tf.tile(base_anchors, [height * width, 1])
            result.append(anchors)
        return result


class RotatedAnchorGenerator(AnchorGenerator):
    """Detectron2's generator of this name: anchors (x centre, y centre, width, height, angle).

    Of a location for each size, for each aspect ratio, for each angle.

    Args:
        strides, sizes, aspect_ratios, offset: see `AnchorGenerator`.
        angles: in degrees, of the anchors of each feature map, or of all of them.

    Raises:
        InputError: as `AnchorGenerator`.
    """

    box_dim = 5

    def __init__(
        self,
        strides: Sequence[int],
        *,
        sizes: Sequence[Any],
        aspect_ratios: Sequence[Any],
        angles: Sequence[Any],
        offset: float = 0.0,
    ):
        super().__init__(strides, sizes=sizes, aspect_ratios=aspect_ratios, offset=offset)
        angles = _per_level("ANGLES", angles, len(strides), positive=False)
        base_anchors = [
            rotated_cell_anchors(*level) for level in zip(self._base_anchors, angles, strict=True)
        ]
        self._set_base_anchors(base_anchors, "ASPECT_RATIOS and ANGLES")

    @classmethod
    def from_config(cls, cfg: CfgNode, strides: Sequence[int]) -> RotatedAnchorGenerator:
        """From MODEL.ANCHOR_GENERATOR."""
        anchors = cfg.MODEL.ANCHOR_GENERATOR
        if anchors.NAME != "RotatedAnchorGenerator":
            raise InputError(
                f"MODEL.ANCHOR_GENERATOR.NAME: {anchors.NAME!r} has no rotated anchors, which "
                "MODEL.PROPOSAL_GENERATOR.NAME RRPN needs; use RotatedAnchorGenerator"
            )
        return cls(
            strides,
            sizes=anchors.SIZES,
            aspect_ratios=anchors.ASPECT_RATIOS,
            angles=anchors.ANGLES,
            offset=anchors.OFFSET,
        )


def rotated_cell_anchors(base_anchors: np.ndarray, angles: Sequence[float]) -> np.ndarray:
    """Each of the anchors [A, 4] around the origin at every angle: float32 [A * angles, 5]."""
    repeated = np.repeat(base_anchors[:, 2:] - base_anchors[:, :2], len(angles), axis=0)
    turned = np.tile(np.array(angles, np.float32), len(base_anchors))
    return np.concatenate([np.zeros_like(repeated), repeated, turned[:, None]], 1)


def _per_level(key: str, values: Sequence, levels: int, *, positive: bool = True) -> Sequence:
    """One list per level; a single list, or plain numbers, apply to all levels (as in
    Detectron2)."""
    key = f"MODEL.ANCHOR_GENERATOR.{key}"
    if values and not any(isinstance(value, (list, tuple)) for value in values):
        values = [values]
    for value in values:
        numbers = value if isinstance(value, (list, tuple)) else []
        if not numbers or not all(x > 0 if positive else math.isfinite(x) for x in numbers):
            expected = "numbers above 0" if positive else "finite numbers"
            raise InputError(f"{key}: {values} is not lists of {expected}; correct it")
    if not values:
        raise InputError(f"{key}: is empty; give a list of numbers for each feature map")
    if len(values) == 1:
        return list(values) * levels
    if len(values) != levels:
        raise InputError(
            f"{key}: has {len(values)} lists for {levels} feature maps (IN_FEATURES); give one "
            "list, or one for each"
        )
    return values
