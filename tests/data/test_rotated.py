"""Rotated boxes of annotations, against Detectron2's records and definitions written out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.paths import DATA
from tfdetect.data.geometry import HorizontalFlip, Resize
from tfdetect.data.rotated import (
    clip_rotated_boxes,
    corners_of_rotated,
    rotated_of_quadrilateral,
    transform_rotated_boxes,
)

FAR = (10**6, 10**6)
"""The size of an image that clips nothing, so that the maps alone are compared."""


@pytest.fixture(scope="module")
def recorded():
    with np.load(DATA / "rotated" / "transforms.npz") as arrays:
        return dict(arrays)


def differences(found, expected):
    difference = np.abs(found - expected)
    difference[:, 4] = np.abs((difference[:, 4] + 180) % 360 - 180)
    return difference


@pytest.mark.parametrize(
    ("case", "transforms"),
    [
        ("noop", []),
        ("hflip", [HorizontalFlip(120)]),
        ("resize", [Resize(90, 120, 135, 120)]),
        ("resize_uniform", [Resize(90, 120, 180, 240)]),
        ("resize_then_hflip", [Resize(90, 120, 135, 120), HorizontalFlip(120)]),
    ],
)
def test_augmentations_of_detectron2(recorded, case, transforms):
    """To rounding of numbers up to 180 to float32, whose steps are 1.5e-5 there."""
    height, width = recorded["image_hw"]
    shifted = transform_rotated_boxes(recorded["boxes"], transforms, FAR, FAR)
    unclipped = np.abs(shifted[:, 4]) > 1
    assert unclipped.sum() > 10
    assert (height, width) == (90, 120)
    assert differences(shifted, recorded[case])[unclipped].max() < 3e-5


def test_clipping(oracle_boxes):
    """Bit for bit: the same float32 operations."""
    size = tuple(oracle_boxes["image_hw"])
    found = clip_rotated_boxes(oracle_boxes["boxes"].astype(np.float32), size)
    np.testing.assert_array_equal(found, oracle_boxes["clip_1"])
    np.testing.assert_array_equal(found, oracle_boxes["annotations_to_instances"])


@pytest.fixture(scope="module")
def oracle_boxes():
    with np.load(DATA / "rotated" / "rotated_boxes.npz") as arrays:
        return dict(arrays)


class Turn:
    """Counter-clockwise on the screen, about a point."""

    mirrors = False

    def __init__(self, degrees, center):
        theta = np.deg2rad(degrees)
        self._matrix = np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]])
        self._center = np.array(center)

    def apply_coords(self, coords):
        return (coords - self._center) @ self._matrix.T + self._center


def test_turning():
    """What Detectron2 lacks: a turn by 30 degrees adds 30 to every angle."""
    boxes = np.array([[50, 40, 30, 10, 20], [50, 60, 20, 8, 170], [30, 30, 4, 4, 0]], float)
    turned = transform_rotated_boxes(boxes, [Turn(30, (50, 50))], (100, 100), (100, 100))
    np.testing.assert_allclose(turned[:, 2:4], boxes[:, 2:4], rtol=1e-6)
    np.testing.assert_allclose(turned[:, 4], [50, -160, 30], rtol=1e-5)
    corners = Turn(30, (50, 50)).apply_coords(corners_of_rotated(boxes).reshape(-1, 2))
    np.testing.assert_allclose(corners_of_rotated(turned).reshape(-1, 2), corners, atol=1e-4)


def test_what_leaves_the_image_is_empty_and_what_was_outside_stays():
    boxes = np.array([[90, 50, 30, 10, 45], [-5, 50, 30, 10, 45]], float)
    left = transform_rotated_boxes(boxes, [Resize(100, 100, 100, 100)], (100, 100), (100, 80))
    assert left[0, 2:4].tolist() == [0, 0]
    assert left[1, 2:4].tolist() == [30, 10]


def test_quadrilaterals():
    """A rectangle's corners give it back, its first side along the width, large coordinates too."""
    random = np.random.default_rng(0)
    centers = random.uniform(0, 20000, [200, 2])
    sizes, angles = random.uniform(5, 300, [200, 2]), random.uniform(-180, 180, [200, 1])
    boxes = np.concatenate([centers, sizes, angles], axis=1)
    found = np.array([rotated_of_quadrilateral(corners) for corners in corners_of_rotated(boxes)])
    assert differences(found, boxes).max() < 2e-3  # OpenCV's float32
    # Other corners are inside the box.
    skewed = np.array([[0, 0], [40, 5], [45, 30], [2, 25]], float)
    box = rotated_of_quadrilateral(skewed)
    right = np.array([np.cos(np.deg2rad(box[4])), -np.sin(np.deg2rad(box[4]))])
    across = (skewed - box[:2]) @ right
    along = (skewed - box[:2]) @ np.array([-right[1], right[0]])
    assert np.abs(across).max() == pytest.approx(box[2] / 2, abs=1e-4)
    assert np.abs(along).max() == pytest.approx(box[3] / 2, abs=1e-4)
    assert abs(box[4]) < 45
