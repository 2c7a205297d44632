"""Convolutions with packed weights against the definition in float64."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import require_native
from tfdetect.inference.optimization import optimize
from tfdetect.inference.packed import PackedConv2d, PackedConvTranspose2d, WinogradConv2d
from tfdetect.layers.conv import Conv2d, ConvTranspose2d
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes, padding_mask
from tfdetect.ops import kernels
from tfdetect.ops.backend import Backend
from tfdetect.ops.packed_conv import (
    can_use_winograd,
    pack_weight,
    packed_conv,
    packing_pays,
    trainable_winograd_conv,
    winograd_conv,
)

CPU = Backend("cpu", "native", instruction_set="avx2")


@pytest.fixture(autouse=True)
def native():
    require_native()


def arrays(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def convolve(x, weight, stride=1, padding=None, groups=1):
    """In float64, by the definition."""
    size = weight.shape[0]
    pad = size // 2 if padding is None else padding
    x = np.pad(x.astype(np.float64), [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    weights = np.split(weight.astype(np.float64), groups, -1)
    parts = [
        sum(
            part[:, i : i + height : stride, j : j + width : stride] @ weight[i, j]
            for i in range(size)
            for j in range(size)
        )
        for part, weight in zip(np.split(x, groups, -1), weights, strict=True)
    ]
    return np.concatenate(parts, -1)


def assert_close(found, expected):
    # Sums of up to 9 * 520 products in float32; the largest that was seen is 6e-7.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 7), (1, 33, 18), (3, 14, 14), (1, 2, 61)])
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 16), (64, 48), (520, 96)])
def test_winograd(shape, inputs, outputs):
    x, weight, bias = arrays(0, (*shape, inputs), (3, 3, inputs, outputs), (outputs,))
    expected = convolve(x, weight) + bias
    packed = pack_weight(weight, winograd=True)
    assert_close(winograd_conv(x, packed, bias, relu=False), expected)
    assert_close(winograd_conv(x, packed, bias, relu=True), np.maximum(expected, 0))


@pytest.mark.parametrize("shape", [(1, 7, 7), (2, 8, 9), (2, 8, 36), (1, 33, 18), (1, 7, 61)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel_size", "padding", "groups"),
    [
        (8, 16, 1, 0, 1),
        (64, 48, 1, 0, 1),
        (520, 96, 1, 0, 1),
        (3, 16, 7, 3, 1),
        (24, 32, 3, 1, 1),
        (5, 32, 5, 0, 1),
        (64, 64, 3, 1, 32),
        (128, 128, 3, 1, 8),
        (96, 96, 3, 1, 4),
        (32, 64, 1, 0, 4),
    ],
)
def test_packed(shape, stride, inputs, outputs, kernel_size, padding, groups):
    weight_shape = (kernel_size, kernel_size, inputs // groups, outputs)
    x, weight, bias = arrays(1, (*shape, inputs), weight_shape, (outputs,))
    expected = convolve(x, weight, stride, padding, groups) + bias
    (residual,) = arrays(2, expected.shape)
    packed = pack_weight(weight, groups=groups)

    def found(relu, residual=None):
        options = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        return packed_conv(x, packed, bias, **options, relu=relu, residual=residual)

    assert_close(found(False), expected)
    assert_close(found(True), np.maximum(expected, 0))
    assert_close(found(False, residual), expected + residual)
    assert_close(found(True, residual), np.maximum(expected + residual, 0))
    if not any(side % 2 for side in expected.shape[1:3]):
        upsampled = residual[:, ::2, ::2].repeat(2, 1).repeat(2, 2)
        assert_close(found(False, residual[:, ::2, ::2]), expected + upsampled)
        assert_close(found(True, residual[:, ::2, ::2]), np.maximum(expected + upsampled, 0))


@pytest.mark.parametrize(
    ("shape", "inputs", "outputs"),
    # The last has more tiles than the weight's gradient takes at a time.
    [((1, 1, 1), 8, 16), ((2, 9, 13), 8, 16), ((2, 9, 13), 104, 32), ((2, 32, 19), 520, 528)],
)
def test_gradients(shape, inputs, outputs):
    shapes = (*shape, inputs), (3, 3, inputs, outputs), (outputs,), (*shape, outputs)
    values = [tf.constant(array) for array in arrays(11, *shapes)]

    def outputs_and_gradients(values, convolve):
        *variables, upstream = values
        with tf.GradientTape() as tape:
            tape.watch(variables)
            y = convolve(*variables)
        return [y, *tape.gradient(y, variables, upstream)]

    found = outputs_and_gradients(values, trainable_winograd_conv)
    exact = outputs_and_gradients(
        [tf.cast(value, tf.float64) for value in values],
        lambda x, weight, bias: tf.nn.bias_add(tf.nn.conv2d(x, weight, 1, "SAME"), bias),
    )
    for value, expected in zip(found, exact, strict=True):
        assert_close(value, expected.numpy())


def test_gradient_of_the_weight_of_nothing():
    library = kernels.library()
    gradient = library.tfdetect_winograd_conv_backprop_filter
    found = gradient(x=tf.zeros([0, 5, 7, 8]), gradient=tf.zeros([0, 5, 7, 16]))
    np.testing.assert_array_equal(found, np.zeros([3, 3, 8, 16], np.float32))
    x, fits = tf.zeros([1, 5, 7, 8]), tf.zeros([1, 5, 7, 16])
    for one, other in ((x, fits[:, 1:]), (x, fits[0]), (x[0], fits), (x, fits[..., :8])):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"shape|channels"):
            gradient(x=one, gradient=other)


def test_beyond_the_sizes_nothing_is_read():
    """To the bit what each image gets alone; what lies beyond may even be NaN."""
    x, weight, bias = arrays(3, (2, 9, 11, 16), (3, 3, 16, 32), (32,))
    sizes = [(6, 11), (9, 5)]
    packed = pack_weight(weight, winograd=True)
    for image, (height, width) in zip(x, sizes, strict=True):
        image[height:] = np.nan
        image[:, width:] = np.nan
    together = winograd_conv(x, packed, bias, relu=True, sizes=tf.constant(sizes))
    for index, (height, width) in enumerate(sizes):
        alone = winograd_conv(x[index : index + 1, :height, :width], packed, bias, relu=True)
        np.testing.assert_array_equal(together[index, :height, :width], alone[0])


POINTWISE = {"kernel_size": 1, "stride": 1, "padding": 0}


def test_what_is_not_a_number_stays_so():
    x, weight3, weight1, bias = arrays(4, (1, 4, 4, 8), (3, 3, 8, 16), (1, 1, 8, 16), (16,))
    x[0, 0, 0] = np.nan
    assert np.isnan(
        winograd_conv(x, pack_weight(weight3, winograd=True), bias, relu=True)[0, 0, 0]
    ).all()
    found = packed_conv(x, pack_weight(weight1), bias, **POINTWISE, relu=True)
    assert np.isnan(found[0, 0, 0]).all()
    assert np.isfinite(found[0, 1:]).all()


def test_no_image_and_no_cell():
    weight3, weight1, bias = arrays(5, (3, 3, 8, 16), (1, 1, 8, 16), (16,))
    for shape in ([0, 4, 4, 8], [1, 0, 4, 8]):
        x = tf.zeros(shape)
        expected = [*shape[:3], 16]
        assert (
            winograd_conv(x, pack_weight(weight3, winograd=True), bias, relu=True).shape == expected
        )
        assert packed_conv(x, pack_weight(weight1), bias, **POINTWISE, relu=True).shape == expected


def test_operands_that_do_not_fit_are_refused():
    weight3, weight1, bias = arrays(6, (3, 3, 8, 16), (1, 1, 8, 16), (16,))
    x = tf.zeros([1, 4, 4, 8])
    packed3, packed1 = pack_weight(weight3, winograd=True), pack_weight(weight1)
    sizes = tf.zeros([2, 2], tf.int32)
    one = {**POINTWISE, "relu": False}
    calls = [
        lambda: pack_weight(tf.zeros([2, 2, 8, 16]), winograd=True),
        lambda: pack_weight(tf.zeros([2, 3, 8, 16])),
        lambda: pack_weight(tf.zeros([3, 3, 8, 16]), groups=3),
        lambda: winograd_conv(x, packed1, bias, relu=False),
        lambda: winograd_conv(x[..., :4], packed3, bias, relu=False),
        lambda: winograd_conv(x, packed3, bias, relu=False, sizes=sizes),
        lambda: packed_conv(x, packed3, bias, **one),
        lambda: packed_conv(x[0], packed1, bias, **one),
        lambda: packed_conv(x, packed1[:0], bias, **one),
        lambda: packed_conv(x, packed1, bias[None], **one),
        lambda: packed_conv(x, packed1, bias, **{**one, "kernel_size": 3}),
        lambda: packed_conv(x, packed1, bias, **one, residual=x),
    ]
    for call in calls:
        with pytest.raises(tf.errors.InvalidArgumentError):
            call()


def test_which_are_for_winograd():
    shape = tf.TensorShape([3, 3, 64, 64])
    assert can_use_winograd(shape, stride=1, padding=1, groups=1)
    assert not can_use_winograd(shape, stride=2, padding=1, groups=1)
    assert not can_use_winograd(shape, stride=1, padding=0, groups=1)
    assert not can_use_winograd(shape, stride=1, padding=1, groups=4)
    assert not can_use_winograd(tf.TensorShape([3, 3, 3, 64]), stride=1, padding=1, groups=1)


PAYS = {
    # kernel, inputs of a group, outputs, stride, groups: with AVX2, with AVX-512
    "stem": ((7, 3, 64, 2, 1), (True, False)),
    "3 x 3, 64 to 64": ((3, 64, 64, 1, 1), (True, True)),
    "3 x 3, stride 2": ((3, 256, 256, 2, 1), (True, True)),
    "1 x 1": ((1, 256, 64, 1, 1), (True, True)),
    "X101, res2": ((3, 8, 256, 1, 32), (True, False)),
    "X101, res4": ((3, 32, 1024, 1, 32), (True, True)),
    "X101, res5": ((3, 64, 2048, 1, 32), (False, False)),
}


@pytest.mark.parametrize("name", PAYS)
def test_where_packing_pays(name):
    (size, inputs, outputs, stride, groups), expected = PAYS[name]
    shape = tf.TensorShape([size, size, inputs, outputs])
    found = tuple(packing_pays(shape, stride, groups, used) for used in ("avx2", "avx512"))
    assert found == expected
    assert not packing_pays(shape, stride, groups, "baseline")


def test_layer_that_does_not_pay_stays_tensorflows():
    """A grouped one with its folded norm behind it, in an optimized graph too."""
    layer = Conv2d(64, 64, 3, padding=1, groups=8, bias=False, norm="FrozenBN")
    rng = np.random.default_rng(12)
    for variable in layer.variables:
        variable.assign(rng.uniform(0.1, 1, variable.shape))
    (x,) = arrays(13, (1, 6, 7, 64))
    expected = layer(x, relu=True).numpy()
    layer = optimize(layer, Backend("cpu", "native", instruction_set="avx512"))
    assert isinstance(layer, Conv2d)
    found = tf.function(layer, autograph=False)(tf.constant(x), relu=True)
    assert_close(found, expected)


LAYERS = {
    "folded": {"norm": "FrozenBN", "bias": False},
    "bias": {},
    "group_norm": {"norm": "GN", "bias": False},
    "groups": {"norm": "BN", "bias": False, "groups": 4},
    "groups_and_bias": {"norm": "BN", "groups": 2},
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_layer(name, kernel_size):
    """A packed layer in a graph of open sizes is the layer that it was."""
    layer = Conv2d(16, 32, kernel_size, padding=kernel_size // 2, **LAYERS[name])
    rng = np.random.default_rng(7)
    for variable in layer.variables:
        variable.assign(rng.uniform(0.1, 1, variable.shape))
    x, residual = arrays(8, (2, 8, 10, 16), (2, 8, 10, 32))
    valid_sizes = [WHOLE, ValidSizes(tf.constant([[8, 7], [5, 10]]))]
    small = residual[:, :4, :5]
    residuals = [{"residual": None}, {"residual": residual}, {"residual": small, "upsampled": True}]
    cases = [(e, a, r) for e in valid_sizes for a in residuals for r in (False, True)]
    expected = [layer(x, e, **a, relu=r) for e, a, r in cases]
    layer = optimize(layer, CPU)
    assert isinstance(layer, (PackedConv2d, WinogradConv2d))
    signature = [tf.TensorSpec([None, None, None, 16])]
    for (case_sizes, case_residual, relu), values in zip(cases, expected, strict=True):

        @tf.function(input_signature=signature, autograph=False)
        def run(x, e=case_sizes, a=case_residual, r=relu):
            return layer(x, e, **a, relu=r)

        own = (
            np.ones([2, 8, 10, 1], bool)
            if case_sizes is WHOLE
            else padding_mask(x, case_sizes.sizes)
        )
        found, values = np.where(own, run(x), 0), np.where(own, values, 0)
        np.testing.assert_allclose(found, values, rtol=0, atol=2e-6 * np.abs(values).max())


def test_transposed_convolution():
    layer = ConvTranspose2d(16, 32, 2)
    rng = np.random.default_rng(9)
    for variable in layer.variables:
        variable.assign(rng.normal(size=variable.shape))
    (x,) = arrays(10, (2, 5, 7, 16))
    expected = layer(x)
    assert_close(tf.nn.depth_to_space(layer.blocks(x), 2), expected.numpy())
    layer = optimize(layer, CPU)
    assert isinstance(layer, PackedConvTranspose2d)
    assert_close(layer(x), expected.numpy())
    assert_close(tf.nn.depth_to_space(layer.blocks(x), 2), expected.numpy())
    positive = np.maximum(expected, 0)
    assert_close(tf.nn.depth_to_space(layer.blocks(x, relu=True), 2), positive)


def test_portable_and_other_layers_stay_as_they_are():
    layers = {
        "dilated": Conv2d(16, 32, 3, padding=2, dilation=2),
        "narrow": Conv2d(16, 12, 1),
        "overlapping": ConvTranspose2d(16, 32, 4),
    }
    for name, layer in layers.items():
        assert type(optimize(layer, CPU)) is type(layer), name
    layer = Conv2d(16, 32, 1)
    for backend in (Backend(), Backend("gpu", "native"), Backend("cpu", "native")):
        assert isinstance(optimize(layer, backend), Conv2d)
