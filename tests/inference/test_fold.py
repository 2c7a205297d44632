"""Folding of norms into convolutions: the same to 1e-5 of the scale, as float32 rounds."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.inference.optimization import optimize
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.deform_conv import DeformConv2d
from tfdetect.layers.norm import BatchNorm, GroupNorm, Shift
from tfdetect.modeling.backbone.regnet import ResBottleneckBlock
from tfdetect.ops.backend import Backend

DEFORMATION = {"dilation": 1, "deformable_groups": 1}


class Deformed(tf.Module):
    """A deformable layer with offsets of its own."""

    def __init__(self):
        super().__init__()
        self.layer = DeformConv2d(16, 32, stride=1, groups=1, norm="BN", **DEFORMATION)

    def __call__(self, x):
        offset = tf.sin(tf.range(tf.size(x[..., :1]) * 18, dtype=tf.float32))
        return self.layer(x, tf.reshape(offset, [*x.shape[:3], 18]), None)


def conv(**options):
    return lambda: Conv2d(16, 32, 3, padding=1, **options)


MODULES = {
    "frozen": conv(bias=False, norm="FrozenBN"),
    "bias": conv(norm="SyncBN"),
    "groups": conv(bias=False, norm="FrozenBN", groups=4),
    "groups_and_bias": conv(norm="BN", groups=4),
    "deformable": Deformed,
    "regnet": lambda: ResBottleneckBlock(16, 32, stride=2, groups=4, se=8, norm="BN"),
    "shortcut": lambda: ResBottleneckBlock(16, 16, stride=1, groups=4, se=0, norm="FrozenBN"),
}


@pytest.mark.parametrize("name", MODULES)
def test_the_same_without_the_norms(name):
    rng = np.random.default_rng(0)
    module = MODULES[name]()
    for variable in module.variables:
        variable.assign(rng.uniform(0.1, 1, variable.shape))
    x = tf.constant(rng.normal(size=[2, 9, 11, 16]), tf.float32)
    expected = module(x)
    module = optimize(module, Backend())
    assert not any(isinstance(part, BatchNorm) for part in module.submodules)
    shifts = sum(isinstance(part, Shift) for part in module.submodules)
    assert shifts == (name not in ("frozen", "bias"))
    # The signature leaves sizes open, as in a servable.
    graph = tf.function(module, autograph=False)
    found = (
        graph(x)
        if name == "deformable"
        else graph.get_concrete_function(tf.TensorSpec([None, None, None, 16]))(x)
    )
    atol = 1e-5 * np.abs(expected).max()
    for result in (module(x), found):
        np.testing.assert_allclose(result, expected, rtol=0, atol=atol)


def test_rounded_once():
    """Weights and bias are the float64 ones rounded: not a bit is lost on the way."""
    layer = Conv2d(4, 8, 1, norm="FrozenBN")
    rng = np.random.default_rng(1)
    for variable in layer.variables:
        variable.assign(rng.uniform(0.1, 1, variable.shape))
    norm = layer.norm
    values = (norm.weight, norm.bias, norm.running_mean, norm.running_var, layer.weight, layer.bias)
    gamma, beta, mean, variance, weight, bias = (value.numpy().astype(float) for value in values)
    layer = optimize(layer, Backend())
    scale = gamma / np.sqrt(variance + 1e-5)
    np.testing.assert_array_equal(layer.weight, (weight * scale).astype(np.float32))
    np.testing.assert_array_equal(layer.bias, (beta + (bias - mean) * scale).astype(np.float32))
    assert layer.norm is None
    assert not layer.trainable_variables


def test_norms_of_the_input_stay():
    layer = Conv2d(4, 32, 1, bias=False, norm="GN")
    layer = optimize(layer, Backend())
    assert isinstance(layer.norm, GroupNorm)
