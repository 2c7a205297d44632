"""How far images reach into maps: against maps that are cut out."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.layers.conv import Conv2d
from tfdetect.layers.deform_conv import DeformConv2d
from tfdetect.layers.norm import GroupNorm
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes

SIZES = np.array([[7, 9], [12, 5], [1, 15], [12, 15]], np.int32)


def maps(channels=8):
    return tf.random.stateless_normal([len(SIZES), 12, 15, channels], [1, 2])


def randomize(module):
    for index, variable in enumerate(module.variables):
        variable.assign(tf.random.stateless_uniform(variable.shape, [3, index]))


def check_as_alone(layer, valid_sizes, x, atol):
    """The own part of every image in the result is what the layer gives for its own part of x."""
    batched = layer(x, valid_sizes)
    for index, (height, width) in enumerate(SIZES):
        alone = layer(x[index : index + 1, :height, :width], WHOLE)[0]
        found = batched[index, : alone.shape[0], : alone.shape[1]]
        np.testing.assert_allclose(found, alone, rtol=0, atol=atol)


def test_masks():
    x = maps().numpy()
    x[2, 5] = np.nan
    valid_sizes = ValidSizes(SIZES)
    filled, kept = (
        valid_sizes.fill(x, -1.0).numpy(),
        valid_sizes.zero_padding(np.nan_to_num(x)).numpy(),
    )
    extended = valid_sizes.extend(x).numpy()
    for index, (height, width) in enumerate(SIZES):
        own = x[index, :height, :width]
        pad = [(0, 12 - height), (0, 15 - width), (0, 0)]
        np.testing.assert_array_equal(filled[index], np.pad(own, pad, constant_values=-1))
        np.testing.assert_array_equal(kept[index], np.pad(own, pad))
        np.testing.assert_array_equal(extended[index], np.pad(own, pad, mode="edge"))


def test_strides_round_up_and_share():
    valid_sizes = ValidSizes(SIZES)
    np.testing.assert_array_equal(valid_sizes.strided(4).sizes, [[2, 3], [3, 2], [1, 4], [3, 4]])
    assert valid_sizes.strided(4) is valid_sizes.strided(2).strided(2)
    assert WHOLE.strided(8) is WHOLE


def test_whole_maps_add_nothing():
    x = maps()
    assert WHOLE.zero_padding(x) is WHOLE.fill(x, 0.0) is WHOLE.extend(x) is x


def test_mean():
    """float32 sums of at most 180 terms of the order of 1: 1e-6."""
    check_as_alone(lambda x, valid_sizes: valid_sizes.mean(x), ValidSizes(SIZES), maps(), 1e-6)


def test_mean_of_a_whole_map_is_the_same_bits():
    mean = tf.function(lambda x, sizes: ValidSizes(sizes).mean(x), autograph=False)
    x = tf.random.stateless_normal([1, 61, 47, 32], [1, 2])
    np.testing.assert_array_equal(mean(x, tf.constant([[61, 47]])), WHOLE.mean(x))


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        (1, {"stride": 2}),
        (3, {"padding": 1}),
        (3, {"padding": 1, "stride": 2, "groups": 4}),
        (3, {"padding": 2, "dilation": 2}),
        (7, {"padding": 3, "stride": 2}),
    ],
)
@pytest.mark.parametrize("norm", ["", "GN"])
def test_convolutions(kernel, options, norm):
    """Sums of up to 400 terms in another order: 1e-4, where results are of the order of 10."""
    conv = Conv2d(8, 32, kernel, norm=norm, **options)
    randomize(conv)
    check_as_alone(conv, ValidSizes(SIZES), maps(), 1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_deformable_convolution(implementation, stride):
    """Offsets of up to three locations, beyond the own part too: 1e-5 of sums of the order of
    10.
    """
    conv = DeformConv2d(
        8, 32, stride=stride, dilation=1, groups=1, deformable_groups=2, norm="FrozenBN"
    )
    randomize(conv)
    shape = [len(SIZES), (11 + stride) // stride, (14 + stride) // stride]
    offset = 3 * tf.random.stateless_uniform([*shape, 36], [5, 6], -1)
    mask = tf.random.stateless_uniform([*shape, 18], [7, 8])
    x = maps()
    batched = conv(x, offset, mask, ValidSizes(SIZES))
    for index, (height, width) in enumerate(SIZES):
        rows, columns = -(-height // stride), -(-width // stride)
        here = slice(index, index + 1)
        own = x[here, :height, :width]
        alone = conv(own, offset[here, :rows, :columns], mask[here, :rows, :columns])[0]
        np.testing.assert_allclose(batched[index, :rows, :columns], alone, rtol=0, atol=1e-4)


def test_group_norm():
    """1e-5 of results of the order of 1."""
    norm = GroupNorm(8, groups=2)
    randomize(norm)
    check_as_alone(norm, ValidSizes(SIZES), maps(), 1e-5)
