"""Swin's blocks, windows and masks against Detectron2's records, and images of a batch alone.

Within 1e-5 of the largest magnitude of what is compared: float32 sums in another order.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import DATA
from tests.support.transformers import (
    assert_close,
    assert_outputs_close,
    check_each_image_of_a_batch,
    gradient_of,
    randomized,
    seed_variables,
)
from tfdetect.checkpoint.names import named_variables
from tfdetect.layers.drop_path import drop_paths
from tfdetect.layers.valid_sizes import WHOLE
from tfdetect.modeling.backbone.shifted_windows import (
    make_windows,
    relative_position_index,
    shift_masks,
)
from tfdetect.modeling.backbone.swin import (
    BasicLayer,
    PatchEmbed,
    PatchMerging,
    SwinTransformer,
    WindowAttention,
)


@pytest.fixture(scope="module")
def blocks():
    with np.load(DATA / "vitdet" / "ops" / "swin_blocks.npz") as arrays:
        return dict(arrays)


def assert_same_gradients(module, recorded, prefix, y, x, tape):
    """By `prefix.dy`: of x, and of every variable but a key's bias, which softmax does not see."""
    weighted = tf.reduce_sum(y * recorded[f"{prefix}.dy"].reshape(y.shape))
    named = list(named_variables(module))
    dx, *gradients = tape.gradient(weighted, [x, *(each.variable for each in named)])
    expected = recorded[f"{prefix}.dx"]
    assert_outputs_close(dx, expected.reshape([*x.shape[:-1], -1]))
    for each, gradient in zip(named, gradients, strict=True):
        found, expected = gradient_of(each, gradient), recorded[f"{prefix}.d_{each.name}"]
        if each.name.endswith("qkv.bias"):
            third = len(expected) // 3
            found, expected = (
                np.delete(values, slice(third, 2 * third)) for values in (found, expected)
            )
        assert_close(found, expected)


def make_layer(dim, heads, *, window=7, depth=2, rate=0.0, checkpoint=False, downsample=True):
    return BasicLayer(
        dim,
        heads,
        window_size=window,
        mlp_ratio=4.0,
        qkv_bias=True,
        qk_scale=0.0,
        drop_path_rates=[rate] * depth,
        downsample=downsample,
        use_checkpoint=checkpoint,
    )


