"""RegNet's widths and depths, and what its parameters may not be."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import ROOT
from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.modeling.backbone.regnet import (
    ResBottleneckBlock,
    build_regnet,
    stage_widths_and_depths,
)

CONFIG = ROOT / "configs/new_baselines/mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ.yaml"


def test_published_networks():
    """RegNetX and RegNetY 4GF of the paper's tables (Designing Network Design Spaces)."""
    assert stage_widths_and_depths(23, 38.65, 96, 2.43, 40) == ([80, 240, 560, 1360], [2, 5, 14, 2])
    assert stage_widths_and_depths(22, 31.41, 96, 2.24, 64) == (
        [128, 192, 512, 1088],
        [2, 6, 12, 2],
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("W_0", 90), ("W_M", 1.0), ("DEPTH", 0), ("OUT_FEATURES", ["s9"]), ("GROUP_WIDTH", -1)],
)
def test_impossible_parameters_are_named(key, value):
    cfg = load_config(CONFIG, [f"MODEL.REGNETS.{key}", value])
    with pytest.raises(InputError, match=rf"^MODEL\.REGNETS\.{key}: "):
        build_regnet(cfg)


def test_block_of_regnety():
    """The block spelled out: 1 x 1, grouped 3 x 3 of stride 2, squeeze-and-excitation, 1 x 1."""
    block = ResBottleneckBlock(6, 8, stride=2, groups=2, se=3, norm="BN")
    rng = np.random.default_rng(0)
    for variable in block.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape) * rng.choice([-1, 1]))
    for norm in (block.bn, block.f.a_bn, block.f.b_bn, block.f.c_bn):
        norm.running_var.assign(rng.uniform(0.5, 1.5, [8]))
    x = rng.normal(size=[2, 5, 7, 6])

    def normalize(norm, y):
        scale = norm.weight.numpy() / np.sqrt(norm.running_var.numpy() + 1e-5)
        return (y - norm.running_mean.numpy()) * scale + norm.bias.numpy()

    def pointwise(conv, y):
        return y @ conv.weight.numpy()[0, 0] + (0 if conv.bias is None else conv.bias.numpy())

    y = np.maximum(normalize(block.f.a_bn, pointwise(block.f.a, x)), 0)
    padded = np.pad(y, [(0, 0), (1, 1), (1, 1), (0, 0)])
    taps = np.stack([padded[:, i : i + 5 : 2, j : j + 7 : 2] for i in range(3) for j in range(3)])
    weight = block.f.b.weight.numpy().reshape(9, 4, 8)
    halves = [
        np.einsum("tbhwi,tio->bhwo", taps[..., at], weight[..., at])
        for at in (slice(0, 4), slice(4, 8))
    ]
    y = np.maximum(normalize(block.f.b_bn, np.concatenate(halves, -1)), 0)
    squeezed = np.maximum(pointwise(block.f.se.f_ex["0"], y.mean((1, 2), keepdims=True)), 0)
    y = y / (1 + np.exp(-pointwise(block.f.se.f_ex["2"], squeezed)))
    y = normalize(block.f.c_bn, pointwise(block.f.c, y))
    expected = np.maximum(normalize(block.bn, pointwise(block.proj, x[:, ::2, ::2])) + y, 0)
    result = block(tf.constant(x, tf.float32))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * expected.max())
