"""attention against its definition in float64, on both implementations."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

import tfdetect.ops.attention as attention_module
from tests.support.litert_files import runners
from tfdetect.ops.attention import attention
from tfdetect.ops.backend import Backend

# Of the largest magnitude: what float32 sums of this length may differ by.
TOLERANCE = 1e-5
SCALE = 0.3
OPTIONAL = ("bias", "rel_h", "rel_w")


def expected(query, key, value, bias=None, rel_h=None, rel_w=None, scale=SCALE):
    """By the definition, in float64."""
    arrays = (query, key, value, bias, rel_h, rel_w)
    query, key, value, bias, rel_h, rel_w = (
        None if array is None else np.asarray(array, np.float64) for array in arrays
    )
    logits = scale * np.einsum("bqhd,bkhd->bhqk", query, key)
    if rel_h is not None:
        rel = rel_h[..., :, None] + rel_w[..., None, :]
        logits += rel.reshape(*rel.shape[:3], -1).transpose(0, 2, 1, 3)
    if bias is not None:
        logits += np.tile(bias, [len(query) // len(bias), 1, 1, 1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhd->bqhd", weights, value)


def arrays(batch, queries, grid, heads, depth, groups=0, rel=False, seed=0):
    """The operands by name; keys are a map of `grid`."""
    rng = np.random.default_rng(seed)
    keys = grid[0] * grid[1]
    shapes = {"query": [batch, queries, heads, depth]}
    shapes |= {name: [batch, keys, heads, depth] for name in ("key", "value")}
    if groups:
        shapes["bias"] = [groups, heads, queries, keys]
    if rel:
        shapes |= {"rel_h": [batch, queries, heads, grid[0]]}
        shapes |= {"rel_w": [batch, queries, heads, grid[1]]}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def assert_close(found, wanted, tolerance=TOLERANCE):
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max(initial=0) <= tolerance * np.abs(wanted).max(initial=1e-30)


def attend(operands, scale=SCALE):
    return attention(**{k: tf.convert_to_tensor(v) for k, v in operands.items()}, scale=scale)


@pytest.fixture
def small_tiles(monkeypatch):
    """Few logits at a time, so that small inputs are several tiles of the portable one."""
    monkeypatch.setattr(attention_module, "_LOGITS", 1 << 12)


CASES = {
    "plain": arrays(2, 7, (3, 3), 2, 8),
    "one key": arrays(1, 5, (1, 1), 1, 4),
    "window of 14": arrays(3, 196, (14, 14), 2, 64, rel=True),
    "window of 7": arrays(8, 49, (7, 7), 3, 32, groups=4),
    "one bias": arrays(3, 49, (7, 7), 2, 32, groups=1),
    "more queries than keys": arrays(1, 301, (9, 13), 3, 24, rel=True),
    "fewer queries": arrays(2, 17, (20, 31), 1, 40, rel=True),
    "blocks of keys": arrays(1, 130, (27, 41), 2, 80, rel=True),
    "everything": arrays(4, 37, (5, 9), 2, 5, groups=2, rel=True),
}


@pytest.mark.parametrize("operands", CASES.values(), ids=CASES)
def test_values(operands, implementation):
    assert_close(attend(operands), expected(**operands))


@pytest.mark.parametrize("operands", CASES.values(), ids=CASES)
def test_values_by_tiles(operands, small_tiles):
    with Backend().active():
        assert_close(attend(operands), expected(**operands))


def by_name(function):
    """As a graph of tensors of unknown shapes, but for heads and D."""

    def call(operands):
        specs = []
        for name, array in operands.items():
            known = [None, array.shape[1], None, None]
            if name != "bias":
                known = [None, None, array.shape[2], array.shape[3]]
            if name.startswith("rel"):
                known[3] = None
            specs.append(tf.TensorSpec(known))
        traced = tf.function(
            lambda *tensors: function(dict(zip(operands, tensors, strict=True))),
            input_signature=specs,
            autograph=False,
        )
        return traced(*operands.values())

    return call


@pytest.mark.parametrize("case", ["window of 7", "more queries than keys", "everything"])
def test_as_a_graph_of_unknown_shapes(case, implementation, small_tiles):
    operands = CASES[case]
    assert_close(by_name(attend)(operands), expected(**operands))


def gradients(operands, upstream):
    tensors = {name: tf.convert_to_tensor(array) for name, array in operands.items()}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        total = tf.reduce_sum(attend(tensors) * upstream)
    return tape.gradient(total, tensors)


def expected_gradients(operands, upstream):
    """Of the definition, in float64."""
    value = {name: array.astype(np.float64) for name, array in operands.items()}
    query, key, heads = value["query"], value["key"], operands["query"].shape[2]
    logits = SCALE * np.einsum("bqhd,bkhd->bhqk", query, key)
    if "rel_h" in value:
        rel = value["rel_h"][..., :, None] + value["rel_w"][..., None, :]
        logits += rel.reshape(*rel.shape[:3], -1).transpose(0, 2, 1, 3)
    if "bias" in value:
        logits += np.tile(value["bias"], [len(query) // len(value["bias"]), 1, 1, 1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    inner = np.einsum("bqhd,bkhd->bhqk", upstream, value["value"])
    inner = weights * (inner - (weights * inner).sum(-1, keepdims=True))
    found = {
        "query": SCALE * np.einsum("bhqk,bkhd->bqhd", inner, key),
        "key": SCALE * np.einsum("bhqk,bqhd->bkhd", inner, query),
        "value": np.einsum("bhqk,bqhd->bkhd", weights, upstream),
    }
    if "bias" in value:
        shape = value["bias"].shape
        found["bias"] = inner.reshape(-1, *shape).sum(0)
    if "rel_h" in value:
        sides = [value[name].shape[3] for name in ("rel_h", "rel_w")]
        of_map = inner.reshape(len(query), heads, -1, *sides).transpose(0, 2, 1, 3, 4)
        found |= {"rel_h": of_map.sum(4), "rel_w": of_map.sum(3)}
    return found


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("case", ["window of 7", "more queries than keys", "everything"])
def test_gradients(case, traced, implementation, small_tiles):
    operands = CASES[case]
    upstream = np.random.default_rng(9).normal(size=operands["query"].shape)
    upstream = upstream.astype(np.float32)
    function = functools.partial(gradients, upstream=upstream)
    found = by_name(function)(operands) if traced else function(operands)
    wanted = expected_gradients(operands, upstream)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        assert_close(gradient, wanted[name])


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize("case", ["window of 7", "more queries than keys"])
def test_half_precision(case, dtype, implementation):
    """The float32 result of the same inputs, rounded; which rounding may turn the other way."""
    operands = {name: tf.cast(array, dtype) for name, array in CASES[case].items()}
    found = attend(operands)
    assert found.dtype == dtype
    wide = {name: tf.cast(array, tf.float32) for name, array in operands.items()}
    wanted = expected(**wide)
    half_unit = 2.0**-8 if dtype == tf.bfloat16 else 2.0**-11
    assert_close(tf.cast(found, tf.float32), wanted, half_unit + TOLERANCE)
    gradient = gradients(operands, tf.ones_like(found))
    assert {tensor.dtype for tensor in gradient.values()} == {dtype}


def test_nothing(implementation):
    operands = {k: v[:0] for k, v in CASES["more queries than keys"].items()}
    assert attend(operands).shape == (0, 301, 3, 24)
    assert by_name(attend)(operands).shape == (0, 301, 3, 24)
    windows = {k: v[:0] if k != "bias" else v for k, v in CASES["window of 7"].items()}
    assert attend(windows).shape == (0, 49, 3, 32)
    found = gradients(windows, np.zeros([0, 49, 3, 32], np.float32))
    assert not found["bias"].numpy().any()
    none = {k: v[:, :0] if k != "value" and k != "key" else v for k, v in operands.items()}
    assert attend(none).shape == (0, 0, 3, 24)


@pytest.mark.parametrize("size", [30.0, 1e4, 1e30])
def test_large_logits(size, implementation):
    """Of float32's precision beside them: the products are whole numbers, so that all are exact."""
    operands = arrays(1, 50, (6, 50), 2, 8, rel=True, seed=3)
    rng = np.random.default_rng(4)
    rows = np.broadcast_to(np.arange(6), operands["rel_h"].shape)
    operands["rel_h"] = np.float32(size) * rng.permuted(rows, axis=-1).astype(np.float32)
    for name in ("query", "key", "rel_w"):
        operands[name] = np.round(operands[name]) * (size < 1e20)
    assert_close(attend(operands, 0.5), expected(**operands, scale=0.5))


