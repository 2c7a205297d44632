"""Mask targets inside a step against Detectron2's, recorded."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.masks.polygon_rows import decode_polygons, encode_polygons
from tfdetect.modeling.mask_targets import mask_targets


@pytest.fixture
def recorded(oracle):
    arrays = oracle("mask_targets")
    objects: list[list[np.ndarray]] = [[] for _ in arrays["boxes"]]
    for key in sorted(key for key in arrays if key.startswith("poly")):
        objects[int(key[4:].split("_")[0])].append(arrays[key])
    return arrays, objects


def test_rows_hold_the_polygons(recorded):
    _, objects = recorded
    rows = np.concatenate([encode_polygons(objects), np.full((5, 4), -1.0)])
    decoded = decode_polygons(rows)
    assert list(decoded) == list(range(10))
    for expected, found in zip(objects, decoded.values(), strict=True):
        assert [polygon.tolist() for polygon in found] == [polygon.tolist() for polygon in expected]
    assert encode_polygons([]).shape == (0, 4)
    assert decode_polygons(encode_polygons([[], []])) == {}


@pytest.mark.parametrize("in_replicas", [False, True])
def test_targets_are_detectron2s_pixel_for_pixel(recorded, in_replicas):
    """Two images: the objects in order; and the last five of them, in reverse, among padding."""
    arrays, objects = recorded
    rows = encode_polygons(objects)
    other = encode_polygons(objects[5:])
    polygons = np.full((2, len(rows), 4), -1.0)
    polygons[0], polygons[1, : len(other)] = rows, other
    boxes = np.stack([arrays["boxes"], np.concatenate([arrays["boxes"][:4:-1], np.zeros((5, 4))])])
    indices = np.stack([np.arange(10), [4, 3, 2, 1, 0, -1, -1, -1, -1, -1]]).astype(np.int32)
    expected = np.zeros((2, 10, 28, 28), dtype=bool)
    expected[0] = arrays["crop28"]
    expected[1, :5] = arrays["crop28"][:4:-1]

    @tf.function(autograph=False)
    def step(polygons, boxes, indices):
        masks = mask_targets(polygons, boxes, indices, 28)
        assert masks.shape == (2, 10, 28, 28)
        return masks

    arguments = (
        tf.constant(polygons),
        tf.constant(boxes.astype(np.float32)),
        tf.constant(indices),
    )
    if in_replicas:
        found = tf.distribute.MirroredStrategy(["CPU:0"]).run(step, arguments)
    else:
        found = step(*arguments)
    np.testing.assert_array_equal(found, expected)


def test_nothing_to_see():
    polygons = tf.fill([1, 1, 4], tf.constant(-1.0, tf.float64))
    masks = mask_targets(polygons, tf.zeros([1, 0, 4]), tf.zeros([1, 0], tf.int32), 28)
    assert masks.shape == (1, 0, 28, 28)
    masks = mask_targets(polygons, tf.zeros([1, 2, 4]), tf.constant([[0, -1]]), 28)
    assert not tf.reduce_any(masks)
