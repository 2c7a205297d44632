"""A ViT whose images are all padded to one square has its positions interpolated once."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.test_linear import seeded
from tfdetect.inference.optimization import optimize
from tfdetect.modeling.backbone.vit import ViT
from tfdetect.ops.backend import Backend


def narrow(**options):
    return seeded(ViT(embed_dim=12, depth=0, num_heads=2, pretrain_img_size=64, **options))


def positions(vit, *size):
    """What a ViT without blocks adds to an image without contrast, and the types of operations."""

    @tf.function(autograph=False)
    def call():
        x = tf.zeros([1, *size, 3], tf.convert_to_tensor(vit.patch_embed.proj.bias).dtype)
        return vit(x)["last_feat"] - vit.patch_embed(x)

    graph = call.get_concrete_function().graph
    return call().numpy(), {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("has_cls_token", [True, False])
def test_positions_of_the_square(has_cls_token):
    """Those of any other size are still interpolated from the table that was trained."""
    vit = narrow(square_pad=100, pretrain_use_cls_token=has_cls_token)
    stored = optimize(vit, Backend())
    assert vit.square_positions is None
    assert stored.square_positions.shape == [1, 6, 6, 12]
    for size in ((100, 100), (96, 111), (64, 64), (130, 48)):
        wanted, before = positions(vit, *size)
        found, types = positions(stored, *size)
        np.testing.assert_array_equal(found, wanted)
        assert ("MatMul" in before, "MatMul" in types) == (size != (64, 64), size == (130, 48))


def test_what_has_no_square():
    assert optimize(narrow(), Backend()).square_positions is None
    assert optimize(narrow(square_pad=96, use_abs_pos=False), Backend()).square_positions is None


def test_bfloat16():
    """Rounded once, as they were in every call."""
    vit = narrow(square_pad=96)
    stored = optimize(vit, Backend(dtype="bfloat16"))
    assert stored.square_positions.dtype == tf.bfloat16
    wanted = tf.cast(vit.make_square_positions(), tf.bfloat16)
    np.testing.assert_array_equal(stored.square_positions, wanted)