@pytest.mark.parametrize("lowest", [-np.inf, -1e9, np.finfo(np.float32).min / 4])
def test_masked_keys(lowest, implementation):
    """What a bias or a row's or column's number excludes takes no part, wherever it is."""
    for first in (True, False):
        operands = arrays(2, 33, (12, 40), 2, 16, rel=True, seed=5)
        own = np.zeros([12, 40], bool)
        rows, columns = (slice(3, 12), slice(8, 40)) if first else (slice(0, 9), slice(0, 31))
        own[rows, columns] = True
        alone = {k: operands[k][:, :, :] for k in ("query", "rel_h", "rel_w")}
        alone["rel_h"], alone["rel_w"] = alone["rel_h"][..., rows], alone["rel_w"][..., columns]
        for name in ("key", "value"):
            alone[name] = operands[name][:, own.reshape(-1)]
        wanted = expected(**alone)
        operands["rel_h"][..., ~own.any(1)] = lowest
        operands["rel_w"][..., ~own.any(0)] = lowest
        assert_close(attend(operands), wanted)
        bias = np.where(own.reshape(-1), 0, lowest) * np.ones([1, 2, 33, 1])
        biased = {k: v for k, v in operands.items() if not k.startswith("rel")}
        biased["bias"] = bias.astype(np.float32)
        alone = {k: v for k, v in alone.items() if not k.startswith("rel")}
        assert_close(attend(biased), expected(**alone))


