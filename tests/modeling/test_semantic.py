"""The semantic head and what is made of its logits."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.config import get_cfg
from tfdetect.errors import InputError
from tfdetect.modeling.semantic import (
    SemSegFPNHead,
    build_sem_seg_head,
    enlarge_logits,
    semantic_labels,
)
from tfdetect.ops.interpolate import bilinear_rows


@pytest.mark.parametrize("name", ["bilinear2x", "down", "up"])
def test_rows_are_those_of_the_whole(oracle, name):
    """1e-5 of the scale: of the record's doubling, and of `tf.image.resize` at other sizes."""
    data = oracle("interpolate")
    maps = np.transpose(data["x"][0], [1, 2, 0])
    if name == "bilinear2x":
        expected = np.transpose(data[name][0], [1, 2, 0])
    else:
        expected = tf.image.resize(maps, [5, 4] if name == "down" else [31, 17]).numpy()
    size = tf.constant(expected.shape[:2])
    rows = np.arange(len(expected))[::-2]
    found = bilinear_rows(tf.constant(maps), tf.constant(rows), size)
    np.testing.assert_allclose(found, expected[rows], rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("size", [(3, 5), (64, 40), (150, 7), (1, 1)])
def test_labels_do_not_depend_on_the_strips(size):
    """The whole at once: enlarge to the padded size, crop, resize, argmax."""
    logits = np.random.default_rng(0).normal(size=[6, 8, 5]).astype(np.float32)
    enlarged = enlarge_logits(tf.constant(logits), [24, 32], [21, 30])
    whole = tf.image.resize(logits, [24, 32])[:21, :30]
    np.testing.assert_array_equal(enlarged, whole)
    labels = tf.function(semantic_labels, autograph=False)(enlarged, tf.constant(size))
    assert labels.dtype == tf.int32
    np.testing.assert_array_equal(labels, np.argmax(tf.image.resize(whole, size), 2))


def test_levels_are_brought_to_the_common_stride_and_summed():
    """Convolutions as identities: what is left is ReLU, bilinear doubling and the sum."""
    cfg = get_cfg()
    head_cfg = cfg.MODEL.SEM_SEG_HEAD
    head_cfg.IN_FEATURES, head_cfg.NORM = ["p4", "p2", "p3"], ""
    head_cfg.CONVS_DIM, head_cfg.NUM_CLASSES = 3, 3
    head = SemSegFPNHead.from_config(
        cfg, {"p2": (3, 4), "p3": (3, 8), "p4": (3, 16), "p5": (3, 32)}
    )
    for variable in head.trainable_variables:
        if len(variable.shape) == 4:
            kernel = np.zeros(variable.shape, np.float32)
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = np.eye(3)
            variable.assign(kernel)
    rng = np.random.default_rng(0)
    features = {
        f"p{level}": rng.normal(size=[1, 16 // 2**level, 32 // 2**level, 3]).astype(np.float32)
        for level in (2, 3, 4)
    }
    relu = {name: np.maximum(feature, 0) for name, feature in features.items()}
    expected = relu["p2"] + tf.image.resize(relu["p3"], [4, 8])
    expected += tf.image.resize(tf.image.resize(relu["p4"], [2, 4]), [4, 8])
    np.testing.assert_allclose(head(features), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("NAME", "DeepLabV3Head", "NAME: 'DeepLabV3Head' is not supported"),
        ("IN_FEATURES", ["p2", "p9"], "IN_FEATURES: 'p9' is not a feature of the backbone"),
        ("IN_FEATURES", [], "IN_FEATURES: is empty"),
        ("COMMON_STRIDE", 8, "COMMON_STRIDE: p2 of stride 4 does not come to 8"),
        ("COMMON_STRIDE", 3, "COMMON_STRIDE: p2 of stride 4 does not come to 3"),
    ],
)
def test_unusable_options_are_named(key, value, message):
    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD[key] = value
    with pytest.raises(InputError) as caught:
        build_sem_seg_head(cfg, {f"p{level}": (8, 2**level) for level in (2, 3, 4, 5)})
    assert str(caught.value).startswith(f"MODEL.SEM_SEG_HEAD.{message}")
