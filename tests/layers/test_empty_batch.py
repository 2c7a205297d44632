"""Layers of a batch without elements: their own shapes, and gradients of zeros.

TensorFlow's oneDNN kernels get both wrong; `make test` runs this with and without them.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.layers.conv import Conv2d, ConvTranspose2d
from tfdetect.layers.deform_conv import DeformConv2d
from tfdetect.layers.linear import Linear
from tfdetect.layers.norm import BatchNorm, GroupNorm, LayerNorm, batch_statistics
from tfdetect.ops.empty_batch import with_nonempty_batch


def displaced(x):
    shape = tf.shape(x)[:3]
    conv = DeformConv2d(
        32, 64, stride=1, dilation=1, groups=1, deformable_groups=1, norm="FrozenBN"
    )
    offset, mask = (tf.zeros(tf.concat([shape, [channels]], 0)) for channels in (18, 9))
    offset, mask = (
        tf.ensure_shape(offset, [None] * 3 + [18]),
        tf.ensure_shape(mask, [None] * 3 + [9]),
    )
    return conv, lambda x: conv(x, offset, mask)


def with_residual(**options):
    conv = Conv2d(32, 64, 1, **options)
    return conv, lambda x: conv(x, residual=tf.concat([x, x], 3), relu=True)


def plain(layer, **options):
    return layer, lambda x: layer(x, **options)


# What makes a layer and a function of x [N, 6, 6, 32], and the shape of an element of its result.
LAYERS = {
    "3x3": (lambda x: plain(Conv2d(32, 64, 3, padding=1), relu=True), (6, 6, 64)),
    "without bias": (lambda x: plain(Conv2d(32, 64, 3, padding=1, bias=False)), (6, 6, 64)),
    "stride": (lambda x: plain(Conv2d(32, 64, 3, stride=2, padding=1), relu=True), (3, 3, 64)),
    "1x1": (lambda x: plain(Conv2d(32, 5, 1)), (6, 6, 5)),
    "FrozenBN": (lambda x: plain(Conv2d(32, 64, 1, norm="FrozenBN"), relu=True), (6, 6, 64)),
    "BN": (lambda x: plain(Conv2d(32, 64, 3, padding=1, norm="BN"), relu=True), (6, 6, 64)),
    "SyncBN": (lambda x: plain(Conv2d(32, 64, 1, norm="SyncBN"), relu=True), (6, 6, 64)),
    "GN": (lambda x: plain(Conv2d(32, 64, 3, padding=1, norm="GN"), relu=True), (6, 6, 64)),
    "residual": (lambda x: with_residual(), (6, 6, 64)),
    "residual and BN": (lambda x: with_residual(norm="BN", bias=False), (6, 6, 64)),
    "transposed 2": (lambda x: plain(ConvTranspose2d(32, 64, 2)), (12, 12, 64)),
    "transposed 4": (lambda x: plain(ConvTranspose2d(32, 17, 4)), (12, 12, 17)),
    "blocks": (
        lambda x: (layer := ConvTranspose2d(32, 64, 2), lambda x: layer.blocks(x, relu=True)),
        (6, 6, 256),
    ),
    "deformable": (displaced, (6, 6, 64)),
    "norms": (lambda x: plain(BatchNorm(32, "BN")), (6, 6, 32)),
    "group norm": (lambda x: plain(GroupNorm(32)), (6, 6, 32)),
    "layer norm": (lambda x: plain(LayerNorm(32, 1e-6)), (6, 6, 32)),
}


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "function"])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_shape_and_gradients(name, traced, dtype):
    make, expected = LAYERS[name]
    x = tf.zeros([0, 6, 6, 32], dtype)
    layer, function = make(x)

    # Between ReLUs, as in a head: their gradients compare the shapes.
    def losses(x):
        with tf.GradientTape() as tape, batch_statistics():
            tape.watch(x)
            y = tf.nn.relu(function(tf.nn.relu(x)))
            total = tf.reduce_sum(tf.cast(y, tf.float32))
        return y, total, tape.gradient(total, [x, *layer.trainable_variables])

    if traced:
        losses = tf.function(
            losses, input_signature=[tf.TensorSpec([None, 6, 6, 32], dtype)], autograph=False
        )
    y, total, (x_gradient, *gradients) = losses(x)
    assert y.shape == (0, *expected)
    assert y.dtype == dtype
    assert total == 0
    assert x_gradient.shape == x.shape
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        assert gradient.shape == variable.shape
        np.testing.assert_array_equal(gradient, np.zeros(variable.shape))


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "function"])
def test_linear(traced):
    layer = Linear(8, 4)

    def losses(x):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(tf.nn.relu(layer(x)))
        return total, tape.gradient(total, layer.trainable_variables)

    if traced:
        losses = tf.function(losses, input_signature=[tf.TensorSpec([None, 8])], autograph=False)
    total, gradients = losses(tf.zeros([0, 8]))
    assert total == 0
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_one_function_for_any_batch(count):
    """A batch with elements goes through the same traced function unchanged, gradient included."""
    layer = Conv2d(32, 48, 3, padding=1)
    layer.weight.assign(np.random.default_rng(0).normal(size=layer.weight.shape))
    x = tf.constant(np.random.default_rng(1).normal(size=[count, 5, 5, 32]), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 32])], autograph=False)
    def convolve(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, x)

    found, gradient = convolve(x)
    expected, expected_gradient = convolve.python_function(x)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-4)


def test_the_operation_sees_no_empty_batch():
    seen = []

    def operation(x):
        seen.append(x.shape[0])
        return x[..., :2]

    assert with_nonempty_batch(operation, tf.zeros([0, 2, 2, 3])).shape == (0, 2, 2, 2)
    assert with_nonempty_batch(operation, tf.zeros([2, 2, 2, 3])).shape == (2, 2, 2, 2)
    assert seen == [1, 2]
