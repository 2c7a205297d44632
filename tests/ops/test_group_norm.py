"""The native group norm against that of the layer, which is TensorFlow's."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import require_native
from tfdetect.inference.optimization import optimize
from tfdetect.inference.packed import PackedConv2d, PackedGroupNorm, WinogradConv2d
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.norm import GroupNorm
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.ops.backend import Backend

CPU = Backend("cpu", "native", instruction_set="avx2")


@pytest.fixture(autouse=True)
def native():
    require_native()


def norm_of(channels, seed=0):
    rng = np.random.default_rng(seed)
    norm = GroupNorm(channels)
    norm.weight.assign(rng.normal(size=channels))
    norm.bias.assign(rng.normal(size=channels))
    return norm


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 37, 21), (3, 5, 18), (50, 7, 7)])
@pytest.mark.parametrize("channels", [32, 64, 256])
def test_is_the_layers(shape, channels):
    """Far from 0, where sums are large; within rounding, which 10 has more of than what is left."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(*shape, channels)) * 3 + 10).astype(np.float32)
    residual = rng.normal(size=x.shape).astype(np.float32)
    norm = norm_of(channels)
    native = optimize(norm, CPU)
    assert type(native) is PackedGroupNorm
    some = np.stack([rng.integers(1, side + 1, shape[0]) for side in shape[1:]], 1)
    for sizes in (WHOLE, ValidSizes(tf.constant(some, tf.int32))):
        expected = norm(x, sizes)
        np.testing.assert_allclose(native(x, sizes), expected, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(
            native(x, sizes, residual=residual, relu=True),
            tf.nn.relu(expected + residual),
            rtol=1e-6,
            atol=1e-5,
        )


def test_an_image_is_what_it_is_alone():
    """To the bit, in a batch that threads share by images and in one that they share by rows."""
    x = np.random.default_rng(2).normal(size=(64, 6, 9, 32)).astype(np.float32)
    native = optimize(norm_of(32), CPU)
    together = native(x)
    for index in (0, 63):
        np.testing.assert_array_equal(together[index], native(x[index : index + 1])[0])
    assert native(x[:0]).shape == (0, 6, 9, 32)


def test_bfloat16():
    x = tf.cast(np.random.default_rng(3).normal(size=(2, 9, 8, 64)), tf.bfloat16)
    norm = norm_of(64)
    native = optimize(norm, Backend("cpu", "native", "bfloat16", instruction_set="avx2"))
    found = native(x)
    assert found.dtype == tf.bfloat16
    expected = norm(tf.cast(x, tf.float32))
    np.testing.assert_allclose(tf.cast(found, tf.float32), expected, rtol=2.0**-8, atol=1e-5)


def test_behind_a_convolution():
    """With the residual and ReLU that follow it."""
    x = np.random.default_rng(4).normal(size=(2, 8, 10, 32)).astype(np.float32)
    residual = np.random.default_rng(5).normal(size=(2, 8, 10, 32)).astype(np.float32)
    sizes = ValidSizes(tf.constant([[8, 10], [5, 7]]))
    for kernel_size, kind in ((1, PackedConv2d), (3, WinogradConv2d)):
        layer = Conv2d(32, 32, kernel_size, padding=kernel_size // 2, norm="GN")
        layer.weight.assign(np.random.default_rng(6).normal(size=layer.weight.shape) / 9)
        packed = optimize(layer, CPU)
        assert type(packed) is kind
        assert type(packed.norm) is PackedGroupNorm
        options = {"residual": residual, "relu": True}
        expected = layer(x, sizes, **options)
        np.testing.assert_allclose(packed(x, sizes, **options), expected, rtol=0, atol=2e-5)
        upsampled = {"residual": residual[:, ::2, ::2], "upsampled": True}
        expected = layer(x, sizes, **upsampled)
        np.testing.assert_allclose(packed(x, sizes, **upsampled), expected, rtol=0, atol=2e-5)


def test_what_does_not_fit_is_refused():
    native = optimize(norm_of(32), CPU)
    x = tf.zeros([2, 4, 4, 32])
    for wrong in (x[0], x[..., :24]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            native(wrong)
    with pytest.raises(tf.errors.InvalidArgumentError, match="residual"):
        native(x, residual=x[:1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="sizes"):
        native(x, ValidSizes(tf.zeros([3, 2], tf.int32)))
