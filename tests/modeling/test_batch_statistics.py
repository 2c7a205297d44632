"""Normalisation layers in training."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.layers.conv import Conv2d
from tfdetect.layers.norm import (
    BatchNorm,
    GroupNorm,
    LevelBatchNorm,
    batch_norms_that_train,
    batch_statistics,
    collected_moments,
    frozen,
    make_norm,
)

SHAPE = (2, 5, 7, 4)
X = np.random.default_rng(0).normal(3.0, 2.0, SHAPE).astype(np.float32)


def layer(kind="BN"):
    norm = BatchNorm(4, kind)
    norm.weight.assign([1.0, 2.0, 3.0, 4.0])
    norm.bias.assign([0.0, 1.0, 0.0, 1.0])
    norm.running_mean.assign([1.0] * 4)
    norm.running_var.assign([2.0] * 4)
    return norm


def normalized(x, norm):
    """PyTorch's definition, in float64."""
    x = x.astype(np.float64)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / np.sqrt(variance + 1e-5) * norm.weight.numpy() + norm.bias.numpy()


@pytest.mark.parametrize("kind", ["BN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N"])
def test_by_the_batch_and_what_is_stored(kind):
    norm = layer(kind)
    with batch_statistics():
        y = norm(tf.constant(X))
    # float32 sums of 70 numbers.
    np.testing.assert_allclose(y, normalized(X, norm), atol=2e-5)
    columns = X.reshape(-1, 4).astype(np.float64)
    np.testing.assert_allclose(norm.running_mean, 0.9 + 0.1 * columns.mean(0), rtol=1e-5)
    # Without other replicas all are torch.nn.BatchNorm2d, which stores the unbiased variance.
    np.testing.assert_allclose(norm.running_var, 1.8 + 0.1 * columns.var(0, ddof=1), rtol=1e-5)


def test_gradients_are_the_slopes():
    norm = layer()
    weights = np.random.default_rng(1).normal(size=SHAPE)
    x = tf.Variable(X)

    def loss(values):
        return (normalized(values, norm) * weights).sum()

    with tf.GradientTape() as tape, batch_statistics():
        total = tf.reduce_sum(norm(x) * weights.astype(np.float32))
    slope = tape.gradient(total, x).numpy()
    for index in [(0, 0, 0, 0), (1, 4, 6, 3), (0, 2, 3, 1)]:
        step = np.zeros(SHAPE)
        step[index] = 1e-4
        expected = (loss(X + step) - loss(X - step)) / 2e-4
        # The slopes are of the order of 1.
        np.testing.assert_allclose(slope[index], expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 160, 240, 4), (20000, 3, 1, 4), (1, 1, 60000, 4)])
def test_sums_of_large_maps_are_exact(shape):
    """To float32: TensorFlow's own kernel is off by 1e-4 here, and so is a sum of float32."""
    random = np.random.default_rng(3)
    x = random.normal(3.0, 2.0, shape).astype(np.float32)
    upstream = random.normal(0.1, 1.0, shape).astype(np.float32)
    norm = layer()
    with tf.GradientTape() as tape, batch_statistics():
        tape.watch(source := tf.constant(x))
        y = norm(source)
    variables = [source, norm.weight, norm.bias]
    dx, dweight, dbias = tape.gradient(y, variables, output_gradients=tf.constant(upstream))
    columns = x.reshape(-1, 4).astype(np.float64)
    mean, deviation = columns.mean(0), np.sqrt(columns.var(0) + 1e-5)
    np.testing.assert_allclose(norm.running_mean, 0.9 + 0.1 * mean, rtol=2e-7)
    np.testing.assert_allclose(norm.running_var, 1.8 + 0.1 * columns.var(0, ddof=1), rtol=2e-7)
    g = upstream.astype(np.float64)
    units = (x - mean) / deviation
    np.testing.assert_allclose(y, units * norm.weight + norm.bias, atol=5e-6)
    np.testing.assert_allclose(dbias, g.sum((0, 1, 2)), rtol=1e-6)
    # Terms of either sign, whose absolute values sum to a thousand times as much.
    terms = np.abs(g * units).sum((0, 1, 2))
    assert (np.abs(dweight - (g * units).sum((0, 1, 2))) < 1e-8 * terms).all()
    expected = g - g.mean((0, 1, 2)) - units * (g * units).mean((0, 1, 2))
    np.testing.assert_allclose(dx, expected / deviation * norm.weight, atol=5e-6)


