"""Values of MODEL.SWIN that are rejected before anything is built, each in a line."""

from __future__ import annotations

import math

import pytest

from tests.support.paths import ROOT
from tfdetect.config import load_config
from tfdetect.config.checks import check_model
from tfdetect.errors import InputError

PATH = ROOT / "configs" / "COCO-InstanceSegmentation" / "mask_rcnn_R_50_FPN_1x.yaml"
SWIN = ["MODEL.BACKBONE.NAME", "build_swin_fpn_backbone"]
SWIN += ["MODEL.FPN.IN_FEATURES", ["p0", "p1", "p2", "p3"]]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("WINDOW_SIZE", 0),
        ("WINDOW_SIZE", -7),
        ("EMBED_DIM", 0),
        ("PATCH_SIZE", 8),
        ("PATCH_SIZE", 0),
        ("DEPTHS", []),
        ("DEPTHS", [2, 2, 0, 2]),
        ("DEPTHS", [2, 2, 2.5, 2]),
        ("NUM_HEADS", [4, 8, 16]),
        ("NUM_HEADS", [4, 8, 16, 0]),
        ("NUM_HEADS", [5, 8, 16, 32]),
        ("NUM_HEADS", [4, 8, 16, 48]),
        ("MLP_RATIO", 0.0),
        ("MLP_RATIO", 0.001),
        ("MLP_RATIO", math.inf),
        ("QK_SCALE", math.nan),
        ("DROP_PATH_RATE", 1.5),
        ("DROP_PATH_RATE", -0.1),
        ("OUT_INDICES", []),
        ("OUT_INDICES", [0, 0, 1, 2]),
        ("OUT_INDICES", [0, 1, 2, 4]),
        ("OUT_INDICES", [-1, 1, 2, 3]),
        ("FROZEN_STAGES", -2),
        ("FROZEN_STAGES", 6),
        ("WINDOW_SIZE", None),
    ],
)
def test_rejected(key, value):
    cfg = load_config(PATH, [*SWIN, f"MODEL.SWIN.{key}", value])
    with pytest.raises(InputError, match=rf"^MODEL\.SWIN\.{key}: ") as caught:
        check_model(cfg)
    assert "\n" not in str(caught.value)


def test_positions_of_less_than_a_patch():
    cfg = load_config(PATH, [*SWIN, "MODEL.SWIN.APE", True, "MODEL.SWIN.PRETRAIN_IMG_SIZE", 3])
    with pytest.raises(InputError, match=r"^MODEL\.SWIN\.PRETRAIN_IMG_SIZE: "):
        check_model(cfg)


def test_only_of_a_model_that_has_it():
    check_model(load_config(PATH, [*SWIN, "MODEL.SWIN.FROZEN_STAGES", 5]))
    check_model(load_config(PATH, ["MODEL.SWIN.WINDOW_SIZE", 0]))
