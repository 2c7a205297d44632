"""ViT, Swin and MViT by the names and shapes of their arrays: what is said of them is so."""

from __future__ import annotations

# ruff: noqa: E501 - messages, a line each
import gzip
import json
import re

import numpy as np
import pytest
import tensorflow as tf

from convert_d2.inspection import describe
from convert_d2.libraries.architecture import architecture, differences
from convert_d2.libraries.transformers import describe_transformer, transformer
from tests.support.paths import DATA
from tests.support.transformer_models import (
    imagenet_mvit,
    imagenet_swin,
    names_and_shapes,
    narrow_config,
)
from tfdetect.checkpoint.formats.pickle_writer import pickle_arrays
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.modeling.build import build_backbone

with gzip.open(DATA / "vitdet" / "state_dicts.json.gz", "rt") as _file:
    RECORDED = json.load(_file)
with gzip.open(DATA / "vitdet" / "settings.json.gz", "rt") as _file:
    SETTINGS = json.load(_file)
COCO = "ViTDet/COCO/"


def shapes_of(name):
    return {key: tuple(shape) for key, shape in RECORDED[name].items()}


def write(path, shapes):
    """A file of arrays of one byte an element, so that a real model's is small."""
    arrays = {name: np.zeros(shape, np.uint8) for name, shape in shapes.items()}
    path.write_bytes(pickle_arrays(arrays, "Detectron2 Model Zoo"))
    return path


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_what_is_found_is_what_the_yaml_says(name):
    found = architecture(shapes_of(name))
    assert differences(load_config(name), found) == {}
    kind = {"vitdet": "VIT", "swin": "SWIN", "mvitv2": "MVIT"}[
        re.search("vitdet|swin|mvitv2", name.rpartition("/")[2])[0]
    ]
    shown = {key for key in found if key.startswith(f"MODEL.{kind}.")}
    assert len(shown) >= 10
    windows = {"VIT": "WINDOW_BLOCK_INDEXES", "SWIN": "WINDOW_SIZE"}
    if kind in windows:
        assert f"MODEL.{kind}.{windows[kind]}" in found


def backbone_of(cfg):
    """What is found in the arrays of a configuration's backbone alone."""
    with tf.Graph().as_default():
        backbone = build_backbone(cfg)
        shapes = {named.name: named.foreign_shape for named in named_variables(backbone)}
    body = "bottom_up." if "fpn" in cfg.MODEL.BACKBONE.NAME else "net."
    return transformer(shapes, body)


CHANGED = [
    ("vit", ["MODEL.VIT.WINDOW_SIZE", 2], {"MODEL.VIT.WINDOW_SIZE": (3, 2)}),
    ("vit", ["MODEL.VIT.WINDOW_BLOCK_INDEXES", [1]], {"MODEL.VIT.WINDOW_BLOCK_INDEXES": ([0, 2], [1])}),
    ("vit", ["MODEL.VIT.IMG_SIZE", 128], {"MODEL.VIT.IMG_SIZE": (64, 128)}),
    ("vit", ["MODEL.VIT.IMG_SIZE", 79], {}),  # as many patches
    ("vit", ["MODEL.VIT.PRETRAIN_USE_CLS_TOKEN", False], {"MODEL.VIT.PRETRAIN_USE_CLS_TOKEN": (True, False)}),
    ("vit", ["MODEL.VIT.MLP_RATIO", 3.99], {"MODEL.VIT.MLP_RATIO": (4.0, 63 / 16)}),
    ("vit", ["MODEL.VIT.RESIDUAL_BLOCK_INDEXES", [2]], {"MODEL.VIT.RESIDUAL_BLOCK_INDEXES": ([], [2])}),
    ("swin", ["MODEL.SWIN.WINDOW_SIZE", 12], {"MODEL.SWIN.WINDOW_SIZE": (7, 12)}),
    ("swin", ["MODEL.SWIN.APE", True, "MODEL.SWIN.PRETRAIN_IMG_SIZE", 64], {"MODEL.SWIN.APE": (False, True), "MODEL.SWIN.PRETRAIN_IMG_SIZE": (224, 64)}),
    ("swin", ["MODEL.SWIN.DEPTHS", [1, 1, 1, 2]], {"MODEL.SWIN.DEPTHS": ([1, 2, 1, 1], [1, 1, 1, 2])}),
    ("swin", ["MODEL.SWIN.PATCH_NORM", False, "MODEL.SWIN.QKV_BIAS", False], {"MODEL.SWIN.PATCH_NORM": (True, False), "MODEL.SWIN.QKV_BIAS": (True, False)}),
    ("mvit", ["MODEL.MVIT.IMG_SIZE", 512], {"MODEL.MVIT.IMG_SIZE": (224, 512)}),
    ("mvit", ["MODEL.MVIT.DEPTH", 5, "MODEL.MVIT.LAST_BLOCK_INDEXES", [0, 1, 2, 4]], {"MODEL.MVIT.DEPTH": (4, 5), "MODEL.MVIT.LAST_BLOCK_INDEXES": ([0, 1, 2, 3], [0, 1, 2, 4])}),
    ("mvit", ["MODEL.MVIT.DEPTH", 5], {"MODEL.MVIT.DEPTH": (4, 5)}),  # one behind the last stage
    ("mvit", ["MODEL.MVIT.NUM_HEADS", 2, "MODEL.MVIT.USE_ABS_POS", True], {"MODEL.MVIT.NUM_HEADS": (1, 2), "MODEL.MVIT.USE_ABS_POS": (False, True)}),
    ("mvit", ["MODEL.MVIT.QKV_POOL_KERNEL", [5, 5]], {"MODEL.MVIT.QKV_POOL_KERNEL": ([3, 3], [5, 5])}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "expected"), CHANGED, ids=range(len(CHANGED)))
