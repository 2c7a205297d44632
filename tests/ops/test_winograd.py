"""Winograd's convolution in TensorFlow's operations, beside TensorFlow's own."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.inference.optimization import optimize
from tfdetect.inference.winograd import TransformedConv2d
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.valid_sizes import ValidSizes
from tfdetect.ops.backend import Backend
from tfdetect.ops.winograd import transform_weight, winograd_conv2d

# Results are up to 6; sums of 9 x 128 products of about 1 and 0.03 in float32 are up to 2.5e-6 from
# those in float64. (TensorFlow's convolutions are up to 1.5e-6 from them, oneDNN's 5.1e-6.)
ATOL = 5e-6
# Both are rounded.
ATOL_FLOAT32 = 1e-5
CHANNELS = 128


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def conv() -> Conv2d:
    layer = Conv2d(CHANNELS, CHANNELS, 3, padding=1)
    layer.weight.assign(0.03 * values(3, 3, CHANNELS, CHANNELS))
    layer.bias.assign(values(CHANNELS))
    return layer


# The last two are more tiles than are treated together: of one image, and of many.
@pytest.mark.parametrize(
    "shape",
    [(1, 8, 8), (2, 7, 10), (3, 1, 1), (1, 2, 5), (0, 4, 4), (2, 151, 130), (300, 7, 8)],
)
def test_as_tensorflows(shape):
    layer = conv()
    x = tf.constant(values(*shape, CHANNELS))
    exact, weight, bias = (tf.cast(value, tf.float64) for value in (x, layer.weight, layer.bias))
    expected = tf.nn.conv2d(exact, weight, 1, "SAME") + bias
    found = winograd_conv2d(x, transform_weight(layer.weight), tf.constant(layer.bias))
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


def test_layer():
    """`optimize` has it in the place of a wide convolution, with all that this does."""
    layer = conv()
    fast = optimize(layer, Backend())
    assert isinstance(fast, TransformedConv2d)
    assert not fast.trainable_variables
    x = tf.constant(values(2, 6, 9, CHANNELS))
    sizes = tf.constant([[6, 9], [3, 4]])
    cases = [
        ({}, x),
        ({"relu": True}, x),
        ({"residual": tf.constant(values(2, 6, 9, CHANNELS)), "relu": True}, x),
        ({"residual": tf.constant(values(2, 2, 3, CHANNELS)), "upsampled": True}, x[:, :4, :6]),
    ]
    for options, given in cases:
        found, expected = fast(given, **options), layer(given, **options)
        np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL_FLOAT32)
    found = fast(x, ValidSizes(sizes))[1, :3, :4]
    np.testing.assert_allclose(found, layer(x[1:, :3, :4])[0], rtol=0, atol=ATOL_FLOAT32)


def test_where_it_is_used():
    for narrow in (
        Conv2d(CHANNELS, 64, 3, padding=1),
        Conv2d(CHANNELS, CHANNELS, 3, padding=1, stride=2),
        Conv2d(CHANNELS, CHANNELS, 3, padding=2, dilation=2),
        Conv2d(CHANNELS, CHANNELS, 1),
        Conv2d(2 * CHANNELS, 2 * CHANNELS, 3, padding=1, groups=2),
    ):
        assert isinstance(optimize(narrow, Backend()), Conv2d)
    for backend in (Backend(dtype="bfloat16"), Backend("gpu"), Backend(fixed_shapes=True)):
        assert isinstance(optimize(conv(), backend), Conv2d)
    fast = optimize(conv(), Backend())

    # As one function of the graph, which its layers share.
    @tf.function(autograph=False)
    def twice(x: tf.Tensor) -> tf.Tensor:
        return fast(fast(x))

    graph = twice.get_concrete_function(tf.TensorSpec([None, None, None, CHANNELS])).graph
    calls = [op for op in graph.get_operations() if op.type == "PartitionedCall"]
    assert len(calls) == 2
    assert calls[0].get_attr("f").name == calls[1].get_attr("f").name


def test_same_bits_every_time():
    """Whatever is ready first: the order of sums is fixed."""
    x, transformed = tf.constant(values(1, 64, 64, CHANNELS)), transform_weight(conv().weight)
    first, *others = (winograd_conv2d(x, transformed, tf.zeros([CHANNELS])) for _ in range(10))
    for other in others:
        np.testing.assert_array_equal(other, first)
