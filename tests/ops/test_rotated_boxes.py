"""Functions of rotated boxes against Detectron2's.

Tolerances: an ulp or two of coordinates of some hundred pixels, 1e-4; of angles, which pass through
float32 sines and arctangents, three ulp of 180 degrees, 5e-5.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.rotated import assert_same_boxes, record
from tfdetect.ops import rotated_boxes as functions
from tfdetect.ops.boxes import SCALE_CLAMP, apply_deltas, clip_boxes, get_deltas, nonempty

SIZE = [[150, 200]]


@pytest.fixture(scope="module")
def data():
    return record("rotated_boxes")


def test_area_and_angles(data):
    boxes = tf.constant(data["boxes"])
    np.testing.assert_array_equal(functions.rotated_area(boxes), data["area"])
    np.testing.assert_array_equal(functions.normalize_angles(boxes[:, 4]), data["normalized"][:, 4])
    strange = tf.constant([180.0, -180.00001525878906, 1e-30, -180.0, 540.0])
    np.testing.assert_array_equal(functions.normalize_angles(strange), [-180, 180, 0, -180, -180])


@pytest.mark.parametrize("threshold", [0, 1, 45])
def test_clip(data, threshold):
    clipped = functions.clip_rotated_boxes(tf.constant(data["boxes"][None]), SIZE, threshold)[0]
    np.testing.assert_array_equal(clipped, data[f"clip_{threshold}"])
    if threshold == 1:
        np.testing.assert_array_equal(
            clip_boxes(tf.constant(data["boxes"][None]), SIZE)[0], clipped
        )


@pytest.mark.parametrize("threshold", [0, 5, 20])
def test_nonempty(data, threshold):
    found = nonempty(tf.constant(data["boxes"]), threshold)
    np.testing.assert_array_equal(found, data[f"nonempty_{threshold}"])


@pytest.mark.parametrize("threshold", [0, 10, -5])
def test_inside_image(data, threshold):
    found = functions.inside_image(tf.constant(data["boxes"]), SIZE[0], threshold)
    np.testing.assert_array_equal(found, data[f"inside_{threshold}"])


@pytest.mark.parametrize("factors", ["1_1", "2_0.5", "1.3_1.3", "0.37_1.91"])
def test_scale(data, factors):
    boxes = tf.constant(data["boxes"])
    scaled = functions.scale_rotated_boxes(boxes, tf.constant([*map(float, factors.split("_"))]))
    assert_same_boxes(scaled, data[f"scale_{factors}"], 1e-4, 5e-5)
    np.testing.assert_array_equal(boxes, data["boxes"])  # it is not changed


def test_horizontal_extent(data):
    boxes = tf.constant(data["boxes"])
    half = functions.horizontal_extent(boxes) / 2.0
    corners = tf.concat([boxes[:, :2] - half, boxes[:, :2] + half], 1)
    # Recorded in float64: the float32 sine of many turns is off.
    few = np.abs(data["boxes"][:, 4]) <= 360
    np.testing.assert_allclose(corners[few], data["to_xyxy"][few], rtol=0, atol=2e-4)


@pytest.mark.parametrize("weights", ["1_1_1_1_1", "10_10_5_5_1", "10_10_5_5_10"])
def test_coding(weights):
    """Deltas, some of them huge, within 1e-5 of each one's size."""
    data = record("box_transform")
    numbers = [*map(float, weights.split("_"))]
    source, target = tf.constant(data["src"]), tf.constant(data["dst"])
    deltas = get_deltas(source, target, numbers)
    np.testing.assert_allclose(deltas, data[f"w{weights}_get"], rtol=1e-5, atol=1e-5)
    for columns, name in ((15, "apply"), (5, "apply_k1")):
        given = tf.constant(data["deltas"][:, :columns])
        decoded = tf.reshape(apply_deltas(given, source, numbers), [-1, 5])
        expected = data[f"w{weights}_{name}"].reshape(-1, 5)
        np.testing.assert_allclose(decoded[:, :4], expected[:, :4], rtol=1e-6, atol=1e-4)
        turn = np.abs(decoded[:, 4] - expected[:, 4])
        assert np.minimum(turn, np.abs(turn - 360)).max() <= 5e-5
    back = apply_deltas(deltas, source, numbers)
    assert_same_boxes(back, data[f"w{weights}_roundtrip"], 1e-4, 5e-5)


def test_target_without_a_size():
    data = record("box_transform")
    deltas = get_deltas(
        tf.constant(data["src"][: len(data["zero_size_target"])]),
        tf.constant(data["zero_size_target"]),
        [1.0] * 5,
    )
    np.testing.assert_array_equal(np.isneginf(deltas), np.isneginf(data["zero_size_target_get_w1"]))


@pytest.mark.parametrize("count", [0, 3])
def test_batches_and_nothing(count):
    boxes = tf.ones([2, count, 5])
    assert apply_deltas(tf.zeros([2, count, 20]), boxes, [1.0] * 5).shape == (2, count, 20)
    assert get_deltas(boxes, boxes, [1.0] * 5).shape == (2, count, 5)
    assert clip_boxes(boxes, tf.constant([[5, 5], [7, 7]])).shape == (2, count, 5)
    assert nonempty(boxes).shape == (2, count)


def test_deltas_are_limited():
    grown = apply_deltas(tf.fill([1, 5], 100.0), tf.constant([[0.0, 0, 1, 1, 0]]), [1.0] * 5)
    np.testing.assert_allclose(grown[0, 2:4], np.exp(SCALE_CLAMP), rtol=1e-6)
    assert -180 <= grown[0, 4] < 180
