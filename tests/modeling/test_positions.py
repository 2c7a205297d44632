"""Positions of transformers, against Detectron2's.

Within 1e-5 of the largest magnitude: float32 sums of a few terms. The indices are equal.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import DATA
from tests.support.transformers import assert_close, thinned_gradient
from tfdetect.modeling.backbone.positions import (
    decomposed_rel_pos,
    get_abs_pos,
    get_abs_pos_of_each,
    get_rel_pos,
    get_rel_pos_of_each,
    padding_logits,
    relative_index,
)

REL_POS = dict(np.load(DATA / "vitdet/ops/get_rel_pos.npz"))
ABS_POS = dict(np.load(DATA / "vitdet/ops/get_abs_pos.npz"))
DECOMPOSED = dict(np.load(DATA / "vitdet/ops/add_decomposed_rel_pos.npz"))


def names(arrays, suffix):
    return sorted(key.removesuffix(suffix) for key in arrays if key.endswith(suffix))


def gradients(function, inputs, sizes, upstream):
    """function(*inputs, sizes) and its gradients to the inputs, of sizes known and not known."""
    integers = [int(size) for size in sizes]
    for known in (True, False):

        @tf.function(autograph=False)
        def compute(inputs, tensor, known=known):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                result = function(*inputs, integers if known else tf.unstack(tensor))
            return result, tape.gradient(result, inputs, upstream)

        yield compute([tf.constant(value) for value in inputs], tf.constant(integers))


@pytest.mark.parametrize("name", names(REL_POS, "_table"))
def test_relative_positions(name):
    q, k, _ = (int(part[1:]) for part in name.split("_"))
    np.testing.assert_array_equal(relative_index(q, k), REL_POS[f"{name}_index"])

    def function(table, sizes):
        return get_rel_pos(*sizes, table)

    inputs = [REL_POS[f"{name}_table"]]
    for found, (slope,) in gradients(function, inputs, (q, k), REL_POS[f"{name}_dy"]):
        assert found.shape == (q, k, 6)
        assert_close(found[::5], REL_POS[name])
        assert_close(tf.convert_to_tensor(slope), REL_POS[f"{name}_dtable"])


@pytest.mark.parametrize("name", names(ABS_POS, "_hw"))
def test_absolute_positions(name):
    def function(table, sizes):
        return get_abs_pos(table, bool(ABS_POS[f"{name}_class_token"]), *sizes)

    inputs, sizes = [ABS_POS[f"{name}_pos_embed"]], ABS_POS[f"{name}_hw"]
    for found, (slope,) in gradients(function, inputs, sizes, ABS_POS[f"{name}_dout"]):
        assert_close(found, ABS_POS[f"{name}_out"])
        assert_close(thinned_gradient(slope.numpy()), ABS_POS[f"{name}_dpos_embed"])


@pytest.mark.parametrize("name", names(DECOMPOSED, "_attn"))
def test_decomposed_relative_positions(name):
    arrays = {key.removeprefix(f"{name}_"): DECOMPOSED[key] for key in DECOMPOSED}
    upstream = arrays["dout"]

    def function(query, rel_pos_h, rel_pos_w, sizes):
        rel_h, rel_w = decomposed_rel_pos(query, rel_pos_h, rel_pos_w, sizes[:2], sizes[2:])
        bias = rel_h[:, :, 0, :, None] + rel_w[:, :, 0, None]
        return tf.reshape(bias, upstream.shape)

    sizes = arrays["sizes_qh_qw_kh_kw"]
    inputs = [arrays["q"][:, :, None], arrays["rel_pos_h"], arrays["rel_pos_w"]]
    for found, slopes in gradients(function, inputs, sizes, upstream):
        # Every fifth query is recorded.
        assert_close(arrays["attn"] + found[:, ::5], arrays["out"])
        assert_close(slopes[0][:, ::5, 0], arrays["dq"])
        for slope, axis in zip(slopes[1:], "hw", strict=True):
            assert_close(tf.convert_to_tensor(slope), arrays[f"drel_pos_{axis}"])


def test_absolute_positions_of_each_image():
    table, sizes = ABS_POS["up_wide_pos_embed"], [(15, 23), (14, 14), (3, 20)]
    found = get_abs_pos_of_each(table, True, tf.constant(sizes), 15, 23)
    assert found.shape == [3, 15, 23, 4]
    for (height, width), image in zip(sizes, found, strict=True):
        alone = get_abs_pos(table, True, height, width)[0]
        assert_close(image[:height, :width], alone)


@pytest.mark.parametrize(("q_sizes", "k_sizes"), [([14, 9, 20], [14, 9, 20]), ([28, 9], [7, 3])])
def test_relative_positions_of_each_image(q_sizes, k_sizes):
    table = REL_POS["q7_k14_L27_table"]
    most = max(q_sizes), max(k_sizes)
    found = get_rel_pos_of_each(tf.constant(q_sizes), tf.constant(k_sizes), *most, table)
    assert found.shape == [len(q_sizes), *most, 6]
    for q, k, image in zip(q_sizes, k_sizes, found, strict=True):
        assert_close(image[:q, :k], get_rel_pos(q, k, table))


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_keys_beyond_an_image_take_no_part(dtype):
    added = padding_logits(tf.constant([2, 3]), 3, dtype)
    assert added.shape == [2, 1, 1, 3]
    weights = tf.nn.softmax(2 * tf.cast(added, tf.float32) + 50.0)[:, 0, 0]
    np.testing.assert_allclose(weights, [[0.5, 0.5, 0.0], [1 / 3] * 3], rtol=1e-6)
