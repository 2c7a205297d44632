"""MViT's parts against Detectron2's, with gradients; images of a batch alone.

Within 1e-5 of the largest magnitude of outputs, and 2e-5 of gradients: float32 sums in another
order.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import DATA
from tfdetect.checkpoint.names import named_variables
from tfdetect.layers.depthwise_conv import DepthwiseConv2d
from tfdetect.layers.drop_path import drop_paths
from tfdetect.layers.norm import LayerNorm
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.backbone.mvit import MultiScaleBlock, MViT, PatchEmbed, max_pool_tokens

with np.load(DATA / "vitdet/ops/mvit_blocks.npz") as _arrays:
    RECORDED = dict(_arrays)
BLOCKS = sorted({name.split(".")[0] for name in RECORDED if name.startswith("block_")})


def set_variables(module, arrays):
    """Give a module the recorded parameters, of which none may be left."""
    variables = {named.name: named for named in named_variables(module)}
    assert set(variables) == set(arrays)
    for name, named in variables.items():
        named.variable.assign(named.from_foreign(arrays[name]))
    return variables


def assert_close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def make_block(arguments):
    side = arguments.pop("input_size")[0]
    return MultiScaleBlock(
        arguments.pop("dim"),
        arguments.pop("dim_out"),
        arguments.pop("num_heads"),
        rel_pos_size=side,
        **arguments,
    )


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.usefixtures("implementation")
def test_block(name):
    prefix = f"{name}."
    arrays = {key.removeprefix(prefix): RECORDED[key] for key in RECORDED if key.startswith(prefix)}
    x, y, dy, dx = (arrays.pop(key) for key in ("x", "y", "dy", "dx"))
    arguments = json.loads(str(arrays.pop("arguments")))
    windows = "window_size" in arguments
    module = make_block(arguments)
    slopes = {key[2:]: arrays.pop(key) for key in list(arrays) if key.startswith("d_")}
    variables = set_variables(module, arrays)
    assert set(slopes) == set(variables)

    signature = [tf.TensorSpec([None, None, None, x.shape[3]])]

    @tf.function(input_signature=signature, autograph=False)
    def compute(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = module(x)
        inputs = [x, *(named.variable for named in variables.values())]
        return result, [tf.convert_to_tensor(g) for g in tape.gradient(result, inputs, dy)]

    result, (of_x, *found) = compute(x)
    assert_close(result, y)
    # The last image is 100 times smaller: a wrong epsilon shows there.
    assert_close(result[-1], y[-1])
    assert_close(of_x, dx, 2e-5)
    assert_close(module(tf.constant(x)), y)
    for (key, named), gradient in zip(variables.items(), found, strict=True):
        if key == "attn.norm_k.bias" and not windows:
            # Softmax does not see what all keys have in common: rounding, here and there.
            least = 1e-4 * np.abs(slopes["attn.norm_k.weight"]).max()
            assert max(np.abs(gradient).max(), np.abs(slopes[key]).max()) < least
            continue
        assert_close(gradient, named.from_foreign(slopes[key]), 2e-5)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_pool(stride):
    pool, norm = DepthwiseConv2d(8, 3, stride), LayerNorm(8, 1e-6)
    set_variables(pool, {"weight": RECORDED[f"pool{stride}.weight"]})
    set_variables(
        norm, {name: RECORDED[f"pool{stride}.norm.{name}"] for name in ("weight", "bias")}
    )
    x = RECORDED["pool_x"]
    # Of two heads, both alike.
    y = pool(tf.concat([x, 2 * x], -1))
    assert_close(y[..., :8], RECORDED[f"pool{stride}_without_norm"])
    assert_close(y[..., 8:], 2 * RECORDED[f"pool{stride}_without_norm"])
    assert_close(norm(y[..., :8]), RECORDED[f"pool{stride}"])
    assert pool(tf.zeros([0, 13, 18, 8])).shape == (0, *y.shape[1:3], 8)


def test_pool_of_what_is_beside_the_attention():
    x = tf.constant(RECORDED["pool_x"])
    np.testing.assert_array_equal(max_pool_tokens(x, 2, WHOLE), RECORDED["pool_skip"])


def test_patch_embed():
    with np.load(DATA / "vitdet/ops/mvit_patch_embed.npz") as arrays:
        module = PatchEmbed(7, 4, arrays["mvit7"].shape[-1])
        set_variables(
            module, {name: arrays[f"mvit7.{name}"] for name in ("proj.weight", "proj.bias")}
        )
        assert_close(module(tf.constant(arrays["x"].transpose(0, 2, 3, 1))), arrays["mvit7"])


NARROW = {
    "img_size": 64,
    "embed_dim": 8,
    "depth": 5,
    "last_block_indexes": [0, 1, 3, 4],
    "adaptive_window_size": 8,
    "pretrain_img_size": 32,
}


def randomized(**options):
    """A narrow backbone with weights of the order of 0.3, so that everything shows."""
    model = MViT(**NARROW | options)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(variable + 0.3 * rng.normal(size=variable.shape))
    return model


@pytest.mark.parametrize("positions", [True, pytest.param(False, marks=pytest.mark.full)])
def test_an_image_of_a_batch_gets_what_it_gets_alone(positions):
    """Beside an image that is larger in one axis, or both: 1e-4 of features of the order of 1."""
    model = randomized(use_abs_pos=positions, use_rel_pos=positions)
    sizes = np.array([[61, 90], [75, 41], [17, 122]], np.int32)
    images = np.random.default_rng(1).normal(size=[3, 75, 122, 3]).astype(np.float32)
    for image, (height, width) in zip(images, sizes, strict=True):
        image[height:] = image[:, width:] = 0

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, 2], tf.int32)],
        autograph=False,
    )
    def run(images, sizes):
        return model(images, ValidSizes(sizes))

    together = run(images, sizes)
    for index, (height, width) in enumerate(sizes):
        alone = model(tf.constant(images[index : index + 1, :height, :width]))
        assert set(alone) == {"scale2", "scale3", "scale4", "scale5"}
        for name, expected in alone.items():
            rows, columns = expected.shape[1:3]
            found = together[name][index, :rows, :columns]
            np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-4, err_msg=name)
    for feature in together.values():
        assert np.isfinite(feature).all()
    assert {level.shape[0] for level in run(images[:0], sizes[:0]).values()} == {0}


def test_activation_checkpoints_change_nothing():
    """The gradients of a step with drop path are those without checkpoints."""
    images = np.random.default_rng(2).normal(size=[2, 32, 32, 3]).astype(np.float32)
    short = {"depth": 4, "last_block_indexes": [0, 1, 2, 3]}
    found = []
    for checkpoint in (False, True):
        model = randomized(drop_path_rate=0.5, use_act_checkpoint=checkpoint, **short)

        @tf.function(autograph=False)
        def compute(model=model):
            with drop_paths(tf.constant([[1, 2], [3, 4]])), tf.GradientTape() as tape:
                features = model(images)
                loss = tf.add_n([tf.reduce_mean(tf.square(x[..., :3])) for x in features.values()])
            gradients = tape.gradient(loss, model.trainable_variables)
            return [loss, *map(tf.convert_to_tensor, gradients)]

        found.append(compute())
    without_drops = randomized(**short)(images)["scale5"]
    assert len(found[0]) == 1 + len(model.trainable_variables)
    for plain, checkpointed in zip(*found, strict=True):
        scale = np.abs(plain).max()
        # Of a key's bias without windows there is rounding alone: softmax does not see it.
        np.testing.assert_allclose(checkpointed, plain, rtol=0, atol=1e-5 * scale + 1e-7)
    with drop_paths(tf.constant([[1, 2], [3, 4]])):
        assert np.abs(model(images)["scale5"] - without_drops).max() > 1e-3
