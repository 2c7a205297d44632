"""Mask pasting against Detectron2's."""

from __future__ import annotations

import numpy as np

from tfdetect.ops.paste_masks import paste_masks


def test_recorded(oracle, implementation):
    """The binary masks exactly, but for pixels whose soft value is within 1e-5 of the threshold."""
    data = oracle("paste_masks")
    size = np.array([data["height"], data["width"]], np.int32)
    pasted = paste_masks(data["masks"], data["boxes"], size).numpy()
    differs = pasted != data["binary"]
    assert not (differs & (np.abs(data["soft"] - 0.5) > 1e-5)).any()
    assert differs.mean() < 1e-5


def test_soft_values(oracle, implementation):
    """The recorded soft values, found by thresholds on either side of them, within 1e-5."""
    data = oracle("paste_masks")
    size = np.array([data["height"], data["width"]], np.int32)
    for threshold in np.linspace(0.05, 0.95, 10):
        pasted = paste_masks(data["masks"], data["boxes"], size, float(threshold)).numpy()
        assert pasted[data["soft"] > threshold + 1e-5].all()
        assert not pasted[data["soft"] < threshold - 1e-5].any()


def test_hostile_boxes(implementation):
    boxes = np.array(
        [
            [np.nan, 0, 10, 10],
            [0, 0, np.inf, 10],
            [5, 5, 5, 9],
            [9, 9, 5, 5],
            [-1e9, -1e9, 1e9, 1e9],
            [1e9, 1e9, 2e9, 2e9],
            [2, 3, 6, 8],
        ],
        np.float32,
    )
    pasted = paste_masks(
        np.ones([7, 28, 28], np.float32), boxes, np.array([12, 10], np.int32)
    ).numpy()
    assert not pasted[:4].any()
    assert pasted[4].all()
    assert not pasted[5].any()
    assert pasted[6].sum() == pasted[6, 3:8, 2:6].sum() == 20


def test_nothing(implementation):
    none = paste_masks(
        np.zeros([0, 28, 28], np.float32), np.zeros([0, 4], np.float32), np.array([5, 6], np.int32)
    )
    assert none.shape == (0, 5, 6)
