"""Annotations under resize and flip against Detectron2's, recorded."""

from __future__ import annotations

import numpy as np
import pytest

from tfdetect.data import geometry
from tfdetect.data.geometry import HorizontalFlip, Resize
from tfdetect.errors import InputError
from tfdetect.modeling.keypoint_flip import keypoint_flip_indices

PAIRED = ["eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
COCO_KEYPOINTS = ["nose", *(f"{side}_{part}" for part in PAIRED for side in ("left", "right"))]
COCO_PAIRS = {f"left_{part}": f"right_{part}" for part in PAIRED}

# Coordinates are a few hundred pixels; the same double-precision operations in another order of
# multiplication and division differ by a few units in the last place (3e-14 each).
TOLERANCE = 1e-12


@pytest.fixture
def recorded(oracle):
    arrays = oracle("augment_geometry")
    (height, width), (new_height, new_width) = arrays["in_hw"], arrays["out_hw"]
    arrays["transforms"] = [Resize(height, width, new_height, new_width), HorizontalFlip(new_width)]
    arrays["image_size"] = (new_height, new_width)
    return arrays


def test_boxes(recorded):
    boxes = geometry.xywh_to_xyxy(recorded["bbox_xywh"][None])
    boxes = geometry.transform_boxes(boxes, recorded["transforms"], recorded["image_size"])
    np.testing.assert_allclose(boxes, recorded["out_bbox"][None], rtol=0, atol=TOLERANCE)


def test_polygons(recorded):
    polygons = geometry.transform_polygons([recorded["segmentation"]], recorded["transforms"])
    np.testing.assert_allclose(polygons, [recorded["out_segmentation"]], rtol=0, atol=TOLERANCE)


def test_keypoints(recorded):
    keypoints = geometry.transform_keypoints(
        geometry.coco_keypoints(recorded["coco_keypoints"]),
        recorded["transforms"],
        recorded["image_size"],
        recorded["flip_indices"],
    )
    np.testing.assert_allclose(keypoints, recorded["out_keypoints"], rtol=0, atol=TOLERANCE)


def test_flip_indices_follow_from_the_names(recorded):
    indices = keypoint_flip_indices(COCO_KEYPOINTS, COCO_PAIRS)
    np.testing.assert_array_equal(indices, recorded["flip_indices"])


def test_boxes_are_clipped_to_the_image():
    boxes = geometry.transform_boxes([[-5, 10, 300, 50]], [Resize(100, 200, 50, 100)], (50, 100))
    np.testing.assert_array_equal(boxes, [[0, 5, 100, 25]])
    assert geometry.transform_boxes(np.zeros((0, 4)), [HorizontalFlip(9)], (9, 9)).shape == (0, 4)


def test_keypoints_that_leave_the_image_become_unlabelled_and_the_border_is_inside():
    keypoints = geometry.transform_keypoints(
        [[10, 10, 2], [-0.1, 5, 1], [20, 20, 2], [20.1, 5, 2]], [], (20, 20)
    )
    np.testing.assert_array_equal(keypoints, [[10, 10, 2], [0, 0, 0], [20, 20, 2], [0, 0, 0]])


def test_two_flips_are_none():
    keypoints = np.array([[1.0, 2.0, 2.0], [3.0, 4.0, 1.0]])
    flips = [HorizontalFlip(10), HorizontalFlip(10)]
    np.testing.assert_array_equal(
        geometry.transform_keypoints(keypoints, flips, (10, 10)), keypoints
    )


def test_inputs_are_left_as_they_were():
    keypoints, boxes = np.array([[1.0, 2.0, 0.0]]), np.array([[1.0, 2.0, 3.0, 4.0]])
    polygon = np.arange(6.0)
    transforms = [HorizontalFlip(10), Resize(10, 10, 20, 20)]
    geometry.transform_keypoints(keypoints, transforms, (20, 20), np.array([0]))
    geometry.transform_boxes(boxes, transforms, (20, 20))
    geometry.transform_polygons([polygon], transforms)
    np.testing.assert_array_equal(keypoints, [[1, 2, 0]])
    np.testing.assert_array_equal(boxes, [[1, 2, 3, 4]])
    np.testing.assert_array_equal(polygon, np.arange(6.0))


def test_a_flip_without_pairs_says_what_to_do():
    with pytest.raises(InputError, match="flip pairs"):
        geometry.transform_keypoints(np.ones((2, 3)), [HorizontalFlip(10)], (10, 10))
    with pytest.raises(InputError, match=r"2 keypoints .* there are 1"):
        geometry.transform_keypoints(np.ones((2, 3)), [HorizontalFlip(10)], (10, 10), np.array([0]))


def test_wrong_names_and_counts_are_named():
    with pytest.raises(InputError, match="'tail'"):
        keypoint_flip_indices(["nose"], {"tail": "nose"})
    with pytest.raises(InputError, match="4 values"):
        geometry.coco_keypoints([1.0, 2.0, 3.0, 4.0])
