"""MODEL.MVIT: what is refused, in one line, before TensorFlow is loaded; and the plan of blocks."""

from __future__ import annotations

import math

import pytest

from tests.support.paths import ROOT
from tfdetect.config import load_config
from tfdetect.config.checks import check_model, model_sections
from tfdetect.config.mvit import plan_blocks
from tfdetect.errors import InputError

PATH = ROOT / "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
NAME = ["MODEL.BACKBONE.NAME", "build_mvit_fpn_backbone"]
REFUSED = [
    ("IMG_SIZE", 0),
    ("IMG_SIZE", 16),
    ("PATCH_KERNEL", [7]),
    ("PATCH_KERNEL", [7, 5]),
    ("PATCH_KERNEL", [4, 4]),
    ("PATCH_STRIDE", [3, 3]),
    ("PATCH_STRIDE", [0, 0]),
    ("PATCH_PADDING", [2, 2]),
    ("PATCH_PADDING", []),
    ("EMBED_DIM", 0),
    ("EMBED_DIM", -96),
    ("NUM_HEADS", 0),
    ("NUM_HEADS", 5),
    ("DEPTH", 3),
    ("LAST_BLOCK_INDEXES", []),
    ("LAST_BLOCK_INDEXES", [0, 2, 7]),
    ("LAST_BLOCK_INDEXES", [0, 2, 2, 9]),
    ("LAST_BLOCK_INDEXES", [0, 2, 7, 10]),
    ("LAST_BLOCK_INDEXES", [-1, 2, 7, 9]),
    ("LAST_BLOCK_INDEXES", [0, 2, 7, 9.0]),
    ("QKV_POOL_KERNEL", [2, 2]),
    ("ADAPTIVE_KV_STRIDE", 0),
    ("ADAPTIVE_KV_STRIDE", 3),
    ("ADAPTIVE_WINDOW_SIZE", -1),
    ("ADAPTIVE_WINDOW_SIZE", 50),
    ("MLP_RATIO", 0.0),
    ("MLP_RATIO", 0.001),
    ("MLP_RATIO", math.inf),
    ("MLP_RATIO", math.nan),
    ("DROP_PATH_RATE", -0.1),
    ("DROP_PATH_RATE", 1.5),
    ("DROP_PATH_RATE", math.nan),
    ("PRETRAIN_IMG_SIZE", 0),
    ("OUT_FEATURES", []),
    ("OUT_FEATURES", ["res2"]),
    ("OUT_FEATURES", ["scale2", "scale2"]),
]


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_refused(key, value):
    with pytest.raises(InputError, match=rf"^MODEL\.MVIT\.{key}: ") as caught:
        check_model(load_config(PATH, [*NAME, f"MODEL.MVIT.{key}", value]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ADAPTIVE_WINDOW_SIZE", 0),
        ("ADAPTIVE_WINDOW_SIZE", 112),
        ("ADAPTIVE_KV_STRIDE", 1),
        ("DROP_PATH_RATE", 1.0),
        ("OUT_FEATURES", ["scale5", "scale4"]),
    ],
)
def test_accepted(key, value):
    cfg = load_config(PATH, [*NAME, f"MODEL.MVIT.{key}", value])
    check_model(cfg)
    assert {"MVIT", "FPN"} < set(model_sections(cfg))
    assert not {"RESNETS", "VIT"} & set(model_sections(cfg))


def test_blocks_of_mvitv2_t():
    """Read off Detectron2's `MViT` of these arguments."""
    plans = plan_blocks(10, [0, 2, 7, 9], 4, 56)
    assert [plan.window_size for plan in plans] == [56, 56, 0, 28, 14, 14, 14, 0, 14, 0]
    assert [plan.stride_q for plan in plans] == [1, 2, 1, 2, 1, 1, 1, 1, 2, 1]
    assert [plan.stride_kv for plan in plans] == [4, 2, 4, 1, 1, 1, 1, 2, 1, 1]
    assert [plan.halved for plan in plans] == [0, 0, 1, 1, 2, 2, 2, 2, 2, 3]
    assert [plan.stage for plan in plans] == [0, 1, 1, 2, 2, 2, 2, 2, 3, 3]
