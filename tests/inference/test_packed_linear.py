"""Linear layers as matrix products with what follows fused, against the layers they replace."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.test_linear import exact_gelu, seeded
from tests.support.native import require_native
from tfdetect.inference.optimization import optimize
from tfdetect.inference.packed import PackedLinear
from tfdetect.layers.linear import Linear, Mlp
from tfdetect.ops.backend import Backend

CPU = Backend("cpu", "native", instruction_set="avx2")


@pytest.fixture(autouse=True)
def native():
    require_native()


@pytest.mark.parametrize(("inputs", "outputs"), [(7, 16), (96, 48), (700, 32)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [[], [0], [1], [29], [0, 3, 5], [2, 3, 5]])
def test_in_place_of_a_linear_layer(inputs, outputs, bias, shape):
    """Residual before GELU; sums of up to 700 products of one deviation, in float32."""
    shape = shape or [2, 13]
    layer = seeded(Linear(inputs, outputs, bias=bias))
    packed = optimize(layer, CPU)
    assert type(packed) is PackedLinear
    rng = np.random.default_rng(1)
    x = rng.normal(size=[*shape, inputs]).astype(np.float32)
    residual = rng.normal(size=[*shape, outputs]).astype(np.float32)
    plain = x.astype(np.float64) @ layer.weight.numpy().astype(np.float64)
    if bias:
        plain += layer.bias.numpy()
    kept = residual.copy()
    both = plain + residual
    found = (
        packed(x),
        packed(x, residual=residual),
        packed(x, residual=residual, relu=True),
        packed(x, residual=residual, gelu=True),
    )
    wanted = plain, both, np.maximum(both, 0), exact_gelu(both)
    for result, expected in zip(found, wanted, strict=True):
        assert result.shape == expected.shape
        scale = 2e-6 * np.abs(expected).max(initial=0)
        np.testing.assert_allclose(result, expected, rtol=0, atol=scale)
    np.testing.assert_array_equal(residual, kept)


def test_gelu_of_every_size():
    """Within 1e-6, and far away 0 or x exactly; NaN stays."""
    x = np.concatenate([np.linspace(-7, 7, 8001), [1e30, -1e30, 1e-30, np.nan, np.inf, 0, -0.0]])
    rows = np.repeat(x.astype(np.float32)[:, None], 16, 1)
    layer = Linear(16, 16)
    layer.weight.assign(np.eye(16))
    found = optimize(layer, CPU)(np.zeros_like(rows), residual=rows, gelu=True)
    expected = np.where(np.isposinf(rows), np.inf, exact_gelu(rows))
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=1e-6)
    assert found[-6, 0] == 0
    assert np.isnan(found[-4]).all()


def test_an_mlp_of_unknown_sizes():
    mlp = seeded(Mlp(32, 64))
    packed = optimize(mlp, CPU)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 32])], autograph=False)
    def call(x):
        return packed(x, residual=x)

    x = np.random.default_rng(2).normal(size=[2, 4, 3, 32]).astype(np.float32)
    expected = mlp(x, residual=x)
    np.testing.assert_allclose(call(x), expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    assert call(x[:0]).shape == (0, 4, 3, 32)


def test_what_is_not_packed():
    """Elsewhere than on a CPU, and where outputs do not fill vectors."""
    for layer, backend in (
        (Linear(8, 15), CPU),
        (Linear(8, 16), Backend("cpu", "native")),
        (Linear(8, 16), Backend("gpu", "native")),
    ):
        assert type(optimize(layer, backend)) is Linear
