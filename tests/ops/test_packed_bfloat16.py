"""bfloat16 convolutions of the native kernels against the definition in float64.

Sums are float32 and the result is rounded once to bfloat16's eight bits: it is within 2^-8 of the
definition, of values that the sum has as well as of the result. Winograd's products are of features
and weights that are transformed first, rounded where the processor multiplies bfloat16: 2^-6 of the
largest value.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests.ops.test_packed_conv import arrays, convolve
from tests.support.native import require_native
from tfdetect.inference.optimization import optimize
from tfdetect.inference.packed import PackedConv2d, WinogradConv2d
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.valid_sizes import ValidSizes
from tfdetect.ops.backend import Backend
from tfdetect.ops.packed_conv import pack_weight, packed_conv, winograd_conv

CPU = Backend("cpu", "native", "bfloat16", instruction_set="avx2")


@pytest.fixture(autouse=True)
def native():
    require_native()


def bfloat16(array):
    return tf.cast(array, tf.bfloat16)


def rounded(*values):
    """Arrays as bfloat16 tensors, and as what those hold."""
    tensors = [bfloat16(array) for array in values]
    return tensors, [tf.cast(tensor, tf.float32).numpy() for tensor in tensors]


def assert_rounded(found, expected, share=0.0):
    """Rounded once; with `share`, to that share of the largest value beside it."""
    assert found.dtype == tf.bfloat16
    difference = np.abs(tf.cast(found, tf.float64) - expected)
    assert (
        difference <= 2.0**-8 * np.abs(expected) + (share or 1e-5) * np.abs(expected).max()
    ).all()


@pytest.mark.parametrize("shape", [(1, 7, 7), (2, 8, 36)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel_size", "padding", "groups"),
    [
        (64, 48, 1, 0, 1),
        (520, 96, 1, 0, 1),
        (3, 16, 7, 3, 1),
        (5, 32, 5, 0, 1),
        (24, 32, 3, 1, 1),
        (64, 64, 3, 1, 32),
        (96, 96, 3, 1, 4),
    ],
)
def test_packed(shape, stride, inputs, outputs, kernel_size, padding, groups):
    weight_shape = (kernel_size, kernel_size, inputs // groups, outputs)
    (x, weight), (x_values, weights) = rounded(*arrays(1, (*shape, inputs), weight_shape))
    (bias,) = arrays(2, (outputs,))
    expected = convolve(x_values, weights, stride, padding, groups) + bias
    (residual,), (residuals,) = rounded(*arrays(3, expected.shape))

    def found(**options):
        options = {"kernel_size": kernel_size, "stride": stride, "padding": padding} | options
        return packed_conv(x, pack_weight(weight), bias, groups=groups, **options)

    assert_rounded(found(relu=False), expected)
    assert_rounded(found(relu=True, residual=residual), np.maximum(expected + residuals, 0))
    assert_rounded(found(relu=False, gelu=True), tf.nn.gelu(expected).numpy())
    if not any(side % 2 for side in expected.shape[1:3]):
        upsampled = residuals[:, ::2, ::2].repeat(2, 1).repeat(2, 2)
        assert_rounded(found(relu=False, residual=residual[:, ::2, ::2]), expected + upsampled)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 7), (3, 14, 14)])
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 16), (520, 96)])
def test_winograd(shape, inputs, outputs):
    arrays_of = arrays(0, (*shape, inputs), (3, 3, inputs, outputs))
    (x, weight), (x_values, weights) = rounded(*arrays_of)
    (bias,) = arrays(2, (outputs,))
    expected = np.maximum(convolve(x_values, weights) + bias, 0)
    assert_rounded(winograd_conv(x, weight, bias, relu=True), expected, 2.0**-6)


def test_beyond_the_sizes_nothing_is_read():
    x, weight, bias = arrays(3, (2, 9, 11, 16), (3, 3, 16, 32), (32,))
    sizes = [(6, 11), (9, 5)]
    for image, (height, width) in zip(x, sizes, strict=True):
        image[height:] = np.nan
        image[:, width:] = np.nan
    x, weight = bfloat16(x), bfloat16(weight)
    together = winograd_conv(x, weight, bias, relu=True, sizes=tf.constant(sizes))
    for index, (height, width) in enumerate(sizes):
        alone = winograd_conv(x[index : index + 1, :height, :width], weight, bias, relu=True)
        np.testing.assert_array_equal(together[index, :height, :width], alone[0])


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_weight_that_changes(kernel_size):
    """The kernel packs a weight once; it notices another one, in a variable or eagerly."""
    x, first, second = arrays(5, (1, 4, 4, 8), *[(kernel_size, kernel_size, 8, 16)] * 2)
    x, bias = bfloat16(x), tf.zeros([16])
    weight = tf.Variable(bfloat16(first))

    def convolve(weight):
        if kernel_size == 3:
            return winograd_conv(x, weight, bias, relu=False)
        return packed_conv(x, weight, bias, kernel_size=1, stride=1, padding=0, relu=False)

    traced = tf.function(lambda: convolve(weight.read_value()), autograph=False)
    expected = {}
    for value in (first, second, first):
        weight.assign(bfloat16(value))
        found = traced()
        np.testing.assert_array_equal(found, convolve(bfloat16(value)))
        expected.setdefault(id(value), found)
        np.testing.assert_array_equal(found, expected[id(value)])
    weight.assign_add(bfloat16(second))  # in place, where nothing else refers to it
    np.testing.assert_array_equal(traced(), convolve(weight.read_value()))
    assert not np.array_equal(traced(), expected[id(first)])


def test_what_does_not_fit_is_refused():
    x, weight, bias = (
        bfloat16(np.zeros((1, 4, 4, 8))),
        bfloat16(np.zeros((3, 3, 8, 16))),
        [0.0] * 16,
    )
    options = {"stride": 1, "padding": 1, "relu": False}
    for wrong in (weight[:, :, :4], weight[..., :8], weight[:2], weight[0]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="weight"):
            packed_conv(x, wrong, bias, kernel_size=3, **options)
        with pytest.raises(tf.errors.InvalidArgumentError, match="weight"):
            winograd_conv(x, wrong, bias, relu=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="residual"):
        packed_conv(x, weight, bias, kernel_size=3, residual=x, **options)
    with pytest.raises(tf.errors.InvalidArgumentError, match="sizes"):
        winograd_conv(x, weight, bias, relu=False, sizes=tf.zeros([2, 2], tf.int32))
    empty = packed_conv(x[:0], weight, bias, kernel_size=3, **options)
    assert empty.shape == (0, 4, 4, 16)


def test_layers():
    """What `optimize` makes is the layer in bfloat16, rounded less often."""
    layers = [
        Conv2d(16, 32, 3, padding=1),
        Conv2d(16, 32, 3, padding=1, stride=2, norm="FrozenBN", bias=False),
        Conv2d(16, 32, 1, norm="GN"),
    ]
    (x,) = arrays(7, (2, 8, 12, 16))
    sizes = ValidSizes(tf.constant([[8, 12], [5, 7]]))
    for layer, kind in zip(layers, (WinogradConv2d, PackedConv2d, PackedConv2d), strict=True):
        (weight,) = arrays(8, layer.weight.shape)
        layer.weight.assign(weight / 12)
        packed = optimize(layer, CPU)
        assert type(packed) is kind
        assert packed.packed.dtype == tf.bfloat16
        found, expected = packed(bfloat16(x), sizes, relu=True), layer(x, sizes, relu=True)
        assert found.dtype == tf.bfloat16
        np.testing.assert_allclose(tf.cast(found, tf.float32), expected, atol=0.04)
