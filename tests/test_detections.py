"""The arrays of one image's detections."""

from __future__ import annotations

import numpy as np
import pytest

from tfdetect.detections import Detections


def _detections(**changes):
    fields = {
        "height": 6,
        "width": 8,
        "boxes": np.arange(12, dtype=np.float32).reshape(3, 4),
        "scores": np.array([0.9, 0.6, 0.1], np.float32),
        "classes": np.array([2, 0, 1]),
        "masks": np.arange(3)[:, None, None] == np.zeros((3, 6, 8)),
        "keypoints": np.zeros((3, 5, 3), np.float32),
    }
    return Detections(**(fields | changes))


def test_select_by_mask_and_by_index():
    detections = _detections()
    assert len(detections) == 3
    kept = detections.select(detections.scores > 0.5)
    assert len(kept) == 2
    np.testing.assert_array_equal(kept.classes, [2, 0])
    assert kept.masks.shape == (2, 6, 8)
    assert kept.keypoints.shape == (2, 5, 3)
    turned = detections.select(np.array([2, 0]))
    np.testing.assert_array_equal(turned.boxes, detections.boxes[[2, 0]])
    np.testing.assert_array_equal(turned.masks, detections.masks[[2, 0]])


def test_none_stays_none():
    kept = _detections(masks=None, keypoints=None).select(np.zeros(3, bool))
    assert len(kept) == 0
    assert kept.masks is None
    assert kept.keypoints is None


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("boxes", (3, 6)),
        ("boxes", (2, 4)),
        ("classes", (2,)),
        ("masks", (3, 8, 6)),
        ("keypoints", (3, 5)),
    ],
)
def test_shapes_that_do_not_belong_together(field, shape):
    with pytest.raises(ValueError, match=field):
        _detections(**{field: np.zeros(shape)})