def test_outside_training_nothing_changes():
    norm = layer()
    x = tf.constant(X)
    before = norm(x)
    np.testing.assert_allclose(
        before, (X - 1) / np.sqrt(2 + 1e-5) * norm.weight + norm.bias, atol=1e-5
    )
    with batch_statistics():
        assert not norm.uses_stored_statistics
    assert norm.uses_stored_statistics
    np.testing.assert_array_equal(norm(x), before)
    np.testing.assert_array_equal(norm.running_mean, [1.0] * 4)


def test_frozen_and_group_norm_take_no_part():
    norm = layer("FrozenBN")
    expected = norm(tf.constant(X))
    with batch_statistics():
        np.testing.assert_array_equal(norm(tf.constant(X)), expected)
    assert not norm.trainable_variables
    assert len(layer("BN").trainable_variables) == 2
    group = GroupNorm(4, groups=2)
    expected = group(tf.constant(X))
    with batch_statistics():
        np.testing.assert_array_equal(group(tf.constant(X)), expected)


def test_a_batch_without_elements_leaves_the_statistics():
    norm = layer()
    with batch_statistics():
        assert norm(tf.zeros([0, 5, 7, 4])).shape == (0, 5, 7, 4)
    np.testing.assert_array_equal(norm.running_mean, [1.0] * 4)
    np.testing.assert_array_equal(norm.running_var, [2.0] * 4)


def test_convolution_with_its_norm():
    conv = Conv2d(4, 4, 3, padding=1, bias=False, norm="BN")
    conv.weight.assign(np.random.default_rng(2).normal(size=[3, 3, 4, 4]))
    plain = Conv2d(4, 4, 3, padding=1, bias=False)
    plain.weight.assign(conv.weight)
    with batch_statistics():
        y = conv(tf.constant(X))
    np.testing.assert_allclose(y, normalized(plain(X).numpy(), conv.norm), atol=1e-4)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_statistics_are_float32_in_mixed_precision(dtype):
    norm = layer()
    with batch_statistics():
        y = norm(tf.cast(X, dtype))
    assert y.dtype == dtype
    # What the input loses when rounded to bfloat16: 2 ** -9 of values up to 10, times 4.
    np.testing.assert_allclose(tf.cast(y, tf.float32), normalized(X, norm), atol=0.1)
    np.testing.assert_allclose(norm.running_mean, 0.9 + 0.1 * X.mean((0, 1, 2)), rtol=2e-3)


def test_norm_of_a_frozen_stage():
    assert frozen("SyncBN") == frozen("BN") == "FrozenBN"
    assert (frozen("GN"), frozen("")) == ("GN", "")
    assert make_norm("SyncBN", 8).trainable_variables
    assert not make_norm("FrozenBN", 8).trainable_variables


@pytest.mark.parametrize("kind", ["BN", "SyncBN"])
def test_each_level_by_its_own_batch(kind):
    """Statistics of the level alone, scaled and shifted by what all levels share."""
    norm = LevelBatchNorm(4, kind, 2)
    norm.weight.assign([1.0, 2.0, 3.0, 4.0])
    norm.bias.assign([0.0, 1.0, 0.0, 1.0])
    other = 2 * X[:, :3] - 5
    with batch_statistics():
        found = [norm(tf.constant(x), level) for level, x in enumerate((X, other))]
    for x, y, statistics in zip((X, other), found, batch_norms_that_train(norm), strict=True):
        np.testing.assert_allclose(y, normalized(x, norm), atol=5e-5)
        columns = x.reshape(-1, 4).astype(np.float64)
        np.testing.assert_allclose(statistics.running_mean, 0.1 * columns.mean(0), rtol=1e-5)
        variance = 0.9 + 0.1 * columns.var(0, ddof=1)
        np.testing.assert_allclose(statistics.running_var, variance, rtol=1e-5)
    with batch_statistics(), collected_moments() as moments:
        norm(tf.constant(other), 1)
    ((statistics, (found,)),) = moments.items()
    assert statistics is batch_norms_that_train(norm)[1]
    np.testing.assert_allclose(found[1], other.sum((0, 1, 2), dtype=np.float64), rtol=1e-5)
