"""NMS and top-k against torchvision and PyTorch; exact."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.ops.nms import batched_nms, top_k


def kept_by_score(keep, scores):
    indices = np.flatnonzero(keep)
    return indices[np.argsort(-scores[indices], kind="stable")]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_recorded(oracle, implementation, threshold):
    data = oracle("nms")
    one_group = np.zeros(len(data["scores"]), np.int32)
    keep = batched_nms(data["boxes"], data["scores"], one_group, threshold)
    np.testing.assert_array_equal(kept_by_score(keep, data["scores"]), data[f"nms_{threshold}"])
    keep = batched_nms(data["boxes"], data["scores"], data["ids"].astype(np.int32), threshold)
    np.testing.assert_array_equal(kept_by_score(keep, data["scores"]), data[f"batched_{threshold}"])


def greedy(boxes, scores, groups, threshold):
    """The definition, box by box."""
    keep = np.zeros(len(boxes), bool)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in np.argsort(-scores, kind="stable"):
        if groups[i] < 0:
            continue
        other = np.flatnonzero(keep & (groups == groups[i]))
        low = np.maximum(boxes[i, :2], boxes[other, :2])
        high = np.minimum(boxes[i, 2:], boxes[other, 2:])
        inter = np.maximum(high - low, np.float32(0)).prod(1)
        keep[i] = not (inter / (area[i] + area[other] - inter) > threshold).any()
    return keep


@pytest.mark.parametrize("groups", [1, 3, 40])
def test_many_boxes_with_ties(implementation, groups):
    rng = np.random.default_rng(groups)
    corner = rng.uniform(0, 60, (1500, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + rng.uniform(1, 30, (1500, 2))], 1).astype(np.float32)
    scores = rng.integers(0, 50, 1500).astype(np.float32)
    ids = rng.integers(-1, groups, 1500).astype(np.int32)
    keep = batched_nms(boxes, scores, ids, 0.5)
    np.testing.assert_array_equal(keep, greedy(boxes, scores, ids, 0.5))


def test_chain_is_suppressed_one_by_one(implementation):
    """Each box overlaps only its neighbours: every second one stays, however long the chain."""
    x = np.arange(700, dtype=np.float32)[:, None] * 4
    boxes = np.concatenate([x, 0 * x, x + 10, 0 * x + 10], 1)
    keep = batched_nms(boxes, np.arange(700, 0, -1, np.float32), np.zeros(700, np.int32), 0.4)
    np.testing.assert_array_equal(keep, np.arange(700) % 2 == 0)


def test_threshold_is_strict_and_empty_boxes_overlap_nothing(implementation):
    boxes = np.array([[0, 0, 3, 1], [1, 0, 4, 1], [5, 5, 5, 5], [5, 5, 5, 5]], np.float32)
    keep = batched_nms(boxes, np.ones(4, np.float32), np.zeros(4, np.int32), 0.5)
    np.testing.assert_array_equal(keep, [True, True, True, True])  # the first two: exactly 0.5


@pytest.mark.parametrize(("shift", "kept"), [(1, False), (3, True)])
def test_threshold_is_compared_in_float64(implementation, shift, kept):
    """IoUs of 1 / 3 and 7 / 10: in float32 the one is above, the other below its float64 value."""
    width, threshold = {1: (2, 1 / 3), 3: (17, 0.7)}[shift]
    boxes = np.array([[0, 0, width, 1], [shift, 0, shift + width, 1]], np.float32)
    keep = batched_nms(boxes, np.ones(2, np.float32), np.zeros(2, np.int32), threshold)
    np.testing.assert_array_equal(keep, [True, kept])


def test_hostile(implementation):
    boxes = np.array(
        [[np.nan, 0, 1, 1], [0, 0, np.inf, 1], [0, 0, 1, 1], [0, 0, 1, 1], [9, 9, 0, 0]],
        np.float32,
    )
    scores = np.array([1, 1, np.nan, 0.5, 0.1], np.float32)
    keep = batched_nms(boxes, scores, np.zeros(5, np.int32), 0.5)
    np.testing.assert_array_equal(keep, [False, False, False, True, True])
    none = batched_nms(
        np.zeros([0, 4], np.float32), np.zeros([0], np.float32), tf.zeros([0], tf.int32), 0.5
    )
    assert none.shape == (0,)


def test_top_k():
    values, indices = top_k(tf.constant([[1.0, 2, 2, 1, 2]]), 4)
    np.testing.assert_array_equal(values, [[2, 2, 2, 1]])
    np.testing.assert_array_equal(indices, [[1, 2, 4, 0]])
    values, indices = top_k(tf.constant([1.0, np.nan, np.inf, -np.inf]), 9)
    assert set(indices.numpy()[:2]) == {1, 2}
    np.testing.assert_array_equal(indices.numpy()[2:], [0, 3])
    assert np.isnan(values.numpy()[:2]).sum() == 1
