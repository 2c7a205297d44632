"""Linear layers against their definitions in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.layers.linear import Linear, Mlp


def exact_gelu(x):
    x = np.asarray(x, np.float64)
    return x * 0.5 * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))


def seeded(module, seed=0):
    rng = np.random.default_rng(seed)
    for variable in module.variables:
        variable.assign(rng.normal(size=variable.shape))
    return module


@pytest.mark.parametrize("shape", [[5], [2, 3], [2, 3, 4], [0], [0, 3, 4]])
@pytest.mark.parametrize("known", [True, False])
def test_vectors_of_any_arrangement(shape, known):
    """The products, the bias, the residual and GELU, in this order."""
    layer = seeded(Linear(6, 16))
    rng = np.random.default_rng(1)
    x = rng.normal(size=[*shape, 6]).astype(np.float32)
    residual = rng.normal(size=[*shape, 16]).astype(np.float32)
    sides = shape if known else [None] * len(shape)
    specs = [tf.TensorSpec([*sides, 6]), tf.TensorSpec([*sides, 16])]

    @tf.function(input_signature=specs, autograph=False)
    def call(x, residual):
        results = (
            layer(x, relu=True),
            layer(x, residual=residual),
            layer(x, residual=residual, gelu=True),
        )
        assert all(result.shape.as_list() == [*sides, 16] for result in results)
        return results

    plain = x.astype(np.float64) @ layer.weight.numpy() + layer.bias.numpy()
    wanted = np.maximum(plain, 0), plain + residual, exact_gelu(plain + residual)
    for found, expected in zip(call(x, residual), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)


def test_without_bias():
    layer = seeded(Linear(3, 4, bias=False))
    assert [variable.shape.as_list() for variable in layer.variables] == [[3, 4]]
    x = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(layer(x), layer.weight)


def test_mlp():
    mlp = seeded(Mlp(4, 8))
    x = np.random.default_rng(2).normal(size=[3, 5, 4]).astype(np.float32)
    hidden = exact_gelu(x.astype(np.float64) @ mlp.fc1.weight.numpy() + mlp.fc1.bias.numpy())
    wanted = hidden @ mlp.fc2.weight.numpy() + mlp.fc2.bias.numpy()
    np.testing.assert_allclose(mlp(x), wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(mlp(x, residual=x), wanted + x, rtol=0, atol=1e-5)
