"""Quantized convolutions: the native ones to the bit, the portable ones within float32's sums."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import require_native, using_ops
from tfdetect.errors import InputError
from tfdetect.ops.backend import Backend
from tfdetect.ops.quantized_conv import quantize, quantized_conv


@pytest.fixture
def native():
    require_native()
    with using_ops("native"):
        yield


def rounded(x, scale, zero_point):
    """uint8 of float32, by the definition."""
    steps = np.rint(x.astype(np.float32) * np.float32(1 / scale)).astype(np.float64)
    steps = np.where(np.isnan(steps), 0, steps)
    return np.clip(steps + zero_point, 0, 255).astype(np.uint8)


def sums(x, weight, zero_point, stride=1, padding=0, groups=1, dilation=1, sizes=None):
    """In int64, by the definition."""
    steps = x.astype(np.int64) - zero_point
    for image, (height, width) in zip(steps, () if sizes is None else sizes, strict=False):
        image[height:] = 0
        image[:, width:] = 0
    steps = np.pad(steps, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    size = weight.shape[0]
    reach = dilation * (size - 1)
    height, width = (max(side - reach, 0) for side in steps.shape[1:3])
    parts = [
        sum(
            part[:, i : i + height : stride, j : j + width : stride]
            @ taps[i // dilation, j // dilation]
            for i in range(0, reach + 1, dilation)
            for j in range(0, reach + 1, dilation)
        )
        for part, taps in zip(
            np.split(steps, groups, -1), np.split(weight.astype(np.int64), groups, -1), strict=True
        )
    ]
    return np.concatenate(parts, -1)


def finished(total, multiplier, bias, relu, residual=None, output_scale=None, output_zero_point=0):
    """What follows the sums, each step in float32."""
    y = total.astype(np.float32) * multiplier + bias
    if residual is not None:
        y = y + residual
    if relu:
        y = np.maximum(y, 0)
    assert y.dtype == np.float32
    return y if output_scale is None else rounded(y, output_scale, output_zero_point)


def operands(seed, shape, kernel_size, outputs, groups=1, extreme=False):
    """x, weight, multiplier, bias."""
    rng = np.random.default_rng(seed)
    weight_shape = (kernel_size, kernel_size, shape[-1] // groups, outputs)
    if extreme:
        x = rng.choice(np.array([0, 255], np.uint8), shape)
        weight = rng.choice(np.array([-127, 127], np.int8), weight_shape)
        # Outputs that add all with one sign: of the largest and the smallest sum.
        x[0] = 255
        weight[..., 0], weight[..., 1] = 127, -127
    else:
        x = rng.integers(0, 256, shape, np.uint8)
        weight = rng.integers(-127, 128, weight_shape, np.int8)
    multiplier = rng.uniform(1e-5, 1e-4, outputs).astype(np.float32)
    return x, weight, multiplier, rng.normal(size=outputs).astype(np.float32)


# Cin, Cout, kernel size, and the convolution's other options.
CONVOLUTIONS = {
    "1 x 1": (24, 16, 1, {}),
    "1 x 1, odd": (7, 21, 1, {}),
    "1 x 1, long": (1300, 37, 1, {}),
    "1 x 1, stride 2": (32, 48, 1, {"stride": 2}),
    "3 x 3": (16, 32, 3, {"padding": 1}),
    "3 x 3, wide": (48, 40, 3, {"padding": 1}),
    "3 x 3, odd": (5, 9, 3, {"padding": 1}),
    "3 x 3, stride 2": (16, 20, 3, {"padding": 1, "stride": 2}),
    "3 x 3, no padding": (16, 16, 3, {}),
    "3 x 3, dilated": (16, 16, 3, {"padding": 2, "dilation": 2}),
    "stem": (3, 64, 7, {"padding": 3, "stride": 2}),
    "5 x 5": (5, 32, 5, {"padding": 2}),
    "groups of 2": (64, 64, 3, {"padding": 1, "groups": 32}),
    "groups of 24": (96, 96, 3, {"padding": 1, "groups": 4}),
    "groups, dilated": (32, 64, 3, {"padding": 3, "dilation": 3, "groups": 4, "stride": 2}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("zero_point", [0, 128])
@pytest.mark.parametrize("extreme", [False, True])
def test_sums_are_exact(native, name, zero_point, extreme):
    inputs, outputs, size, options = CONVOLUTIONS[name]
    for shape in [(1, 7, 9), (2, 8, 14), (1, 1, 1)]:
        groups = options.get("groups", 1)
        x, weight, multiplier, bias = operands(1, (*shape, inputs), size, outputs, groups, extreme)
        if min(shape[1:]) + 2 * options.get("padding", 0) < size:
            continue
        total = sums(x, weight, zero_point, **options)
        found = quantized_conv(
            x,
            weight,
            multiplier,
            bias,
            zero_point=zero_point,
            kernel_size=size,
            relu=False,
            **options,
        )
        np.testing.assert_array_equal(found, finished(total, multiplier, bias, False))


RESIDUALS = ["none", "float32", "uint8", "float32, half", "uint8, half"]


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("output_scale", [None, 0.013])
@pytest.mark.parametrize("name", ["1 x 1, odd", "3 x 3", "3 x 3, odd"])
def test_what_follows_the_sums(native, name, residual, output_scale):
    inputs, outputs, size, options = CONVOLUTIONS[name]
    x, weight, multiplier, bias = operands(2, (2, 6, 8, inputs), size, outputs)
    multiplier *= 0.2
    rng = np.random.default_rng(3)
    total = sums(x, weight, 128, **options)
    given = values = None
    if residual != "none":
        shape = (2, 3, 4, outputs) if "half" in residual else (2, 6, 8, outputs)
        given = values = rng.normal(size=shape).astype(np.float32)
        if "uint8" in residual:
            given = rng.integers(0, 256, shape, np.uint8)
            values = (given.astype(np.float32) - 120) * np.float32(0.011)
        if "half" in residual:
            values = values.repeat(2, 1).repeat(2, 2)
    for relu in (False, True):
        for point in (0, 128):
            found = quantized_conv(
                x,
                weight,
                multiplier,
                bias,
                zero_point=128,
                kernel_size=size,
                relu=relu,
                residual=given,
                residual_scale=0.011,
                residual_zero_point=120,
                output_scale=output_scale,
                output_zero_point=point,
                **options,
            )
            expected = finished(total, multiplier, bias, relu, values, output_scale, point)
            np.testing.assert_array_equal(found, expected)


SIZES = [(5, 9), (8, 3), (0, 0), (99, 99)]


@pytest.mark.parametrize("name", ["1 x 1", "3 x 3", "3 x 3, odd", "stem", "groups of 2"])
def test_beyond_the_sizes_nothing_is_read(implementation, name):
    """What lies there counts as the zero point; images are what they are alone."""
    inputs, outputs, size, options = CONVOLUTIONS[name]
    groups = options.get("groups", 1)
    x, weight, multiplier, bias = operands(4, (4, 8, 9, inputs), size, outputs, groups)
    total = sums(x, weight, 128, **options, sizes=SIZES)
    options = {**options, "zero_point": 128, "kernel_size": size, "relu": True}
    found = quantized_conv(x, weight, multiplier, bias, **options, sizes=tf.constant(SIZES))
    assert_close(implementation, found, finished(total, multiplier, bias, True))
    height, width = SIZES[0]
    alone = quantized_conv(x[:1, :height, :width], weight, multiplier, bias, **options)
    own = found[:1, : alone.shape[1], : alone.shape[2]]
    assert_close(implementation, own, alone.numpy())


def assert_close(implementation, found, expected):
    if implementation == "native":
        np.testing.assert_array_equal(found, expected)
    else:
        # float32 holds every sum here exactly unless TensorFlow takes a fast algorithm of rounded
        # transforms, and XLA's or oneDNN's may.
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_portable(name):
    inputs, outputs, size, options = CONVOLUTIONS[name]
    groups = options.get("groups", 1)
    x, weight, multiplier, bias = operands(5, (2, 8, 10, inputs), size, outputs, groups)
    total = sums(x, weight, 128, **options)
    residual = np.random.default_rng(6).normal(size=total.shape).astype(np.float32)
    options = {**options, "zero_point": 128, "kernel_size": size, "relu": True}
    with Backend().active():
        found = quantized_conv(x, weight, multiplier, bias, **options, residual=residual)
        assert_close("portable", found, finished(total, multiplier, bias, True, residual))
        found = quantized_conv(
            x, weight, multiplier, bias, **options, output_scale=0.02, output_zero_point=0
        )
    expected = finished(total, multiplier, bias, True, None, 0.02, 0)
    # A sum that is rounded otherwise may come to the other side of a tie.
    assert np.abs(found.numpy().astype(int) - expected).max() <= 1


@pytest.mark.parametrize("residual", RESIDUALS[1:])
def test_portable_residual_of_unknown_shape(residual):
    x, weight, multiplier, bias = operands(7, (1, 6, 8, 4), 1, 5)
    shape = (1, 3, 4, 5) if "half" in residual else (1, 6, 8, 5)
    given = np.random.default_rng(8).integers(0, 256, shape)
    given = given.astype(np.uint8 if "uint8" in residual else np.float32)
    large = given.repeat(2, 1).repeat(2, 2) if "half" in residual else given
    options = {"zero_point": 0, "kernel_size": 1, "relu": False, "residual_scale": 0.5}
    signature = [
        tf.TensorSpec([None, None, None, 4], tf.uint8),
        tf.TensorSpec([None, None, None, 5], given.dtype),
    ]

    @tf.function(input_signature=signature, autograph=False)
    def run(x, residual):
        with Backend().active():
            return quantized_conv(x, weight, multiplier, bias, **options, residual=residual)

    values = large.astype(np.float32) * np.float32(0.5 if "uint8" in residual else 1)
    expected = finished(sums(x, weight, 0), multiplier, bias, False, values)
    assert_close("portable", run(x, given), expected)


def test_quantize(implementation):
    edges = np.array([0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 254.5, 255.49, 255.51, 1e30, -1e30])
    infinite = np.array([np.inf, -np.inf, np.nan])
    x = np.concatenate([edges * 0.25, infinite, np.linspace(-40, 40, 1003)]).astype(np.float32)
    for scale in (0.25, 0.0131):
        for zero_point in (0, 128):
            found = quantize(x, scale=scale, zero_point=zero_point)
            np.testing.assert_array_equal(found, rounded(x, scale, zero_point))
    assert quantize(x[:15], scale=0.25, zero_point=128).numpy()[-3:].tolist() == [255, 0, 128]
    assert quantize(tf.zeros([0, 3]), scale=1.0, zero_point=0).shape == (0, 3)


def test_what_is_not_a_number(native):
    """In the residual: it stays NaN, and becomes the zero point where the result is quantized."""
    x, weight, multiplier, bias = operands(9, (1, 2, 2, 4), 1, 16)
    options = {"zero_point": 0, "kernel_size": 1, "relu": True}
    residual = np.full((1, 2, 2, 16), np.nan, np.float32)
    found = quantized_conv(x, weight, multiplier, bias, **options, residual=residual)
    assert np.isnan(found).all()
    options |= {"output_scale": 0.1, "output_zero_point": 7}
    found = quantized_conv(x, weight, multiplier, bias, **options, residual=residual)
    assert (found.numpy() == 7).all()


def test_no_image_and_no_pixel(implementation):
    for size in (1, 3):
        _, weight, multiplier, bias = operands(10, (1, 1, 1, 16), size, 16)
        options = {"zero_point": 0, "kernel_size": size, "padding": size // 2, "relu": True}
        for shape in ([0, 4, 6, 16], [2, 0, 6, 16]):
            x = tf.zeros(shape, tf.uint8)
            found = quantized_conv(x, weight, multiplier, bias, **options, output_scale=0.1)
            assert found.shape == [*shape[:3], 16]
            assert found.dtype == tf.uint8


@pytest.mark.parametrize("size", [1, 3])
def test_weights_that_change(native, size):
    """The kernel keeps what it made of a weight: of several in turn, and of a variable."""
    x, first, multiplier, bias = operands(11, (1, 5, 6, 16), size, 32)
    second = operands(12, (1, 5, 6, 16), size, 32)[1]
    options = {"zero_point": 128, "kernel_size": size, "padding": size // 2, "relu": False}
    expected = [
        finished(sums(x, weight, 128, padding=size // 2), multiplier, bias, False)
        for weight in (first, second)
    ]
    tensors = tf.constant(first), tf.constant(second)
    for _ in range(3):
        for weight, values in zip(tensors, expected, strict=True):
            found = quantized_conv(x, weight, multiplier, bias, **options)
            np.testing.assert_array_equal(found, values)
    variable = tf.Variable(first)

    @tf.function(autograph=False)
    def run(x):
        return quantized_conv(x, variable, multiplier, bias, **options)

    for index in (0, 1, 0, 0, 1):
        variable.assign((first, second)[index])
        np.testing.assert_array_equal(run(x), expected[index])
    variable.assign(first)
    variable.scatter_nd_update([[0, 0, 0]], [first[0, 0, 0]])
    np.testing.assert_array_equal(run(x), expected[0])
    variable.scatter_nd_update(
        [[i, j, 3] for i in range(size) for j in range(size)],
        second[:, :, 3].reshape(size * size, 32),
    )
    mixed = first.copy()
    mixed[:, :, 3] = second[:, :, 3]
    found = finished(sums(x, mixed, 128, padding=size // 2), multiplier, bias, False)
    np.testing.assert_array_equal(run(x), found)


def test_saved_model(native, tmp_path):
    """In a graph of open sizes, whose weight is a variable; each image by itself."""
    x, weight, multiplier, bias = operands(13, (2, 5, 6, 16), 3, 32)

    class Layer(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(weight)

        @tf.function(
            input_signature=[tf.TensorSpec([None, None, None, 16], tf.uint8)], autograph=False
        )
        def __call__(self, x):
            options = {"zero_point": 0, "kernel_size": 3, "padding": 1, "relu": True}
            return quantized_conv(x, self.weight, multiplier, bias, **options)

    tf.saved_model.save(Layer(), str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    expected = finished(sums(x, weight, 0, padding=1), multiplier, bias, True)
    np.testing.assert_array_equal(loaded(x), expected)
    np.testing.assert_array_equal(loaded(x[1:]), expected[1:])


def test_static_shapes(native):
    """What is known of the result's shape when a graph is made."""
    _, weight, multiplier, bias = operands(14, (1, 1, 1, 8), 3, 16)

    @tf.function(input_signature=[tf.TensorSpec([None, 10, None, 8], tf.uint8)], autograph=False)
    def run(x):
        options = {"padding": 2, "stride": 2, "dilation": 2, "relu": False}
        y = quantized_conv(
            x, weight, multiplier, bias, zero_point=0, kernel_size=3, **options, output_scale=1.0
        )
        assert y.shape.as_list() == [None, 5, None, 16]
        assert y.dtype == tf.uint8
        return y

    assert run(tf.zeros([1, 10, 9, 8], tf.uint8)).shape == [1, 5, 5, 16]


