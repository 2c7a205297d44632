"""Configurations of recorded transformer models, from how Detectron2 called their classes."""

from __future__ import annotations

from typing import Any

from yacs.config import CfgNode

from tests.support.paths import ROOT
from tfdetect.config import load_config

_BASE = ROOT / "configs" / "COCO-InstanceSegmentation" / "mask_rcnn_R_50_FPN_1x.yaml"
# In a record, the call of a class is its arguments by name, and the class as `_target_`.
Call = dict[str, Any]
Options = dict[str, Any]


def transformer_config(*options: Options) -> CfgNode:
    """With values by key, of which the last ones hold."""
    every = {key: value for values in options for key, value in values.items()}
    return load_config(_BASE, [item for pair in every.items() for item in pair])


def model_options(model: Call) -> Options:
    """Of a `GeneralizedRCNN`."""
    return {
        "INPUT.FORMAT": model["input_format"],
        "MODEL.PIXEL_MEAN": model["pixel_mean"],
        "MODEL.PIXEL_STD": model["pixel_std"],
        **backbone_options(model["backbone"]),
        **_rpn_options(model["proposal_generator"]),
        **_roi_heads_options(model["roi_heads"]),
    }


def backbone_options(backbone: Call) -> Options:
    """Of a `SimpleFeaturePyramid` of a ViT, an `FPN` of a Swin or an MViT, or a Swin alone."""
    kind = _class(backbone)
    options: Options = {"MODEL.BACKBONE.FREEZE_AT": 0}
    if kind != "SwinTransformer":
        options["MODEL.BACKBONE.SQUARE_PAD"] = backbone["square_pad"]
    if kind == "SimpleFeaturePyramid":
        options["MODEL.BACKBONE.NAME"] = "build_vit_simple_feature_pyramid_backbone"
        options |= _section("SIMPLE_FEATURE_PYRAMID", backbone)
        return options | _section("VIT", backbone["net"])
    if kind == "SwinTransformer":
        options["MODEL.BACKBONE.NAME"] = "build_swin_backbone"
        return options | _section("SWIN", backbone)
    body = backbone["bottom_up"]
    name = {"SwinTransformer": "swin", "MViT": "mvit"}[_class(body)]
    return options | {
        "MODEL.BACKBONE.NAME": f"build_{name}_fpn_backbone",
        "MODEL.FPN.IN_FEATURES": backbone["in_features"],
        "MODEL.FPN.OUT_CHANNELS": backbone["out_channels"],
        "MODEL.FPN.NORM": backbone["norm"],
        **_section(name.upper(), body),
    }


def _section(section: str, arguments: Call) -> Options:
    """The keys of a section of MODEL, which are called as the class's arguments."""
    names = load_config(_BASE).MODEL[section]
    values = {f"MODEL.{section}.{name}": arguments[name.lower()] for name in names}
    # Detectron2's None: by the width of a head.
    return {key: 0.0 if value is None else value for key, value in values.items()}


def _rpn_options(rpn: Call) -> Options:
    anchors = rpn["anchor_generator"]
    return {
        "MODEL.ANCHOR_GENERATOR.SIZES": anchors["sizes"],
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [anchors["aspect_ratios"]],
        "MODEL.ANCHOR_GENERATOR.OFFSET": anchors["offset"],
        "MODEL.RPN.IN_FEATURES": rpn["in_features"],
        "MODEL.RPN.CONV_DIMS": rpn["head"]["conv_dims"],
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE": rpn["batch_size_per_image"],
        "MODEL.RPN.POSITIVE_FRACTION": rpn["positive_fraction"],
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": rpn["pre_nms_topk"][0],
        "MODEL.RPN.PRE_NMS_TOPK_TEST": rpn["pre_nms_topk"][1],
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": rpn["post_nms_topk"][0],
        "MODEL.RPN.POST_NMS_TOPK_TEST": rpn["post_nms_topk"][1],
        "MODEL.RPN.NMS_THRESH": rpn["nms_thresh"],
    }


def _roi_heads_options(heads: Call) -> Options:
    name, mask = _class(heads), heads["mask_head"]
    cascade = name == "CascadeROIHeads"
    # Of a cascade each stage has the same ones.
    box = heads["box_heads"][0] if cascade else heads["box_head"]
    predictors = heads["box_predictors"] if cascade else [heads["box_predictor"]]
    predictor = predictors[0]
    weights = [of["box2box_transform"]["weights"] for of in predictors]
    options = {
        "MODEL.MASK_ON": True,
        "TEST.DETECTIONS_PER_IMAGE": predictor["test_topk_per_image"],
        "MODEL.ROI_HEADS.NAME": name,
        "MODEL.ROI_HEADS.IN_FEATURES": heads["box_in_features"],
        "MODEL.ROI_HEADS.NUM_CLASSES": heads["num_classes"],
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": heads["batch_size_per_image"],
        "MODEL.ROI_HEADS.POSITIVE_FRACTION": heads["positive_fraction"],
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": predictor["test_score_thresh"],
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": predictor["test_nms_thresh"],
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": predictor["cls_agnostic_bbox_reg"],
        "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": predictor["use_sigmoid_ce"],
        "MODEL.ROI_BOX_HEAD.NUM_CONV": len(box["conv_dims"]),
        "MODEL.ROI_BOX_HEAD.NUM_FC": len(box["fc_dims"]),
        "MODEL.ROI_BOX_HEAD.FC_DIM": box["fc_dims"][0],
        "MODEL.ROI_BOX_HEAD.NORM": _norm(box["conv_norm"]),
        "MODEL.ROI_MASK_HEAD.NUM_CONV": len(mask["conv_dims"]) - 1,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": mask["conv_dims"][0],
        "MODEL.ROI_MASK_HEAD.NORM": _norm(mask["conv_norm"]),
        **_pooler_options("ROI_BOX_HEAD", heads["box_pooler"]),
        **_pooler_options("ROI_MASK_HEAD", heads["mask_pooler"]),
    }
    if box["conv_dims"]:
        options["MODEL.ROI_BOX_HEAD.CONV_DIM"] = box["conv_dims"][0]
    if cascade:
        ious = [matcher["thresholds"][0] for matcher in heads["proposal_matchers"]]
        options["MODEL.ROI_BOX_CASCADE_HEAD.IOUS"] = ious
        options["MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS"] = weights
    else:
        options["MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS"] = weights[0]
    return options


def _pooler_options(section: str, pooler: Call) -> Options:
    return {
        f"MODEL.{section}.POOLER_RESOLUTION": pooler["output_size"],
        f"MODEL.{section}.POOLER_SAMPLING_RATIO": pooler["sampling_ratio"],
        f"MODEL.{section}.POOLER_TYPE": pooler["pooler_type"],
    }


def _norm(recorded: str | Call) -> str:
    """Of heads; projects/MViTv2 makes its batch norm in a function."""
    if isinstance(recorded, str):
        return recorded
    assert recorded == {"norm": "NaiveSyncBatchNorm", "eps": 1e-5, "stats_mode": "N"}
    return "naiveSyncBN_N"


def _class(call: Call) -> str:
    return call["_target_"].rpartition(".")[2]
