"""Values of ViT and its pyramid that are rejected before anything is built, each in a line."""

from __future__ import annotations

import math
import re

import pytest

from tests.support.paths import ROOT
from tfdetect.config import load_config
from tfdetect.config.checks import check_model
from tfdetect.errors import InputError

PATH = ROOT / "configs" / "COCO-InstanceSegmentation" / "mask_rcnn_R_50_FPN_1x.yaml"
VIT = ["MODEL.BACKBONE.NAME", "build_vit_simple_feature_pyramid_backbone"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("VIT.NUM_HEADS", 0),
        ("VIT.NUM_HEADS", 11),
        ("VIT.IMG_SIZE", 8),
        ("VIT.PRETRAIN_IMG_SIZE", 15),
        ("VIT.MLP_RATIO", 0.0),
        ("VIT.MLP_RATIO", math.nan),
        ("VIT.DROP_PATH_RATE", 1.0),
        ("VIT.WINDOW_SIZE", -1),
        ("VIT.WINDOW_BLOCK_INDEXES", [0, -1]),
        ("VIT.PATCH_SIZE", 12),
        ("VIT.PATCH_SIZE", 2),
        ("VIT.DEPTH", None),
        ("SIMPLE_FEATURE_PYRAMID.SCALE_FACTORS", []),
        ("SIMPLE_FEATURE_PYRAMID.SCALE_FACTORS", [8.0, 4.0]),
        ("SIMPLE_FEATURE_PYRAMID.SCALE_FACTORS", [4.0, 1.0]),
        ("SIMPLE_FEATURE_PYRAMID.NORM", ""),
        ("SIMPLE_FEATURE_PYRAMID.OUT_CHANNELS", 0),
    ],
)
def test_rejected(key, value):
    cfg = load_config(PATH, [*VIT, f"MODEL.{key}", value])
    with pytest.raises(InputError, match=f"^{re.escape(f'MODEL.{key}: ')}") as caught:
        check_model(cfg)
    assert "\n" not in str(caught.value)


def test_only_of_a_model_that_has_it():
    check_model(load_config(PATH, VIT))
    check_model(load_config(PATH, ["MODEL.VIT.NUM_HEADS", 0]))
