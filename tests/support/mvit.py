"""Configurations of the recorded MViT models."""

from __future__ import annotations

from typing import Any

from yacs.config import CfgNode

from tests.support.paths import ROOT
from tfdetect.config import load_config

MASK = ROOT / "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
CASCADE = ROOT / "configs/Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml"
# Options of a detector for small images.
NARROW = [
    *("MODEL.BACKBONE.NAME", "build_mvit_fpn_backbone"),
    *("MODEL.FPN.IN_FEATURES", ["scale2", "scale3", "scale4", "scale5"]),
    *("MODEL.MVIT.IMG_SIZE", 64, "MODEL.MVIT.PRETRAIN_IMG_SIZE", 64),
    *("MODEL.MVIT.EMBED_DIM", 16, "MODEL.MVIT.DEPTH", 5),
    *("MODEL.MVIT.LAST_BLOCK_INDEXES", [0, 1, 3, 4], "MODEL.MVIT.ADAPTIVE_WINDOW_SIZE", 28),
    *("MODEL.MVIT.USE_ABS_POS", True),
    *("MODEL.FPN.OUT_CHANNELS", 32, "MODEL.ROI_BOX_HEAD.FC_DIM", 64),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 32, "MODEL.ROI_HEADS.NUM_CLASSES", 5),
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", 200, "MODEL.RPN.POST_NMS_TOPK_TEST", 100),
    *("INPUT.MIN_SIZE_TEST", 160, "INPUT.MAX_SIZE_TEST", 256),
]
_NARROW_HEADS = {
    "MODEL.ROI_HEADS.NUM_CLASSES": 12,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 32,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
}
_WITH_NORM = {"MODEL.ROI_BOX_HEAD.NUM_CONV": 4, "MODEL.ROI_BOX_HEAD.NUM_FC": 1}
# By narrow model: the recipe whose heads it has.
RECIPES: dict[str, tuple[Any, dict[str, Any]]] = {
    "mvit_mask_free": (MASK, {}),
    "mvit_cascade_bn": (CASCADE, _WITH_NORM | {"NORM": "naiveSyncBN_N"}),
    "mvit_cascade_square": (CASCADE, _WITH_NORM | {"NORM": "LN"}),
}


def mvit_options(backbone: dict[str, Any]) -> dict[str, Any]:
    """Values by key, of a backbone as Detectron2 calls it (`FPN` of an `MViT`)."""
    options = {
        "MODEL.BACKBONE.NAME": "build_mvit_fpn_backbone",
        "MODEL.BACKBONE.SQUARE_PAD": backbone["square_pad"],
        "MODEL.FPN.IN_FEATURES": backbone["in_features"],
        "MODEL.FPN.OUT_CHANNELS": backbone["out_channels"],
        "MODEL.FPN.NORM": backbone["norm"],
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
        "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    }
    for key in load_config(MASK).MODEL.MVIT:
        options[f"MODEL.MVIT.{key}"] = backbone["bottom_up"][key.lower()]
    return options


def mvit_config(path: Any, options: dict[str, Any]) -> CfgNode:
    """The configuration at `path` with these values by key."""
    return load_config(path, [item for pair in options.items() for item in pair])


def narrow_mvit_config(
    name: str, backbone: dict[str, Any], edges: tuple[int, int], **more: Any
) -> CfgNode:
    """Of a narrow model.

    Args:
        name: one of `RECIPES`.
        backbone: as Detectron2 calls it.
        edges: in pixels, the shorter edge that images are resized to, and the longest of the other.
        more: values by key.
    """
    path, heads = RECIPES[name]
    heads = dict(heads)
    norm = heads.pop("NORM", None)
    if norm:
        heads |= {"MODEL.ROI_BOX_HEAD.NORM": norm, "MODEL.ROI_MASK_HEAD.NORM": norm}
        heads["MODEL.RPN.CONV_DIMS"] = [-1, -1]
    resizing = {"INPUT.MIN_SIZE_TEST": edges[0], "INPUT.MAX_SIZE_TEST": edges[1]}
    return mvit_config(path, _NARROW_HEADS | heads | mvit_options(backbone) | resizing | more)
