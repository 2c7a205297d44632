"""IoU of rotated boxes against Detectron2's, and where that is wrong.

Of each recorded pair it is known how far Detectron2 is from itself when every number of both boxes
moves by half an ulp (`_floor`): above 1e-4 its value means nothing.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import require_native, using_ops
from tests.support.rotated import IOU_GROUPS, is_extreme, record
from tfdetect.ops.rotated_iou import iou_of_pairs, pairwise_iou_rotated


@pytest.mark.parametrize("group", IOU_GROUPS)
def test_recorded(implementation, group):
    """Within 1e-5, float32 rounding of Detectron2's; 1e8 x 0.01 pixels and the like aside."""
    data = record("iou")
    boxes = [data[f"{group}_boxes{i}"] for i in (1, 2)]
    found = pairwise_iou_rotated(*boxes).numpy()
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    extreme = is_extreme(boxes[0])[:, None] | is_extreme(boxes[1])
    means = (data[f"{group}_floor"] < 1e-4) & ~extreme
    assert means.mean() > 0.6
    np.testing.assert_allclose(found[means], data[group][means], rtol=0, atol=1e-5)


def test_what_detectron2_gets_wrong(implementation):
    """A box with itself, also moved by an ulp; slivers; and their shares, by hand."""
    rng = np.random.default_rng(0)
    boxes = rng.uniform([0, 0, 1, 1, -180], [900, 900, 400, 400, 180], (200, 5)).astype(np.float32)
    nearly = np.nextafter(boxes, np.float32(np.inf))
    np.testing.assert_allclose(iou_of_rows(boxes, boxes), 1.0, rtol=0, atol=1e-6)
    np.testing.assert_allclose(iou_of_rows(boxes, nearly), 1.0, rtol=0, atol=1e-4)
    sliver = np.array([[0, 0, 1e8, 1e-2, 20], [0, 0, 5e-5, 300, 0]], np.float32)
    square = np.array([[0, 0, 10, 10, 20], [0, 0, 10, 10, 0]], np.float32)
    expected = [10 * 1e-2 / (1e6 + 100 - 0.1), 10 * 5e-5 / (100 + 300 * 5e-5 - 5e-4)]
    np.testing.assert_allclose(iou_of_rows(sliver, square), expected, rtol=1e-4)


def iou_of_rows(boxes1, boxes2):
    return np.diag(pairwise_iou_rotated(boxes1, boxes2))


def test_turned_by_half_and_by_quarters(implementation):
    box = np.array([[50, 40, 30, 20, 25]], np.float32)
    turned = box + np.array([[0, 0, 0, 0, a] for a in (180, -180, 360, 720)], np.float32)
    np.testing.assert_allclose(pairwise_iou_rotated(box, turned), 1.0, rtol=0, atol=1e-6)
    swapped = np.array([[50, 40, 20, 30, 115]], np.float32)
    np.testing.assert_allclose(pairwise_iou_rotated(box, swapped), 1.0, rtol=0, atol=1e-6)


def test_hostile(implementation):
    boxes = np.array(
        [
            [np.nan, 0, 1, 1, 0],
            [0, np.inf, 1, 1, 0],
            [0, 0, np.inf, 1, 0],
            [0, 0, 1, 1, -np.inf],
            [0, 0, 0, 5, 0],
            [0, 0, -5, 5, 0],
            [0, 0, 1e-7, 1e-8, 0],
            [0, 0, 1e30, 1e30, 0],
            [3e38, 0, 3e38, 3e38, 1e30],
            [0, 0, 1, 1, 0],
        ],
        np.float32,
    )
    found = pairwise_iou_rotated(boxes, boxes).numpy()
    assert not found[:7].any()
    assert not found[:, :7].any()
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert found[9, 9] == 1


@pytest.mark.parametrize("in_graph", [True, False])
def test_nothing(implementation, in_graph):
    run = pairwise_iou_rotated
    if in_graph:
        run = tf.function(run, input_signature=[tf.TensorSpec([None, 5])] * 2, autograph=False)
    some, none = tf.ones([3, 5]), tf.zeros([0, 5])
    assert run(none, some).shape == (0, 3)
    assert run(some, none).shape == (3, 0)
    assert run(none, none).shape == (0, 0)


def test_implementations_agree_and_in_pieces(monkeypatch):
    """Float64 operations in another order, rounded to float32: an ulp."""
    require_native()
    monkeypatch.setattr("tfdetect.ops.rotated_iou._PAIRS", 700)
    rng = np.random.default_rng(1)
    boxes = [
        rng.uniform([0, 0, 1, 1, -400], [300, 300, 150, 150, 400], (n, 5)).astype(np.float32)
        for n in (60, 71)
    ]
    found = []
    for name in ("native", "portable"):
        with using_ops(name):
            found.append(pairwise_iou_rotated(*boxes).numpy())
    np.testing.assert_allclose(*found, rtol=2e-7, atol=1e-9)
    assert (found[0] > 0).mean() > 0.1
    single = iou_of_pairs(boxes[0][:, None], tf.constant(boxes[1][None]), tf.float32)
    np.testing.assert_allclose(single, found[0], rtol=0, atol=1e-5)
