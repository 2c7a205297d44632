"""Targets of the mask head from bitmasks, and of the keypoint head, against Detectron2's."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.masks.bitmasks import bitmask_boxes, crop_bitmasks
from tfdetect.modeling.keypoint_targets import keypoints_to_heatmap


@pytest.mark.usefixtures("implementation")
def test_bitmask_targets_are_detectron2s_pixel_for_pixel(oracle):
    arrays = oracle("mask_targets")
    targets = crop_bitmasks(arrays["bitmask"], arrays["boxes"], tf.range(10), 28)
    np.testing.assert_array_equal(targets, arrays["bit_crop28"])


@pytest.mark.usefixtures("implementation")
def test_several_boxes_may_share_an_object_and_there_may_be_none(oracle):
    arrays = oracle("mask_targets")
    targets = crop_bitmasks(arrays["bitmask"], arrays["boxes"][[3, 3]], [3, 3], 28)
    np.testing.assert_array_equal(targets, arrays["bit_crop28"][[3, 3]])
    none = crop_bitmasks(arrays["bitmask"], tf.zeros([0, 4]), tf.zeros([0], tf.int32), 28)
    assert none.shape == (0, 28, 28)


def test_bitmask_boxes():
    bitmasks = np.zeros((3, 6, 8), bool)
    bitmasks[0, 2:4, 3:7] = True
    bitmasks[1, 5, 0] = True
    expected = [[3, 2, 7, 4], [0, 5, 1, 6], [0, 0, 0, 0]]
    np.testing.assert_array_equal(bitmask_boxes(tf.constant(bitmasks)), expected)
    assert bitmask_boxes(tf.zeros([0, 6, 8], tf.bool)).shape == (0, 4)


def test_keypoint_targets(oracle):
    arrays = oracle("keypoints")
    index, valid = keypoints_to_heatmap(arrays["keypoints"], arrays["boxes"], 56)
    np.testing.assert_array_equal(index, arrays["target_index"])
    np.testing.assert_array_equal(valid, arrays["target_valid"])


def test_sides_of_the_box():
    box = tf.constant([[10.0, 20, 20, 40]])
    points = tf.constant(
        [[[10.0, 20, 2], [20, 40, 1], [20, 20, 2], [9.99, 30, 2], [20.01, 30, 2], [15, 30, 0]]]
    )
    index, valid = keypoints_to_heatmap(points, box, 10)
    np.testing.assert_array_equal(valid, [[True, True, True, False, False, False]])
    np.testing.assert_array_equal(index, [[0, 99, 9, 0, 0, 0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_hostile_keypoints_and_boxes_have_no_target(bad):
    index, valid = keypoints_to_heatmap(
        tf.constant([[[bad, 5, 2]], [[5, 5, 2]], [[5, 5, 2]]]),
        tf.constant([[0.0, 0, 10, 10], [bad, 0, 10, 10], [7, 7, 7, 7]]),
        56,
    )
    assert not valid.numpy().any()
    assert not index.numpy().any()


def test_no_objects():
    index, valid = keypoints_to_heatmap(tf.zeros([0, 17, 3]), tf.zeros([0, 4]), 56)
    assert index.shape == valid.shape == (0, 17)
