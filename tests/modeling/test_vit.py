"""ViT's parts and the simple feature pyramid, against Detectron2's, with gradients.

Within 1e-5 of the largest magnitude of outputs, and 2e-5 of gradients: float32 sums in another
order.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import native_and_one_portable
from tests.support.paths import DATA
from tests.support.transformers import (
    assert_close,
    check_block,
    check_each_image_of_a_batch,
    randomized,
    seed_variables,
)
from tfdetect.checkpoint.names import named_variables
from tfdetect.layers.drop_path import drop_paths
from tfdetect.modeling.backbone.simple_feature_pyramid import SimpleFeaturePyramid
from tfdetect.modeling.backbone.vit import Attention, Block, PatchEmbed, ViT

BLOCKS = dict(np.load(DATA / "vitdet/ops/vit_blocks.npz"))
MAKE = {
    "attention_rel_pos": lambda: Attention(24, 3, rel_pos_size=(6, 6)),
    "attention_rel_pos_interpolated": lambda: Attention(24, 3, rel_pos_size=(8, 8)),
    "attention_plain": lambda: Attention(24, 3, qkv_bias=False),
    "block_window_padded": lambda: Block(24, 3, window_size=7, rel_pos_size=(7, 7)),
    "block_global": lambda: Block(24, 3, rel_pos_size=(8, 8)),
    "block_residual": lambda: Block(24, 3, window_size=7, residual=True),
}


def test_every_recorded_block_is_tested():
    assert set(MAKE) == {name.split(".")[0] for name in BLOCKS}


@pytest.mark.parametrize(
    ("name", "implementation"), native_and_one_portable(MAKE), indirect=["implementation"]
)
@pytest.mark.usefixtures("implementation")
def test_block(name):
    check_block(MAKE[name](), BLOCKS, name)


def test_patch_embed():
    module = PatchEmbed(16, 10)
    seed_variables(module, "vit16.")
    with np.load(DATA / "vitdet/ops/patch_embed.npz") as arrays:
        assert_close(module(arrays["x"].transpose(0, 2, 3, 1)), arrays["vit16"])


class Feature(tf.Module):
    """In place of a ViT: gives a feature."""

    output_shapes: ClassVar = {"last_feat": (16, 16)}
    size_divisibility, num_layers = 1, 4
    grid_sizes, layer_of = ViT.grid_sizes, ViT.layer_of
    _patch_size = 16

    def __init__(self, feature):
        super().__init__()
        self._feature = feature

    def __call__(self, images, valid_sizes):
        del images, valid_sizes
        return {"last_feat": self._feature}


def test_simple_feature_pyramid():
    with np.load(DATA / "vitdet/ops/simple_feature_pyramid.npz") as arrays:
        feature = tf.constant(arrays["x"].transpose(0, 2, 3, 1))
        pyramid = SimpleFeaturePyramid(Feature(feature), 8, [4.0, 2.0, 1.0, 0.5], "LN")
        seed_variables(pyramid, "pyramid.")
        levels = pyramid(tf.zeros([1, 150, 215, 3]))
        assert list(levels) == list(pyramid.output_shapes) == ["p2", "p3", "p4", "p5", "p6"]
        # 150 x 215 pixels are 9 x 13 patches, and 4 x 6 after halving.
        shapes = [(36, 52), (18, 26), (9, 13), (4, 6), (2, 3)]
        sizes = pyramid.valid_sizes(tf.constant([[150, 215]]))
        for (name, level), shape in zip(levels.items(), shapes, strict=True):
            assert level.shape == (1, *shape, 8)
            step = 3 if name in ("p2", "p3") else 1
            found = tf.transpose(level[:, ::step, ::step], [0, 3, 1, 2])
            assert_close(found, arrays[name])
            _, stride = pyramid.output_shapes[name]
            assert tuple(sizes.strided(stride).sizes[0]) == shape


# Windows, a whole image, and convolutions.
NARROW = {
    **{"img_size": 64, "embed_dim": 12, "depth": 3, "num_heads": 3, "pretrain_img_size": 32},
    **{"use_rel_pos": True, "window_block_indexes": [0], "residual_block_indexes": [1]},
}


@pytest.fixture(scope="module")
def pyramid():
    vit = ViT(**NARROW, window_size=3)
    return randomized(SimpleFeaturePyramid(vit, 8, [4.0, 2.0, 1.0, 0.5], "LN"))


def test_an_image_of_a_batch_gets_what_it_gets_alone(pyramid):
    together, of_none = check_each_image_of_a_batch(pyramid, pyramid.valid_sizes)
    assert set(together) == {"p2", "p3", "p4", "p5", "p6"}
    assert {level.shape[0] for level in of_none.values()} == {0}


@pytest.mark.parametrize(("height", "width"), [(5, 40), (40, 17), (33, 47)])
def test_small_images(pyramid, height, width):
    """An image of less than two patches is filled up to them, alone and beside others."""
    image = tf.random.stateless_normal([1, height, width, 3], [1, 2])
    alone = pyramid(image)
    filled = tf.pad(image, [[0, 0], [0, 64 - height], [0, 64 - width], [0, 0]])
    together = pyramid(filled, pyramid.valid_sizes(tf.constant([[height, width]])))
    for name, expected in alone.items():
        rows, columns = expected.shape[1:3]
        assert min(rows, columns) > 0
        found = together[name][:, :rows, :columns]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("backbone.net.pos_embed", 0),
        ("backbone.net.patch_embed.proj.weight", 0),
        ("backbone.net.blocks.0.norm1.weight", 1),
        ("backbone.net.blocks.11.attn.rel_pos_h", 12),
        ("backbone.net.blocks.11.residual.conv1.weight", 13),
        ("backbone.simfp_2.0.weight", 13),
    ],
)
def test_layers_of_variables(name, layer):
    """As `get_vit_lr_decay_rate` of 12 blocks has it."""
    vit = ViT(img_size=32, embed_dim=4, num_heads=1, depth=12, pretrain_img_size=32)
    assert vit.num_layers == 12
    assert vit.layer_of(name) == layer


def test_activation_checkpointing():
    """A step of training drops the same branches, and has the same gradients, with less kept."""
    results = []
    x = tf.random.stateless_normal([3, 48, 64, 3], [1, 2])
    for use_act_checkpoint in (False, True):
        vit = ViT(
            **NARROW,
            window_size=2,
            drop_path_rate=0.5,
            use_act_checkpoint=use_act_checkpoint,
        )
        random = np.random.default_rng(0)
        for named in named_variables(vit):
            named.variable.assign(random.normal(0, 0.3, named.variable.shape))

        @tf.function(autograph=False)
        def step(x, vit=vit):
            with tf.GradientTape() as tape, drop_paths(tf.constant([[1, 2], [1, 3], [1, 4]])):
                (feature,) = vit(x).values()
                loss = tf.reduce_mean(tf.square(feature))
            return [feature, *tape.gradient(loss, [n.variable for n in named_variables(vit)])]

        results.append([tf.convert_to_tensor(value) for value in step(x)])
        assert np.abs(results[-1][0] - vit(x)["last_feat"]).max() > 0.1  # branches were dropped
    for kept, again in zip(*results, strict=True):
        assert np.abs(kept).max() > 0
        assert_close(again, kept.numpy(), 1e-5)