def test_operands_that_do_not_fit_are_refused(native):
    x, weight, multiplier, bias = operands(15, (1, 4, 4, 8), 3, 16)
    options = {"zero_point": 0, "kernel_size": 3, "padding": 1, "relu": False}
    wide = np.zeros((1, 1, 65800, 1), np.int8)
    one = np.zeros(1, np.float32)
    calls = [
        lambda: quantized_conv(x[0], weight, multiplier, bias, **options),
        lambda: quantized_conv(x[..., :4], weight, multiplier, bias, **options),
        lambda: quantized_conv(x, weight[0], multiplier, bias, **options),
        lambda: quantized_conv(x, weight[:2], multiplier, bias, **options),
        lambda: quantized_conv(x, weight, multiplier[:1], bias, **options),
        lambda: quantized_conv(x, weight, multiplier, bias[None], **options),
        lambda: quantized_conv(x, weight, multiplier, bias, **{**options, "kernel_size": 1}),
        lambda: quantized_conv(x, weight, multiplier, bias, **options, groups=2),
        lambda: quantized_conv(x, weight, multiplier, bias, **options, residual=x),
        lambda: quantized_conv(
            x, weight, multiplier, bias, **options, sizes=tf.zeros([2, 2], tf.int32)
        ),
        lambda: quantized_conv(
            np.zeros((1, 1, 1, 65800), np.uint8), wide, one, one, **{**options, "kernel_size": 1}
        ),
        lambda: quantized_conv(
            x, weight, multiplier, bias, **{**options, "padding": 2**30, "stride": 1}
        ),
    ]
    for call in calls:
        with pytest.raises(tf.errors.InvalidArgumentError):
            call()


def test_scales_that_are_none_are_refused():
    x = tf.zeros([2])
    for scale in (0.0, -1.0, float("nan"), float("inf"), 1e-60):
        with pytest.raises(InputError, match=r"^scale "):
            quantize(x, scale=scale, zero_point=0)
    for zero_point in (-1, 256):
        with pytest.raises(InputError, match=r"^zero point "):
            quantize(x, scale=1.0, zero_point=zero_point)
