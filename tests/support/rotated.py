"""Detectron2's records of rotated boxes."""

from __future__ import annotations

import numpy as np

from tests.support.paths import DATA

FOLDER = DATA / "rotated"
IOU_GROUPS = ["random", "same", "square", "nested", "touching", "degenerate", "huge", "wrap"]


def record(name):
    """The arrays of one file, by their names."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def assert_same_boxes(found, expected, atol, angle_atol):
    """Rotated boxes [N, 5], whose angles are compared modulo 360."""
    found, expected = np.asarray(found), np.asarray(expected)
    np.testing.assert_allclose(found[..., :4], expected[..., :4], rtol=0, atol=atol)
    turn = np.abs(found[..., 4] - expected[..., 4])
    np.testing.assert_array_less(np.minimum(turn, np.abs(turn - 360)), angle_atol)


def nearest(found, expected):
    """For each expected box the largest difference of a number to the nearest found one."""
    turns = found[None, :, 4] - expected[:, None, 4]
    turns = np.abs(turns - 360 * np.round(turns / 360))
    rest = np.abs(found[None, :, :4] - expected[:, None, :4]).max(2)
    return np.maximum(rest, turns)


def is_extreme(boxes):
    """Slivers, and boxes of an area that float32 cannot hold."""
    short, long = np.sort(boxes[:, 2:4].astype(np.float64), 1).T
    return (short > 0) & ((long > 1e6 * short) | (short * long > 3e38))
