"""Convolutions with packed weights against the definition in float64."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import require_native

from tfdetect.layers.conv import Conv2d
from tfdetect.layers.extents import WHOLE, Extents
from tfdetect.layers.fold import fold_norms
from tfdetect.layers.pack import pack_convolutions
from tfdetect.ops import kernels
from tfdetect.ops.packed_conv import can_pack, pack_weight, pointwise_conv, winograd_conv


@pytest.fixture(autouse=True)
def native():
    require_native()


def arrays(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def convolve(x, weight, stride=1):
    """In float64, by the definition."""
    size = weight.shape[0]
    pad = size // 2
    x = np.pad(x.astype(np.float64), [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    return sum(
        x[:, i : i + height : stride, j : j + width : stride] @ weight[i, j].astype(np.float64)
        for i in range(size)
        for j in range(size)
    )


def assert_close(found, expected):
    # Sums of up to 9 * 520 products in float32; the largest that was seen is 6e-7.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 7), (1, 33, 18), (3, 14, 14), (1, 2, 61)])
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 16), (64, 48), (520, 96)])
def test_winograd(shape, inputs, outputs):
    x, weight, bias = arrays(0, (*shape, inputs), (3, 3, inputs, outputs), (outputs,))
    expected = convolve(x, weight) + bias
    packed = pack_weight(weight)
    assert_close(winograd_conv(x, packed, bias, relu=False), expected)
    assert_close(winograd_conv(x, packed, bias, relu=True), np.maximum(expected, 0))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 7), (1, 33, 18), (1, 2, 61)])
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 16), (64, 48), (520, 96)])
@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise(shape, inputs, outputs, stride):
    x, weight, bias = arrays(1, (*shape, inputs), (1, 1, inputs, outputs), (outputs,))
    expected = convolve(x, weight, stride) + bias
    (addend,) = arrays(2, expected.shape)
    packed = pack_weight(weight)

    def found(relu, addend=None):
        return pointwise_conv(x, packed, bias, stride=stride, relu=relu, addend=addend)

    assert_close(found(False), expected)
    assert_close(found(True), np.maximum(expected, 0))
    assert_close(found(False, addend), expected + addend)
    assert_close(found(True, addend), np.maximum(expected + addend, 0))


def test_beyond_the_sizes_nothing_is_read():
    """To the bit what each image gets alone; what lies beyond may even be NaN."""
    x, weight, bias = arrays(3, (2, 9, 11, 16), (3, 3, 16, 32), (32,))
    sizes = [(6, 11), (9, 5)]
    packed = pack_weight(weight)
    for image, (height, width) in zip(x, sizes, strict=True):
        image[height:] = np.nan
        image[:, width:] = np.nan
    together = winograd_conv(x, packed, bias, relu=True, sizes=tf.constant(sizes))
    for index, (height, width) in enumerate(sizes):
        alone = winograd_conv(x[index : index + 1, :height, :width], packed, bias, relu=True)
        np.testing.assert_array_equal(together[index, :height, :width], alone[0])


def test_what_is_not_a_number_stays_so():
    x, weight3, weight1, bias = arrays(4, (1, 4, 4, 8), (3, 3, 8, 16), (1, 1, 8, 16), (16,))
    x[0, 0, 0] = np.nan
    assert np.isnan(winograd_conv(x, pack_weight(weight3), bias, relu=True)[0, 0, 0]).all()
    found = pointwise_conv(x, pack_weight(weight1), bias, stride=1, relu=True)
    assert np.isnan(found[0, 0, 0]).all()
    assert np.isfinite(found[0, 1:]).all()


def test_no_image_and_no_cell():
    weight3, weight1, bias = arrays(5, (3, 3, 8, 16), (1, 1, 8, 16), (16,))
    for shape in ([0, 4, 4, 8], [1, 0, 4, 8]):
        x = tf.zeros(shape)
        expected = [*shape[:3], 16]
        assert winograd_conv(x, pack_weight(weight3), bias, relu=True).shape == expected
        assert pointwise_conv(x, pack_weight(weight1), bias, stride=1, relu=True).shape == expected


def test_operands_that_do_not_fit_are_refused():
    weight3, weight1, bias = arrays(6, (3, 3, 8, 16), (1, 1, 8, 16), (16,))
    x = tf.zeros([1, 4, 4, 8])
    pack = pack_weight
    calls = [
        lambda: pack(tf.zeros([2, 2, 8, 16])),
        lambda: winograd_conv(x, pack(weight1), bias, relu=False),
        lambda: winograd_conv(x[..., :4], pack(weight3), bias, relu=False),
        lambda: winograd_conv(x, pack(weight3), bias, relu=False, sizes=tf.zeros([2, 2], tf.int32)),
        lambda: pointwise_conv(x, pack(weight3), bias, stride=1, relu=False),
        lambda: pointwise_conv(x, pack(weight1), bias[None], stride=1, relu=False),
        lambda: pointwise_conv(x, pack(weight1), bias, stride=1, relu=False, addend=x),
    ]
    for call in calls:
        with pytest.raises(tf.errors.InvalidArgumentError):
            call()


def test_which_are_packed():
    shapes = {
        (1, 1, 8, 16): [1, 2],
        (3, 3, 64, 64): [1],
        (7, 7, 8, 64): [],
        (3, 3, 3, 64): [],
        (1, 1, 256, 12): [],
    }
    for shape, strides in shapes.items():
        assert [stride for stride in (1, 2) if can_pack(tf.TensorShape(shape), stride)] == strides


LAYERS = {
    "folded": {"norm": "FrozenBN", "bias": False},
    "bias": {},
    "group_norm": {"norm": "GN", "bias": False},
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_layer(name, kernel_size):
    """A packed layer in a graph of open sizes is the layer that it was."""
    layer = Conv2d(16, 32, kernel_size, padding=kernel_size // 2, **LAYERS[name])
    rng = np.random.default_rng(7)
    for variable in layer.variables:
        variable.assign(rng.uniform(0.1, 1, variable.shape))
    x, addend = arrays(8, (2, 9, 11, 16), (2, 9, 11, 32))
    extents = [WHOLE, Extents(tf.constant([[9, 7], [5, 11]]))]
    cases = [(e, a, r) for e in extents for a in (None, addend) for r in (False, True)]
    expected = [layer(x, e, addend=a, relu=r) for e, a, r in cases]
    fold_norms(layer)
    with kernels.implementation("native"):
        pack_convolutions(layer)
    assert not hasattr(layer, "weight")
    signature = [tf.TensorSpec([None, None, None, 16])]
    for (case_extents, case_addend, relu), values in zip(cases, expected, strict=True):

        @tf.function(input_signature=signature, autograph=False)
        def run(x, e=case_extents, a=case_addend, r=relu):
            return layer(x, e, addend=a, relu=r)

        own = np.ones([2, 9, 11, 1], bool) if case_extents is WHOLE else case_extents._mask(x)
        found, values = np.where(own, run(x), 0), np.where(own, values, 0)
        np.testing.assert_allclose(found, values, rtol=0, atol=2e-6 * np.abs(values).max())


def test_portable_and_other_layers_stay_as_they_are():
    layers = {
        "dilated": Conv2d(16, 32, 3, padding=2, dilation=2),
        "strided": Conv2d(16, 32, 3, padding=1, stride=2),
        "groups": Conv2d(16, 32, 3, padding=1, groups=2),
        "unpadded": Conv2d(16, 32, 3),
        "narrow": Conv2d(16, 12, 1),
    }
    for name, layer in layers.items():
        with kernels.implementation("native"):
            pack_convolutions(layer)
        assert hasattr(layer, "weight"), name
    layer = Conv2d(16, 32, 1)
    with kernels.implementation("portable"):
        pack_convolutions(layer)
    assert hasattr(layer, "weight")
