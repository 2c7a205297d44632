"""Configurations of the recorded Swin models."""

from __future__ import annotations

from typing import Any

from yacs.config import CfgNode

from tests.support.paths import ROOT
from tfdetect.config import load_config

CASCADE = ROOT / "configs" / "Misc" / "cascade_mask_rcnn_R_50_FPN_1x.yaml"
# Options of a Mask R-CNN of configs/ for small images, with absolute positions, in squares.
NARROW = [
    *("MODEL.BACKBONE.NAME", "build_swin_fpn_backbone", "MODEL.BACKBONE.SQUARE_PAD", 192),
    *("MODEL.FPN.IN_FEATURES", ["p0", "p1", "p2", "p3"], "MODEL.FPN.NORM", "LN"),
    *("MODEL.SWIN.EMBED_DIM", 16, "MODEL.SWIN.DEPTHS", [2, 2, 1, 1]),
    *("MODEL.SWIN.NUM_HEADS", [1, 2, 4, 8], "MODEL.SWIN.WINDOW_SIZE", 5),
    *("MODEL.SWIN.APE", True, "MODEL.SWIN.PRETRAIN_IMG_SIZE", 64),
    *("MODEL.FPN.OUT_CHANNELS", 32, "MODEL.ROI_BOX_HEAD.FC_DIM", 64),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 32, "MODEL.ROI_HEADS.NUM_CLASSES", 5),
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", 200, "MODEL.RPN.POST_NMS_TOPK_TEST", 100),
    *("INPUT.MIN_SIZE_TEST", 128, "INPUT.MAX_SIZE_TEST", 192),
]
# The recipe of projects/ViTDet, narrow.
_NARROW = {
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.RPN.CONV_DIMS": [-1, -1],
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.ROI_HEADS.NUM_CLASSES": 12,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 4,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 32,
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
    "MODEL.ROI_BOX_HEAD.NORM": "LN",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.ROI_MASK_HEAD.NORM": "LN",
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
}


def swin_options(arguments: dict[str, Any]) -> list[Any]:
    """Keys and values of MODEL.SWIN, from the arguments of Detectron2's `SwinTransformer`."""
    arguments = arguments | {"qk_scale": arguments["qk_scale"] or 0.0}
    names = load_config(CASCADE).MODEL.SWIN
    return [item for key in names for item in (f"MODEL.SWIN.{key}", arguments[key.lower()])]


def narrow_swin_config(arguments: dict[str, Any], *more: Any) -> CfgNode:
    """Of a narrow cascade as recorded; the last options are `more`."""
    options = [item for pair in _NARROW.items() for item in pair]
    options += ["MODEL.BACKBONE.NAME", "build_swin_fpn_backbone", "MODEL.FPN.NORM", "LN"]
    options += ["MODEL.FPN.IN_FEATURES", ["p0", "p1", "p2", "p3"]]
    return load_config(CASCADE, [*options, *swin_options(arguments), *more])
