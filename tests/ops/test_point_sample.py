"""point_sample against PyTorch's grid_sample, as Detectron2's PointRend calls it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.point_rend import load_arrays
from tfdetect.ops.point_sample import point_sample

# What the record's README asks of a port: float32 interpolation of values around 1.
TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def recorded():
    return load_arrays("ops")


@pytest.fixture(scope="module")
def features(recorded):
    return tf.constant(recorded["x"].transpose(0, 2, 3, 1))


def test_bilinear_and_gradient(recorded, features, implementation):
    with tf.GradientTape() as tape:
        tape.watch(features)
        found = point_sample(features, tf.constant(recorded["point_coords"]))
        total = tf.reduce_sum(found * recorded["bilinear_outgrad"].transpose(0, 2, 1))
    np.testing.assert_allclose(found, recorded["bilinear"].transpose(0, 2, 1), **TOLERANCE)
    gradient = tape.gradient(total, features)
    expected = recorded["bilinear_ingrad"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(gradient, expected, **TOLERANCE)


def test_nearest(recorded, features, implementation):
    found = point_sample(features, tf.constant(recorded["point_coords"]), nearest=True)
    np.testing.assert_array_equal(found, recorded["nearest"].transpose(0, 2, 1))


def test_as_a_graph_of_unknown_shapes(recorded, features, implementation):
    spec = tf.TensorSpec(None, tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 5]), spec], autograph=False)
    def sample(features, points):
        return point_sample(features, tf.ensure_shape(points, [None, None, 2]))

    found = sample(features, recorded["point_coords"])
    np.testing.assert_allclose(found, recorded["bilinear"].transpose(0, 2, 1), **TOLERANCE)
    assert sample(features[:0], recorded["point_coords"][:0]).shape == (0, 40, 5)


def test_rows_of_any_map(recorded, features, implementation):
    points, indices = tf.constant(recorded["point_coords"]), [2, 0, 2, 1]
    found = point_sample(features, tf.gather(points, indices), tf.constant(indices))
    expected = recorded["bilinear"].transpose(0, 2, 1)[indices]
    np.testing.assert_allclose(found, expected, **TOLERANCE)
    none = point_sample(features, points[:0], tf.zeros([0], tf.int32))
    assert none.shape == (0, 40, 5)


def test_a_map_that_is_part_of_a_larger_one(recorded, features, implementation):
    """What is beyond its size is not read, NaN included, and gets no gradient."""
    size = features.shape[1:3]
    padded = tf.pad(features, [[0, 0], [0, 3], [0, 5], [0, 0]], constant_values=np.nan)
    with tf.GradientTape() as tape:
        tape.watch(padded)
        found = point_sample(
            padded, tf.constant(recorded["point_coords"]), sizes=tf.constant([list(size)] * 3)
        )
        total = tf.reduce_sum(found * recorded["bilinear_outgrad"].transpose(0, 2, 1))
    alone = point_sample(features, tf.constant(recorded["point_coords"]))
    np.testing.assert_array_equal(found, alone)
    gradient = tape.gradient(total, padded).numpy()
    expected = recorded["bilinear_ingrad"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(gradient[:, : size[0], : size[1]], expected, **TOLERANCE)
    assert not gradient[:, size[0] :].any()
    assert not gradient[:, :, size[1] :].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 1.5, -0.5])
def test_far_away_and_not_numbers(features, value, implementation):
    points = tf.constant([[[value, 0.5], [0.5, value], [value, value]]] * 3, tf.float32)
    for nearest in (False, True):
        assert not point_sample(features, points, nearest=nearest).numpy().any()


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_half_precision(recorded, features, dtype, implementation):
    """Sums are float32: the result is the float32 one of rounded features, rounded."""
    points, half = tf.constant(recorded["point_coords"]), tf.cast(features, dtype)
    found = point_sample(half, points)
    assert found.dtype == dtype
    expected = tf.cast(point_sample(tf.cast(half, tf.float32), points), dtype)
    np.testing.assert_array_equal(tf.cast(found, tf.float32), tf.cast(expected, tf.float32))


def test_bitmaps_and_labels(implementation):
    """Of bool the share of true, of integers the nearest."""
    bits = tf.constant([[[True, False], [False, False]]])[..., None]
    points = tf.constant([[[0.5, 0.5], [0.25, 0.25], [0.0, 0.25]]])
    np.testing.assert_array_equal(point_sample(bits, points)[0, :, 0], [0.25, 1.0, 0.5])
    labels = tf.constant([[[7, 8], [9, 255]]])[..., None]
    corners = tf.constant([[[0.3, 0.2], [0.9, 0.1], [0.8, 0.9]]])
    found = point_sample(labels, corners, nearest=True)
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found[0, :, 0], [7, 8, 255])
