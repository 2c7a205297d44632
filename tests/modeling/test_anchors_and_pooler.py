"""Anchors and the RoI pooler against Detectron2's."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.modeling.anchors import cell_anchors, grid_anchors
from tfdetect.modeling.roi_heads.pooler import RoIPooler, assign_levels


@pytest.mark.parametrize("name", ["fpn", "offset"])
def test_recorded_pyramid(oracle, name):
    """Recorded with offset 0.5, the generator's default; 1e-5 of the largest coordinate."""
    data = oracle("anchors")
    for level, (height, width) in enumerate(data[f"{name}_hw"]):
        base_anchors = cell_anchors([32 * 2**level], [0.5, 1.0, 2.0])
        anchors = grid_anchors(base_anchors, int(height), int(width), 4 * 2**level, 0.5)
        expected = data[f"{name}_{level}"]
        np.testing.assert_allclose(anchors, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_recorded_single_map(oracle):
    """Sizes outermost, aspect ratios within; offset 0.5."""
    data = oracle("anchors")
    height, width = data["c4_hw"][0]
    base_anchors = cell_anchors([32, 64, 128, 256, 512], [0.5, 1.0, 2.0])
    anchors = grid_anchors(base_anchors, int(height), int(width), 16, 0.5)
    np.testing.assert_allclose(anchors, data["c4_0"], rtol=0, atol=1e-5 * 800)


def test_anchors_of_the_zoo_are_centred_on_corners_of_cells():
    """Every configuration of the zoo has ANCHOR_GENERATOR.OFFSET 0."""
    anchors = grid_anchors(cell_anchors([32], [1.0]), 2, 3, 16, 0.0).numpy()
    np.testing.assert_array_equal(anchors[0], [-16, -16, 16, 16])
    np.testing.assert_array_equal(anchors[4], [0, 0, 32, 32])  # row 1, column 1


@pytest.mark.parametrize("pooler_type", ["ROIAlignV2", "ROIAlign"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("size", [7, 14])
def test_recorded_pooling(oracle, implementation, pooler_type, ratio, size):
    """1e-5 of the scale."""
    data = oracle("roi_pooler")
    features = [np.transpose(data[f"p{level}"], [0, 2, 3, 1]) for level in range(2, 6)]
    boxes = np.concatenate([data["boxes0"], data["boxes1"]])
    index = np.repeat(np.array([0, 1], np.int32), [len(data["boxes0"]), len(data["boxes1"])])
    pooler = RoIPooler("MODEL.ROI_BOX_HEAD", pooler_type, size, ratio, [4, 8, 16, 32])
    expected = np.transpose(data[f"{pooler_type}_sr{ratio}_{size}"], [0, 2, 3, 1])
    pooled = pooler([tf.constant(f) for f in features], tf.constant(boxes), tf.constant(index))
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_recorded_roi_pool(oracle, implementation):
    """The largest pixels of the bins, exactly."""
    data = oracle("roi_pooler")
    features = [tf.constant(np.transpose(data[f"p{n}"], [0, 2, 3, 1])) for n in range(2, 6)]
    boxes = np.concatenate([data["boxes0"], data["boxes1"]])
    index = np.repeat(np.array([0, 1], np.int32), [len(data["boxes0"]), len(data["boxes1"])])
    pooler = RoIPooler("MODEL.ROI_BOX_HEAD", "ROIPool", 7, 0, [4, 8, 16, 32])
    expected = np.transpose(oracle("roi_pool")["pooler_7"], [0, 2, 3, 1])
    # In a graph: the portable form loops over the pixels of the largest bin.
    pooled = tf.function(pooler, autograph=False)(features, boxes, index)
    np.testing.assert_array_equal(pooled, expected)


def test_levels_change_where_pytorch_changes_them():
    """floor(4 + log2(size / 224 + 1e-8)) in float32, evaluated with PyTorch 2.13 at the borders.

    Just below 224 the sum rounds up to 4.0, so that level 4 begins a little early; at 112 and 448
    the same happens at other distances.
    """
    side = np.array([1, 111.99, 112, 223.9, 223.99999, 224, 447.9, 448, 900, 1e6], np.float32)
    boxes = np.stack([0 * side, 0 * side, side, side], 1)
    np.testing.assert_array_equal(
        assign_levels(tf.constant(boxes), 2, 5), [2, 2, 3, 3, 4, 4, 4, 5, 5, 5]
    )
    strange = np.array([[0, 0, 0, 0], [5, 5, 1, 9], [np.nan, 0, 1, 1], [0, 0, np.inf, 1]])
    levels = assign_levels(tf.constant(strange, tf.float32), 2, 5).numpy()
    assert ((levels >= 2) & (levels <= 5)).all()