@pytest.mark.parametrize("case", ["exact", "pad", "one", "less", "w4", "w12"])
def test_masks(case):
    with np.load(DATA / "vitdet" / "ops" / "swin_masks.npz") as arrays:
        recorded = {key[len(case) + 1 :]: arrays[key] for key in arrays if key.startswith(case)}
    height, width, window = recorded["hw_window"].tolist()
    index = relative_position_index(window)
    np.testing.assert_array_equal(index, recorded["relative_position_index"])
    # In the order in which Detectron2 has the windows: by the place of their first token.
    shift = window // 2
    masks = shift_masks(window, shift)
    rows, columns = -(-height // window), -(-width // window)
    found = [
        masks[2 * (row == rows - 1) + (column == columns - 1)]
        for row in range(rows)
        for column in range(columns)
    ]
    found = [np.zeros_like(index) if mask is None else mask for mask in found]
    np.testing.assert_array_equal(found, recorded["mask"])


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("height", "width"), [(15, 23), (14, 21), (5, 6), (7, 7)])
def test_windows_are_of_the_padded_and_rolled_map(height, width, known):
    window, shift = 7, 3
    x = np.arange(1, 2 * height * width + 1, dtype=np.int32).reshape(2, height, width, 1)
    padded = np.pad(x, [(0, 0), (0, -height % window), (0, -width % window), (0, 0)])
    rolled = np.roll(padded, (-shift, -shift), (1, 2))
    rows, columns = (side // window for side in rolled.shape[1:3])
    cut = rolled.reshape(2, rows, window, columns, window).transpose(0, 1, 3, 2, 4)
    cut = cut.reshape(2 * rows * columns, -1)
    masks = [
        2 * (row == rows - 1) + (column == columns - 1)
        for _ in range(2)
        for row in range(rows)
        for column in range(columns)
    ]

    def make(x):
        windows = make_windows(x, WHOLE, window, shift)
        return [tokens for _, tokens in windows.groups], windows.places

    shape = x.shape if known else [None, None, None, 1]
    groups, places = tf.function(make, [tf.TensorSpec(shape, tf.int32)], autograph=False)(x)
    with_zero = np.pad(x.reshape(2, -1), [(0, 0), (0, 1)]).ravel()
    found = [with_zero[tokens] for tokens in groups if len(tokens)]
    by_mask = [cut[np.array(masks) == mask] for mask in range(4) if mask in masks]
    for ours, expected in zip(found, by_mask, strict=True):
        np.testing.assert_array_equal(ours, expected)
    back = np.concatenate(found).ravel()[places.numpy()]
    np.testing.assert_array_equal(back, x.reshape(2, -1))


def test_masked_attention(implementation, blocks):
    """Of windows of a map of 14 x 21 tokens, which are here made from it."""
    prefix = "attention_masked"
    attn = WindowAttention(24, 7, 3)
    seed_variables(attn, f"{prefix}.")

    def as_map(name):
        windows = blocks[f"{prefix}.{name}"].reshape(2, 2, 3, 7, 7, -1)
        rolled = windows.transpose(0, 1, 3, 2, 4, 5).reshape(2, 14, 21, -1)
        return np.roll(rolled, (3, 3), (1, 2))

    x, dy, expected, dx = (as_map(name) for name in ("x", "dy", "y", "dx"))
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = attn(x, make_windows(x, WHOLE, 7, 3))
        recorded = blocks | {f"{prefix}.dy": dy, f"{prefix}.dx": dx}
        assert_outputs_close(y, expected)
        assert_same_gradients(attn, recorded, prefix, y, x, tape)


@pytest.mark.parametrize("case", ["layer_pad", "layer_less"])
def test_stage(implementation, blocks, case):
    layer = make_layer(12, 3)
    seed_variables(layer, f"{case}.")
    height, width = blocks[f"{case}.hw"]
    x = tf.constant(blocks[f"{case}.x"].reshape(2, height, width, 12))
    with tf.GradientTape() as tape:
        tape.watch(x)
        before, y = layer(x)
        for found, name in ((before, "before_merging"), (y, "y")):
            expected = blocks[f"{case}.{name}"].reshape([*found.shape[:-1], -1])
            assert_outputs_close(found, expected)
        assert_same_gradients(layer, blocks, case, y, x, tape)


def test_merging_of_odd_sizes(blocks):
    merging = PatchMerging(6)
    seed_variables(merging, "merge_odd.")
    x = tf.constant(blocks["merge_odd.x"].reshape(2, 5, 7, 6))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = merging(x)
        assert_outputs_close(y, blocks["merge_odd.y"].reshape(2, 3, 4, -1))
        assert_same_gradients(merging, blocks, "merge_odd", y, x, tape)


def test_patch_embed():
    with np.load(DATA / "vitdet" / "ops" / "patch_embed.npz") as arrays:
        recorded = dict(arrays)
    embed = PatchEmbed(4, 10, norm=True)
    seed_variables(embed, "swin4.")
    y = embed(tf.constant(recorded["x"].transpose(0, 2, 3, 1)))
    assert_close(y, recorded["swin4"].transpose(0, 2, 3, 1))


NARROW = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "out_indices": [0, 1]}


def narrow(**options):
    return randomized(SwinTransformer(**NARROW | options))


def test_an_image_of_a_batch_gets_what_it_gets_alone():
    model = narrow(window_size=4, ape=True, pretrain_img_size=32)
    _, of_none = check_each_image_of_a_batch(model)
    assert of_none["p1"].shape == (0, 10, 16, 16)


def test_checkpointing_and_drop_path_have_the_same_gradients():
    """The branches that are dropped are those of the first time: 1e-5 of the gradients' scale."""
    images = tf.constant(np.random.default_rng(1).normal(size=[2, 24, 32, 3]), tf.float32)
    found = []
    for use_checkpoint in (False, True):
        model = narrow(window_size=4, drop_path_rate=0.5, use_checkpoint=use_checkpoint)

        # Not traced, which takes most of the time: ViT is.
        def gradients(images, model=model):
            with tf.GradientTape() as tape, drop_paths(tf.constant([[1, 2], [3, 4]])):
                loss = tf.add_n([tf.reduce_sum(y**2) for y in model(images).values()])
            return loss, tape.gradient(loss, model.trainable_variables)

        found.append(gradients(images))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    assert not np.isclose(found[0][0], sum(np.sum(y**2) for y in model(images).values()), rtol=1e-3)
    for kept, again in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(again, kept, rtol=0, atol=1e-5 * np.abs(kept).max())


@pytest.mark.parametrize(
    ("frozen", "prefixes"),
    [
        (-1, []),
        (0, ["patch_embed."]),
        (1, ["patch_embed.", "absolute_pos_embed"]),
        (2, ["patch_embed.", "absolute_pos_embed", "layers.0."]),
        (3, ["patch_embed.", "absolute_pos_embed", "layers.0.", "layers.1."]),
    ],
)
def test_frozen_stages(frozen, prefixes):
    model = SwinTransformer(**NARROW, ape=True, frozen_stages=frozen)
    for named in named_variables(model):
        trains = not named.name.startswith(tuple(prefixes))
        assert named.variable.trainable == trains, named.name
