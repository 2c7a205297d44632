"""Detectron2's records of rotated boxes."""

from __future__ import annotations

import numpy as np

from tests.support.paths import DATA

FOLDER = DATA / "rotated"


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
