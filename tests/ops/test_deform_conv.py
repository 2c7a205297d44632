"""Deformable convolution and its gradients against torchvision's, recorded."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.ops.deform_conv import deform_conv

pytestmark = pytest.mark.usefixtures("implementation")

CASES = ["v1", "v1_s2_g", "v2", "v2_s2_dil2"]


def nhwc(array):
    return None if array is None else tf.constant(np.moveaxis(array, 1, -1))


def recorded_case(arrays, case):
    """The inputs (x, offset, mask, weight) as ours, the settings, and PyTorch's own arrays."""
    stride, dilation, groups, deformable_groups = (
        int(value) for value in arrays[f"{case}_stride_dilation_groups_offsetgroups"]
    )
    settings = {
        "stride": stride,
        "padding": dilation,
        "dilation": dilation,
        "groups": groups,
        "deformable_groups": deformable_groups,
    }
    weight = tf.constant(arrays[f"{case}_w"].transpose(2, 3, 1, 0))
    x, offset = nhwc(arrays[f"{case}_x"]), nhwc(arrays[f"{case}_offset"])
    return [x, offset, nhwc(arrays.get(f"{case}_mask")), weight], settings


def assert_close(actual, recorded, tolerance):
    """Within `tolerance` of the scale, which is the largest magnitude of the array."""
    np.testing.assert_allclose(actual, recorded, rtol=0, atol=tolerance * np.abs(recorded).max())


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients(oracle, case, in_graph):
    arrays = oracle("deform_conv")
    inputs, settings = recorded_case(arrays, case)
    sources = [value for value in inputs if value is not None]

    def run():
        with tf.GradientTape() as tape:
            tape.watch(sources)
            y = deform_conv(*inputs, **settings)
        return y, tape.gradient(y, sources, output_gradients=nhwc(arrays[f"{case}_dy"]))

    y, gradients = tf.function(run, autograph=False)() if in_graph else run()
    # Sums of up to 72 float32 products in another order; gradients sum over hundreds of positions.
    assert_close(np.moveaxis(y, -1, 1), arrays[f"{case}_y"], 1e-5)
    names = ["x", "offset", "mask", "w"] if len(sources) == 4 else ["x", "offset", "w"]
    for name, gradient in zip(names, gradients, strict=True):
        order = [3, 2, 0, 1] if name == "w" else [0, 3, 1, 2]
        assert_close(np.transpose(gradient, order), arrays[f"{case}_d{name}"], 1e-4)


def test_without_offsets_it_is_a_convolution(oracle):
    (x, offset, _, weight), settings = recorded_case(oracle("deform_conv"), "v1")
    y = deform_conv(x, tf.zeros_like(offset), None, weight, **settings)
    expected = tf.nn.conv2d(x, weight, 1, [[0, 0], [1, 1], [1, 1], [0, 0]])
    # Sums of 72 products in another order; the values are around 10.
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e9])
@pytest.mark.parametrize("version", [1, 2])
def test_hostile_offsets_read_zero(oracle, bad, version):
    (x, offset, mask, weight), settings = recorded_case(oracle("deform_conv"), "v2")
    mask = mask if version == 2 else None
    # The first tap of every other column, displaced vertically.
    hit = np.zeros(offset.shape, bool)
    hit[:, :, ::2, 0] = True
    hostile = tf.where(hit, tf.cast(bad, tf.float32), offset)
    far = tf.where(hit, 1000.0, offset)
    sources = [value for value in (x, hostile, mask, weight) if value is not None]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        y = deform_conv(x, hostile, mask, weight, **settings)
    np.testing.assert_array_equal(y, deform_conv(x, far, mask, weight, **settings))
    gradients = [gradient.numpy() for gradient in tape.gradient(y, sources)]
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert not gradients[1][hit].any()


def test_the_slope_at_whole_cells_is_that_to_the_right_and_below():
    # One tap, one feature-map pixel: v(dy) = 1 - |dy|. The tap above the map, where the value is
    # still zero, must feel the map, or a zero-initialised offset would never learn to reach it.
    x, weight = tf.ones([1, 1, 1, 1]), tf.ones([1, 1, 1, 1])
    for displacement, value, slope in [(0.0, 1, -1), (-1.0, 0, 1), (1.0, 0, 0), (-1.5, 0, 0)]:
        offset = tf.constant([[[[displacement, 0.0]]]])
        with tf.GradientTape() as tape:
            tape.watch(offset)
            y = deform_conv(x, offset, None, weight)
        assert y.numpy().item() == value
        np.testing.assert_array_equal(tape.gradient(y, offset)[0, 0, 0], [slope, -value])


def test_no_images_and_an_unknown_size():
    weight = tf.ones([3, 3, 4, 6])

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 4]),
            tf.TensorSpec([None, None, None, 18]),
        ],
        autograph=False,
    )
    def run(x, offset):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = deform_conv(x, offset, None, weight, padding=1)
        return y, tape.gradient(y, x)

    for batch in (0, 2):
        y, dx = run(tf.ones([batch, 5, 7, 4]), tf.zeros([batch, 5, 7, 18]))
        assert y.shape == (batch, 5, 7, 6)
        assert dx.shape == (batch, 5, 7, 4)


def test_gradients_are_the_same_every_time(oracle):
    inputs, settings = recorded_case(oracle("deform_conv"), "v2")

    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = deform_conv(*inputs, **settings)
        return tape.gradient(y, inputs)

    for first, second in zip(gradients(), gradients(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"groups": 2}, "x has 8 channels, but 16"),
        ({"deformable_groups": 2}, "offset has 18 channels, but 36"),
    ],
)
def test_channels_that_do_not_fit(oracle, change, says):
    inputs, settings = recorded_case(oracle("deform_conv"), "v2")
    with pytest.raises(ValueError, match=says):
        deform_conv(*inputs, **(settings | change))


@pytest.mark.parametrize("which", ["offset", "mask"])
def test_sizes_that_do_not_fit(oracle, which):
    (x, offset, mask, weight), settings = recorded_case(oracle("deform_conv"), "v2")
    # One row would be broadcast, if nobody looked.
    offset, mask = (offset[:, :1], mask) if which == "offset" else (offset, mask[:, :1])
    with pytest.raises(tf.errors.InvalidArgumentError, match=which):
        deform_conv(x, offset, mask, weight, **settings)
