"""LayerNorm and GELU against Detectron2's and PyTorch's; 1e-5 of the scale."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import DATA
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.norm import LayerNorm, make_norm
from tfdetect.ops.gelu import gelu


@pytest.fixture(scope="module")
def record():
    with np.load(DATA / "vitdet" / "norms_gelu.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def nhwc(x):
    return np.ascontiguousarray(np.transpose(x, [0, 2, 3, 1]))


def layer_norm(record, eps):
    layer = LayerNorm(record["weight"].size, eps)
    layer.weight.assign(record["weight"])
    layer.bias.assign(record["bias"])
    return layer


def check(result, expected, rounding=0.0):
    """`rounding`: what the record itself is wrong by, absolute."""
    error = np.abs(np.asarray(result, np.float64) - expected)
    assert (error <= 1e-5 * np.abs(expected).max() + rounding).all(), error.max()


def mean_rounding(x):
    """What a float32 mean over the channels may be wrong by, in standard deviations: two ulps.

    Detectron2's and PyTorch's results of the mean of 1000 are 1.1e-4 from each other for that
    reason, and 1.0e-4 from the exact ones. Everywhere else in the record it is below 1e-6.
    """
    deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return 2 * np.spacing(np.abs(x.mean(-1, keepdims=True))) / deviation


def exact(x, eps):
    """x normalised in float64."""
    x = x.astype(np.float64)
    x -= x.mean(-1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + eps)


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_last_axis(record, eps):
    """Among the locations are a constant one, one of variance 1e-6, large ones, a mean of 1000."""
    x = nhwc(record["x"])
    y = layer_norm(record, eps)(x)
    check(y, record[f"last_axis_eps{eps:.0e}"], mean_rounding(x))
    check(y, exact(x, eps) * record["weight"] + record["bias"])


def test_norm_of_heads_with_gradients(record):
    norm = make_norm("LN", record["weight"].size)
    norm.weight.assign(record["weight"])
    norm.bias.assign(record["bias"])
    x = tf.constant(nhwc(record["x"]))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = norm(x)
    check(y, nhwc(record["nchw_eps1e6"]), mean_rounding(x.numpy()))
    dx, dweight, dbias = tape.gradient(
        y, [x, norm.weight, norm.bias], output_gradients=tf.constant(nhwc(record["dy"]))
    )
    check(dx, nhwc(record["dx"]))
    dy = nhwc(record["dy"])
    rounding = np.sum(np.abs(dy) * mean_rounding(x.numpy()), (0, 1, 2))
    check(dweight, record["dweight"], rounding)
    check(dweight, np.sum(dy * exact(x.numpy(), 1e-6), (0, 1, 2)))
    check(dbias, record["dbias"])


@pytest.mark.parametrize("channels", [24, 96, 768])
def test_constant_locations_are_zero(channels):
    """Whatever the value, though a sum of so many of it is rounded."""
    values = np.float32([0.1, 1 / 3, 1234.567, -3e4 / 7])
    x = np.repeat(values[:, None], channels, axis=1)
    np.testing.assert_array_equal(LayerNorm(channels, 1e-6)(x), np.zeros_like(x))


def test_huge_mean():
    """Against float64: what a mean of 1e5 leaves of float32's digits is kept."""
    x = (1e5 + np.random.default_rng(0).normal(size=[50, 768])).astype(np.float32)
    check(LayerNorm(768, 1e-6)(x), exact(x, 1e-6))


def test_bfloat16(record):
    """Statistics are of float32: the result is the float32 one of the same values, rounded."""
    layer = layer_norm(record, 1e-6)
    x = tf.cast(nhwc(record["x"]), tf.bfloat16)
    y = layer(x)
    assert y.dtype == tf.bfloat16
    np.testing.assert_array_equal(y, tf.cast(layer(tf.cast(x, tf.float32)), tf.bfloat16))


def test_after_a_convolution(record):
    """The norm comes before ReLU; a batch of none has its shape."""
    conv = Conv2d(16, 24, 3, padding=1, bias=False, norm="LN")
    conv.weight.assign(np.random.default_rng(0).normal(size=conv.weight.shape))
    x = tf.constant(nhwc(record["x"]))
    plain = tf.nn.conv2d(x, conv.weight, 1, "SAME")
    np.testing.assert_allclose(conv(x, relu=True), tf.nn.relu(conv.norm(plain)), atol=1e-5)
    assert conv(x[:0], relu=True).shape == (0, 5, 7, 24)


def test_gelu(record):
    """PyTorch's values and gradients, and the float64 value."""
    assert np.isposinf(gelu(tf.constant(np.inf)))  # PyTorch's vectorised erf makes it NaN
    finite = np.isfinite(record["gelu_x"])
    x = tf.constant(record["gelu_x"][finite])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = gelu(x)
    dx = tape.gradient(y, x)
    small = np.abs(x) < 20  # 1e-5 of the scale of ordinary values, too
    for part in (slice(None), small):
        check(y[part], record["gelu"][finite][part])
        check(y[part], record["gelu_float64"][finite][part])
        check(dx[part], record["gelu_dx"][finite][part])


def test_gelu_bfloat16():
    x = tf.cast(tf.linspace(-6.0, 6.0, 500), tf.bfloat16)
    np.testing.assert_array_equal(gelu(x), tf.cast(gelu(tf.cast(x, tf.float32)), tf.bfloat16))
