"""Configurations of the recorded ViT backbones."""

from __future__ import annotations

from typing import Any

from yacs.config import CfgNode

from tests.support.paths import ROOT
from tfdetect.config import load_config


def vit_config(settings: dict[str, Any], *more: Any) -> CfgNode:
    """Of a backbone as Detectron2 calls it (`SimpleFeaturePyramid` of a `ViT`), and `more`."""
    net = settings["net"]
    path = ROOT / "configs" / "COCO-InstanceSegmentation" / "mask_rcnn_R_50_FPN_1x.yaml"
    cfg = load_config(path, ["MODEL.BACKBONE.NAME", "build_vit_simple_feature_pyramid_backbone"])
    options = list(more)
    for key in cfg.MODEL.VIT:
        options += [f"MODEL.VIT.{key}", net[key.lower()]]
    for key in cfg.MODEL.SIMPLE_FEATURE_PYRAMID:
        options += [f"MODEL.SIMPLE_FEATURE_PYRAMID.{key}", settings[key.lower()]]
    options += ["INPUT.FORMAT", "RGB", "MODEL.PIXEL_MEAN", [123.675, 116.28, 103.53]]
    options += ["MODEL.PIXEL_STD", [58.395, 57.12, 57.375]]
    options += ["MODEL.BACKBONE.NAME", "build_vit_simple_feature_pyramid_backbone"]
    return load_config(path, options)


# Options for a Mask R-CNN of configs/ with a tenth of the blocks and channels.
NARROW = [
    item
    for pair in {
        "MODEL.BACKBONE.NAME": "build_vit_simple_feature_pyramid_backbone",
        "MODEL.VIT.IMG_SIZE": 128,
        "MODEL.VIT.EMBED_DIM": 48,
        "MODEL.VIT.DEPTH": 3,
        "MODEL.VIT.NUM_HEADS": 3,
        "MODEL.VIT.WINDOW_SIZE": 5,
        "MODEL.VIT.WINDOW_BLOCK_INDEXES": [0, 2],
        "MODEL.VIT.RESIDUAL_BLOCK_INDEXES": [1],
        "MODEL.SIMPLE_FEATURE_PYRAMID.OUT_CHANNELS": 32,
        "INPUT.MIN_SIZE_TEST": 96,
        "INPUT.MAX_SIZE_TEST": 160,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": 100,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
        "MODEL.ROI_HEADS.NUM_CLASSES": 5,
        "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
        "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    }.items()
    for item in pair
]
