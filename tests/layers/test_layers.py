"""Convolutions, pooling, norms and image padding against PyTorch's; 1e-5 of the scale."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.layers.conv import Conv2d, ConvTranspose2d, max_pool, upsample_2x
from tfdetect.layers.norm import BatchNorm, GroupNorm


def nhwc(x):
    return np.ascontiguousarray(np.transpose(x, [0, 2, 3, 1]))


def check(result, expected):
    expected = nhwc(expected)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "kernel", "options"),
    [
        ("stem", 7, {"stride": 2, "padding": 3}),
        ("same3", 3, {"padding": 1}),
        ("stride3", 3, {"stride": 2, "padding": 1}),
        ("stride1", 1, {"stride": 2}),
        ("dil2", 3, {"padding": 2, "dilation": 2}),
        ("group", 3, {"stride": 2, "padding": 1, "groups": 4}),
    ],
)
def test_convolutions(oracle, name, kernel, options):
    data = oracle("layers")
    weight = data[f"{name}_w"]
    conv = Conv2d(8, weight.shape[0], kernel, bias=False, **options)
    conv.weight.assign(np.transpose(weight, [2, 3, 1, 0]))
    check(conv(nhwc(data["x"])), data[name])


@pytest.mark.parametrize(("name", "kernel"), [("deconv2", 2), ("deconv4", 4)])
def test_transposed_convolutions(oracle, name, kernel):
    data = oracle("layers")
    conv = ConvTranspose2d(8, 5, kernel)
    conv.weight.assign(np.transpose(data[f"{name}_w"], [2, 3, 1, 0]))
    check(conv(nhwc(data["x"])), data[name])


def test_pooling(oracle):
    data = oracle("layers")
    x = nhwc(data["x"])
    check(max_pool(x, 3, 2, 1), data["maxpool_3_2_1"])
    check(x[:, ::2, ::2], data["p6_maxpool_1_2_0"])


def test_norms(oracle):
    data = oracle("layers")
    x = nhwc(data["x"])
    norm = BatchNorm(8)
    norm.running_mean.assign(data["bn_mean"])
    norm.running_var.assign(data["bn_var"])
    group = GroupNorm(8, groups=4)
    for layer in (norm, group):
        layer.weight.assign(data["bn_w"])
        layer.bias.assign(data["bn_b"])
    check(norm(x), data["bn"])
    check(group(tf.constant(x)), data["gn4"])


def test_norm_is_folded_into_the_convolution(oracle):
    """A convolution with BatchNorm is the convolution, then the norm, to float32 rounding."""
    data = oracle("layers")
    conv = Conv2d(8, 8, 3, padding=1, bias=False, norm="FrozenBN")
    conv.weight.assign(np.random.default_rng(0).normal(size=[3, 3, 8, 8]))
    plain = Conv2d(8, 8, 3, padding=1, bias=False)
    plain.weight.assign(conv.weight)
    conv.norm.weight.assign(data["bn_w"])
    conv.norm.bias.assign(data["bn_b"])
    conv.norm.running_mean.assign(data["bn_mean"])
    conv.norm.running_var.assign(data["bn_var"])
    expected = conv.norm(plain(nhwc(data["x"])))
    np.testing.assert_allclose(conv(nhwc(data["x"])), expected, atol=1e-5 * np.abs(expected).max())


def test_interpolation(oracle):
    """The doubling of the FPN (nearest) and of the keypoint head (bilinear)."""
    data = oracle("interpolate")
    x = tf.constant(nhwc(data["x"]))
    check(upsample_2x(x), data["nearest2x"])
    check(tf.image.resize(x, [22, 26]), data["bilinear2x"])


def test_grouped_convolution_in_a_graph():
    """With norm and ReLU behind it, which TensorFlow would fuse into a kernel without groups."""
    conv = Conv2d(8, 8, 3, padding=1, groups=4, bias=False, norm="FrozenBN")
    conv.weight.assign(np.random.default_rng(0).normal(size=[3, 3, 2, 8]))
    conv.norm.bias.assign(np.linspace(-1, 1, 8))
    x = tf.constant(np.random.default_rng(1).normal(size=[2, 9, 11, 8]), tf.float32)
    result = tf.function(lambda x: tf.nn.relu(conv(x)), autograph=False)(x)
    np.testing.assert_allclose(result, tf.nn.relu(conv(x)), atol=1e-5)
