"""MViT's parts against Detectron2's, with gradients; images of a batch alone.

Within 1e-5 of the largest magnitude of outputs, and 2e-5 of gradients: float32 sums in another
order.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import native_and_one_portable
from tests.support.paths import DATA
from tests.support.transformers import (
    assert_close,
    assert_outputs_close,
    check_block,
    check_each_image_of_a_batch,
    randomized,
    seed_variables,
    thinned_channels,
)
from tfdetect.layers.depthwise_conv import DepthwiseConv2d
from tfdetect.layers.drop_path import drop_paths
from tfdetect.layers.norm import LayerNorm
from tfdetect.layers.valid_sizes import WHOLE
from tfdetect.modeling.backbone.mvit import MultiScaleBlock, MViT, PatchEmbed, max_pool_tokens

with np.load(DATA / "vitdet/ops/mvit_blocks.npz") as _arrays:
    RECORDED = dict(_arrays)
BLOCKS = sorted({name.split(".")[0] for name in RECORDED if name.startswith("block_")})


def make_block(arguments):
    side = arguments.pop("input_size")[0]
    return MultiScaleBlock(
        arguments.pop("dim"),
        arguments.pop("dim_out"),
        arguments.pop("num_heads"),
        rel_pos_size=side,
        **arguments,
    )


@pytest.mark.parametrize(
    ("name", "implementation"), native_and_one_portable(BLOCKS), indirect=["implementation"]
)
@pytest.mark.usefixtures("implementation")
def test_block(name):
    arguments = json.loads(str(RECORDED[f"{name}.arguments"]))
    # Without windows softmax does not see what all keys have in common.
    unseen = () if "window_size" in arguments else ("attn.norm_k.bias",)
    check_block(make_block(arguments), RECORDED, name, unseen)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_pool(stride):
    pool, norm = DepthwiseConv2d(8, 3, stride), LayerNorm(8, 1e-6)
    seed_variables(pool, f"pool{stride}.")
    seed_variables(norm, f"pool{stride}.norm.")
    x = RECORDED["pool_x"]
    # Of two heads, both alike.
    y = pool(tf.concat([x, 2 * x], -1))
    assert_outputs_close(y[..., :8], RECORDED[f"pool{stride}_without_norm"])
    assert_outputs_close(y[..., 8:], 2 * RECORDED[f"pool{stride}_without_norm"])
    assert_outputs_close(norm(y[..., :8]), RECORDED[f"pool{stride}"])
    assert pool(tf.zeros([0, 13, 18, 8])).shape == (0, *y.shape[1:3], 8)


def test_pool_of_what_is_beside_the_attention():
    x = tf.constant(RECORDED["pool_x"])
    found = thinned_channels(max_pool_tokens(x, 2, WHOLE))
    np.testing.assert_array_equal(found, RECORDED["pool_skip"])


def test_patch_embed():
    module = PatchEmbed(7, 4, 10)
    seed_variables(module, "mvit7.")
    with np.load(DATA / "vitdet/ops/patch_embed.npz") as arrays:
        assert_close(module(tf.constant(arrays["x"].transpose(0, 2, 3, 1))), arrays["mvit7"])


NARROW = {
    "img_size": 64,
    "embed_dim": 8,
    "depth": 5,
    "last_block_indexes": [0, 1, 3, 4],
    "adaptive_window_size": 8,
    "pretrain_img_size": 32,
}


def narrow(**options):
    return randomized(MViT(**NARROW | options))


@pytest.mark.parametrize("positions", [True, pytest.param(False, marks=pytest.mark.full)])
def test_an_image_of_a_batch_gets_what_it_gets_alone(positions):
    model = narrow(use_abs_pos=positions, use_rel_pos=positions)
    together, of_none = check_each_image_of_a_batch(model)
    assert set(together) == {"scale2", "scale3", "scale4", "scale5"}
    for feature in together.values():
        assert np.isfinite(feature).all()
    assert {level.shape[0] for level in of_none.values()} == {0}


def test_activation_checkpoints_change_nothing():
    """The gradients of a step with drop path are those without checkpoints."""
    images = np.random.default_rng(2).normal(size=[2, 32, 32, 3]).astype(np.float32)
    short = {"depth": 4, "last_block_indexes": [0, 1, 2, 3]}
    found = []
    for checkpoint in (False, True):
        model = narrow(drop_path_rate=0.5, use_act_checkpoint=checkpoint, **short)

        # Not traced, which takes most of the time: ViT is.
        def compute(model=model):
            with drop_paths(tf.constant([[1, 2], [3, 4]])), tf.GradientTape() as tape:
                features = model(images)
                loss = tf.add_n([tf.reduce_mean(tf.square(x[..., :3])) for x in features.values()])
            gradients = tape.gradient(loss, model.trainable_variables)
            return [loss, *map(tf.convert_to_tensor, gradients)]

        found.append(compute())
    without_drops = narrow(**short)(images)["scale5"]
    assert len(found[0]) == 1 + len(model.trainable_variables)
    for plain, checkpointed in zip(*found, strict=True):
        scale = np.abs(plain).max()
        # Of a key's bias without windows there is rounding alone: softmax does not see it.
        np.testing.assert_allclose(checkpointed, plain, rtol=0, atol=1e-5 * scale + 1e-7)
    with drop_paths(tf.constant([[1, 2], [3, 4]])):
        assert np.abs(model(images)["scale5"] - without_drops).max() > 1e-3
