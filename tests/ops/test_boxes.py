"""Box arithmetic against Detectron2's Box2BoxTransform."""

from __future__ import annotations

import numpy as np
import pytest

from tfdetect.ops.boxes import apply_deltas, clip_boxes, get_deltas, nonempty


@pytest.mark.parametrize(("name", "weights"), [("w1", [1.0] * 4), ("w10", [10.0, 10, 5, 5])])
def test_recorded(oracle, name, weights):
    """1e-5 of the scale: exp and log of two libraries."""
    data = oracle("box_transform")
    for expected, result in (
        (data[f"{name}_get"], get_deltas(data["src"], data["dst"], weights)),
        (data[f"{name}_apply"], apply_deltas(data["deltas"], data["src"], weights)),
    ):
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_sizes_are_limited_from_above_only():
    boxes = np.array([[0, 0, 16, 16]], np.float32)
    grown = apply_deltas(np.array([[0, 0, 50, -50]], np.float32), boxes, [1.0] * 4).numpy()[0]
    np.testing.assert_allclose(grown[2] - grown[0], 1000, rtol=1e-6)
    assert 0 <= grown[3] - grown[1] < 1e-5


def test_clip_and_nonempty():
    boxes = np.array([[[-5, -5, 50, 50], [3, 3, 3, 9]], [[1, 2, 3, 4], [30, 2, 40, 9]]], np.float32)
    clipped = clip_boxes(boxes, np.array([[20, 30], [10, 20]], np.int32)).numpy()
    np.testing.assert_array_equal(
        clipped, [[[0, 0, 30, 20], [3, 3, 3, 9]], [[1, 2, 3, 4], [20, 2, 20, 9]]]
    )
    np.testing.assert_array_equal(nonempty(clipped), [[True, False], [True, False]])
