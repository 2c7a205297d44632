"""layer_norm and gelu against their definitions in float64, on both implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.test_linear import exact_gelu
from tfdetect.ops.gelu import gelu
from tfdetect.ops.layer_norm import layer_norm

SHAPES = [[3, 8], [2, 5, 24], [2, 3, 4, 7], [7, 1], [4, 771]]


def operands(shape):
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, shape).astype(np.float32)
    weight, bias = rng.normal(size=[2, shape[-1]]).astype(np.float32)
    return x, weight, bias


def normalized(x, epsilon):
    x = np.asarray(x, np.float64)
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + epsilon)


def assert_close(found, expected, tolerance=2e-6):
    found, expected = np.asarray(found, np.float64), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0) <= tolerance * np.abs(expected).max(initial=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, implementation):
    x, weight, bias = operands(shape)
    kept = tf.constant(x)
    assert_close(layer_norm(kept, weight, bias, 1e-5), normalized(x, 1e-5) * weight + bias)
    np.testing.assert_array_equal(kept, x)


def test_a_mean_far_from_zero(implementation):
    """And channels that are all equal: the variance is epsilon's alone."""
    x, weight, bias = operands([6, 40])
    x[:3] += 1e4
    x[3] = 12345.678
    assert_close(layer_norm(x, weight, bias, 1e-6), normalized(x, 1e-6) * weight + bias)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_half_precision(dtype, implementation):
    x, weight, bias = operands([5, 29])
    half = tf.cast(x, dtype)
    wanted = layer_norm(tf.cast(half, tf.float32), weight, bias, 1e-6)
    found = layer_norm(half, weight, bias, 1e-6)
    assert found.dtype == dtype
    assert_close(tf.cast(found, tf.float32), wanted, 2**-8 if dtype == tf.bfloat16 else 2**-11)
    found = gelu(half)
    assert found.dtype == dtype
    expected = tf.cast(gelu(tf.cast(half, tf.float32)), dtype)
    assert_close(tf.cast(found, tf.float32), tf.cast(expected, tf.float32), 1e-6)


def test_nothing_and_unknown_shapes(implementation):
    specs = [tf.TensorSpec([None, None, 12]), tf.TensorSpec([12]), tf.TensorSpec([12])]

    @tf.function(input_signature=specs, autograph=False)
    def call(x, weight, bias):
        return gelu(layer_norm(x, weight, bias, 1e-5))

    x, weight, bias = operands([3, 4, 12])
    assert_close(call(x, weight, bias), exact_gelu(normalized(x, 1e-5) * weight + bias))
    assert call(x[:0], weight, bias).shape == (0, 4, 12)


def test_not_numbers(implementation):
    """Stay where they are: in their location."""
    x, weight, bias = operands([4, 20])
    x[1, 3], x[2, 19] = np.nan, np.inf
    found = np.isnan(layer_norm(x, weight, bias, 1e-5))
    np.testing.assert_array_equal(found.all(1), [False, True, True, False])
    np.testing.assert_array_equal(found.any(1), [False, True, True, False])


def test_gradients(implementation):
    x, weight, bias = map(tf.constant, operands([5, 3, 21]))
    upstream = np.random.default_rng(1).normal(size=x.shape)

    def total(x, weight, bias):
        return tf.reduce_sum((normal(x) * weight + bias) * upstream)

    def normal(x):
        x -= tf.reduce_mean(x, -1, keepdims=True)
        return x / tf.sqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + 1e-5)

    wide = [tf.cast(tensor, tf.float64) for tensor in (x, weight, bias)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, weight, bias, *wide])
        found = tf.reduce_sum(layer_norm(x, weight, bias, 1e-5) * tf.cast(upstream, tf.float32))
        expected = total(*wide)
    for narrow, exact in zip((x, weight, bias), wide, strict=True):
        assert_close(tape.gradient(found, narrow), tape.gradient(expected, exact), 1e-5)


def test_gelu(implementation):
    """Within 1e-6 or float32's rounding; far away 0 or x exactly, and NaN stays."""
    x = np.concatenate([np.linspace(-9, 9, 8001), [1e30, -1e30, 1e-30, np.nan, np.inf, 0.0]])
    x = x.astype(np.float32)
    with tf.GradientTape() as tape:
        given = tf.constant(x)
        tape.watch(given)
        found = gelu(given)
    expected = np.where(np.isposinf(x), np.inf, exact_gelu(x))
    np.testing.assert_allclose(found, expected, rtol=4e-7, atol=1e-6)
    assert found[-5] == 0
    wide = x[:-3].astype(np.float64)
    with np.errstate(under="ignore", over="ignore"):
        density = np.exp(-0.5 * wide**2) / math.sqrt(2 * math.pi)
    phi = 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
    np.testing.assert_allclose(tape.gradient(found, given)[:-3], phi + wide * density, atol=1e-6)