def test_what_differs_from_a_configuration_is_named(kind, options, expected):
    """In that configuration's units, and nothing else."""
    found = backbone_of(narrow_config(kind, options))
    assert differences(narrow_config(kind), found) == expected


@pytest.mark.parametrize(
    "options",
    [
        ["MODEL.VIT.USE_REL_POS", False],
        ["MODEL.VIT.WINDOW_SIZE", 4],  # of windows as of whole images
        ["MODEL.VIT.WINDOW_BLOCK_INDEXES", []],
    ],
)
def test_windows_that_do_not_show_are_not_claimed(options):
    cfg = narrow_config("vit", options)
    found = backbone_of(cfg)
    assert differences(cfg, found) == {}
    assert not any("WINDOW" in key or key.endswith("VIT.IMG_SIZE") for key in found)
    heads = "" if "REL_POS" in options[0] else " and 2 heads"
    said = describe_transformer(found)
    assert said == f"3 blocks of 16 channels{heads}; windows do not show in its arrays"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{COCO}mask_rcnn_vitdet_b_100ep", ["GeneralizedRCNN, ViT with a simple feature pyramid, StandardROIHeads, boxes, masks", "ViT: 12 blocks of 768 channels and 12 heads; windows of 14 x 14 tokens in 8 of them", f"configs:      {COCO}mask_rcnn_vitdet_b_100ep (have"]),
        (f"{COCO}cascade_mask_rcnn_swin_b_in21k_50ep", ["GeneralizedRCNN, Swin-FPN, CascadeROIHeads, boxes, masks", "Swin: stages of 2, 2, 18 and 2 blocks with 4, 8, 16 and 32 heads, 128 channels in the first; windows of 7 x 7 tokens", f"configs:      {COCO}cascade_mask_rcnn_swin_b_in21k_50ep (have"]),
        ("MViTv2/cascade_mask_rcnn_mvitv2_b_3x", ["GeneralizedRCNN, MViT-FPN, CascadeROIHeads", "MViT: 24 blocks in stages that end with 1, 4, 20 and 23, 96 channels and 1 head in the first; windows do not show in its arrays", "configs:      MViTv2/cascade_mask_rcnn_mvitv2_b_3x, MViTv2/cascade_mask_rcnn_mvitv2_b_in21k_3x (have"]),
    ],
)  # fmt: skip
def test_inspect(name, expected, tmp_path):
    said = describe(write(tmp_path / "x.pkl", shapes_of(name)))
    for text in expected:
        assert text in said
    # With the statistics of norms, and without counters and Swin's indices of tables.
    statistics = sum(shape[0] for key, shape in RECORDED[name].items() if "running" in key)
    count = SETTINGS[name]["parameters_counted"] + statistics
    assert f"{count:,} in {len(RECORDED[name])} arrays" in said


def test_imagenet_backbones(tmp_path):
    """Not detectors; what they are is said all the same, of convolutions over one frame too."""
    swin, mvit = (
        f(narrow_config(k)) for f, k in ((imagenet_swin, "swin"), (imagenet_mvit, "mvit"))
    )
    of_frames = {name: x[:, :, None] if x.ndim == 4 else x for name, x in mvit.items()}
    for arrays, library, backbone in (
        (swin, "a Swin Transformer", "Swin: stages of 1, 2, 1 and 1 blocks"),
        (mvit, "an MViT", "MViT: 4 blocks in stages"),
        (of_frames, "an MViT", "MViT: 4 blocks in stages"),
    ):
        path = tmp_path / "x.pkl"
        path.write_bytes(pickle_arrays(arrays, "me"))
        said = describe(path)
        assert f"{library} (a backbone)" in said
        assert "not a detector (a backbone, or an unknown model)" in said
        assert backbone in said
        assert "configs" not in said


@pytest.mark.parametrize("kind", ["vit", "swin", "mvit"])
def test_arrays_that_are_missing_or_of_impossible_shapes(kind, tmp_path):
    """Whatever is wrong with a file, what it is said to be comes in a few lines."""
    shapes = names_and_shapes(narrow_config(kind))
    rng = np.random.default_rng(0)
    names = [name for name in shapes if name.startswith("backbone")]
    for trial in range(8):
        changed = dict(shapes)
        for name in rng.choice(names, 3):
            changed[name] = tuple(rng.integers(0, 4, size=rng.integers(0, 5)))
        for name in rng.choice(names, 3 * (trial % 2)):
            changed.pop(name, None)
        said = describe(write(tmp_path / "x.pkl", changed))
        assert 4 <= len(said.splitlines()) <= 8


def test_widths_that_are_not_looked_at_are_not_said_to_differ():
    found = architecture(shapes_of("MViTv2/mask_rcnn_mvitv2_t_3x"))
    cfg = load_config("MViTv2/mask_rcnn_mvitv2_t_3x", ["MODEL.RPN.CONV_DIMS", [256]])
    assert differences(cfg, found) == {}
    cfg = load_config("MViTv2/mask_rcnn_mvitv2_t_3x", ["MODEL.RPN.CONV_DIMS", [-1, -1]])
    assert differences(cfg, found) == {"MODEL.RPN.CONV_DIMS": ([-1, -1], [-1])}


def test_other_names_are_no_transformer():
    assert transformer({"patch_embed.proj.weight": (8, 3, 4, 4), "head.weight": (3, 8)}) == {}