def test_not_numbers(implementation):
    """A query that has none, or no key that may take part, gives NaN; the others do not."""
    operands = arrays(1, 20, (3, 7), 1, 8, groups=1)
    operands["bias"][0, 0, 3] = -np.inf
    operands["query"][0, 11, 0, 2] = np.nan
    operands["bias"][0, 0, 15, 4] = np.nan
    operands["bias"][0, 0, 16, 4] = np.inf
    found = np.isnan(attend(operands)).all((0, 2, 3))
    np.testing.assert_array_equal(np.flatnonzero(found), [3, 11, 15, 16])
    assert np.isfinite(np.delete(attend(operands), [3, 11, 15, 16], axis=1)).all()


def test_an_item_does_not_depend_on_the_batch(implementation):
    operands = arrays(6, 49, (7, 7), 3, 32, groups=2, rel=True)
    alone = {k: v if k == "bias" else v[2:4] for k, v in operands.items()}
    assert_close(attend(operands)[2:4], attend(alone), 1e-6)


def test_operands_that_do_not_fit(implementation):
    operands = arrays(3, 4, (2, 2), 1, 4, groups=2)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        attend(operands)
    with pytest.raises(ValueError, match="together"):
        attention(*[tf.zeros([1, 4, 1, 4])] * 3, scale=1.0, rel_h=tf.zeros([1, 4, 1, 2]))


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("case", ["window of 7", "more queries than keys"])
def test_fixed_shapes(case, compiled, small_tiles):
    operands = CASES[case]

    @tf.function(autograph=False, jit_compile=compiled)
    def traced(*tensors):
        with Backend(fixed_shapes=True).active():
            return attend(dict(zip(operands, tensors, strict=True)))

    assert_close(traced(*map(tf.constant, operands.values())), expected(**operands))


@pytest.mark.parametrize("case", ["window of 7", "more queries than keys"])
def test_through_xla_with_gradients(case, small_tiles):
    """As a training with XLA has it: loops of known lengths."""
    operands = CASES[case]
    upstream = np.ones(operands["query"].shape, np.float32)

    @tf.function(autograph=False, jit_compile=True)
    def traced(*tensors):
        with Backend().active():
            return gradients(dict(zip(operands, tensors, strict=True)), upstream)

    found = traced(*map(tf.constant, operands.values()))
    for name, wanted in expected_gradients(operands, upstream).items():
        assert_close(found[name], wanted)


@pytest.mark.parametrize("case", ["window of 7", "more queries than keys"])
def test_litert(case, small_tiles):
    operands = CASES[case]
    specs = [tf.TensorSpec(array.shape, name=name) for name, array in operands.items()]

    @tf.function(input_signature=specs, autograph=False)
    def traced(*tensors):
        with Backend(fixed_shapes=True).active():
            return {"output": attend(dict(zip(operands, tensors, strict=True)))}

    function = traced.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    for run in runners(converter.convert()):
        assert_close(run(**operands)["output"], expected(**operands))
