"""Derives the model from the names and shapes in a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from convert_d2.libraries.transformers import (
    IN_PATCHES,
    last_of_level,
    pyramid,
    transformer,
    transformer_kind,
)

Shape = tuple[int, ...]

# Blocks of res4, and whether blocks are bottlenecks, by depth.
_DEPTHS = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101, (36, True): 152}


def architecture(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """The configuration keys that follow from names and shapes, with their values.

    Args:
        shapes: of the arrays in PyTorch's layout, by Detectron2's names.

    Raises:
        KeyError: they do not belong to a Detectron2 detector.

    Returns:
        Key with dots -> value. Anything that shapes do not determine (strides, thresholds, the
        pooler) is not included. Batch norms with `num_batches_tracked` are "BN", others "FrozenBN";
        norms without statistics are "GN", be they of groups or of all channels.
        Sizes of images for a transformer's positions are in patches (`IN_PATCHES`).
    """
    names = set(shapes)
    fpn = "backbone.fpn_lateral5.weight" in names
    simple = _has(names, "backbone.simfp_")
    body = "backbone.bottom_up" if fpn else "backbone"
    result: dict[str, Any] = {"MODEL.META_ARCHITECTURE": _meta_architecture(names)}
    result |= transformer(shapes, "backbone.net." if simple else f"{body}.")
    result |= _resnet(shapes, body) if f"{body}.stem.conv1.weight" in names else {}
    if "backbone.bottom_up.s1.b1.f.b.weight" in names:
        result |= _regnet(shapes)
    if fpn:
        result["MODEL.FPN.OUT_CHANNELS"] = shapes["backbone.fpn_lateral5.weight"][0]
        result["MODEL.FPN.NORM"] = _norm(names, "backbone.fpn_lateral5")
    if simple:
        result |= pyramid(shapes)
        norm = _norm(names, last_of_level(shapes))
        result["MODEL.SIMPLE_FEATURE_PYRAMID.NORM"] = norm
    kind = transformer_kind(result)
    if kind is None:
        result["MODEL.BACKBONE.NAME"] = _backbone(shapes, fpn)
    else:
        above = "_simple_feature_pyramid" if simple else "_fpn" if fpn else ""
        result["MODEL.BACKBONE.NAME"] = f"build_{kind.lower()}{above}_backbone"
    if _has(names, "head.cls_score"):
        result |= _dense_head(shapes)
    if "proposal_generator.rpn_head.objectness_logits.weight" in names:
        convs = _count(names, "proposal_generator.rpn_head.conv.conv{}.weight")
        result["MODEL.RPN.CONV_DIMS"] = [-1] * max(convs, 1)
        result["MODEL.PROPOSAL_GENERATOR.NAME"] = "RPN"
    elif _has(names, "roi_heads."):
        result["MODEL.PROPOSAL_GENERATOR.NAME"] = "PrecomputedProposals"
    if _has(names, "roi_heads."):
        result |= _roi_heads(shapes)
    points = _has(names, "sem_seg_head.coarse_sem_seg_head.")
    predictor = f"sem_seg_head.{'coarse_sem_seg_head.' if points else ''}predictor.weight"
    if predictor in names:
        name = "PointRendSemSegHead" if points else "SemSegFPNHead"
        result["MODEL.SEM_SEG_HEAD.NAME"] = name
        result["MODEL.SEM_SEG_HEAD.NUM_CLASSES"] = shapes[predictor][0]
        result["MODEL.SEM_SEG_HEAD.CONVS_DIM"] = shapes[predictor][1]
    return result


def pooler_options(kind: str, sampling_ratio: int) -> dict[str, Any]:
    """The same pooler for all heads, by key."""
    heads = ("ROI_BOX_HEAD", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD")
    return {f"MODEL.{head}.POOLER_TYPE": kind for head in heads} | {
        f"MODEL.{head}.POOLER_SAMPLING_RATIO": sampling_ratio for head in heads
    }


def knows_backbone(found: Mapping[str, Any]) -> bool:
    """Whether the backbone of what `architecture` found is one of those that are here."""
    convolutional = "MODEL.RESNETS.DEPTH" in found or "MODEL.REGNETS.DEPTH" in found
    return convolutional or transformer_kind(found) is not None


def fits(cfg: CfgNode, found: Mapping[str, Any]) -> bool:
    """Whether a configuration's model has the names and shapes that `architecture` found this in.

    All kinds of batch normalisation are treated alike.
    """
    return not differences(cfg, found)


def differences(cfg: CfgNode, found: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys for which `architecture` found something else than a configuration has, with what
    this has and what the arrays are of."""
    result = {}
    for key, value in found.items():
        configured = _value(cfg, key)
        if key in IN_PATCHES:
            patch = _value(cfg, IN_PATCHES[key])
            patch = patch if isinstance(patch, int) else patch[0]
            equal, value = configured // patch == value, value * patch
        elif key.endswith(".MLP_RATIO"):
            width = found[key.replace("MLP_RATIO", "EMBED_DIM")]
            equal = int(width * configured) == round(width * value)
        elif key == "MODEL.RPN.CONV_DIMS":
            equal = max(len(configured), 1) == len(value)  # how many; -1 stands for any width
        else:
            equal = _comparable(key, configured) == _comparable(key, value)
        if not equal:
            result[key] = configured, value
    return result


def _value(cfg: CfgNode, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node


def _comparable(key: str, value: Any) -> Any:
    if key.endswith(".NORM"):
        known = {"": "", None: "", "GN": "GN", "LN": "GN"}
        return known.get(value, "BN")
    return list(value) if isinstance(value, (list, tuple)) else value


def _meta_architecture(names: set[str]) -> str:
    if _has(names, "head.cls_score"):
        return "FCOS" if _has(names, "head.ctrness") else "RetinaNet"
    if _has(names, "roi_heads."):
        return "PanopticFPN" if _has(names, "sem_seg_head.") else "GeneralizedRCNN"
    if _has(names, "sem_seg_head."):
        return "SemanticSegmentor"
    if "proposal_generator.rpn_head.objectness_logits.weight" not in names:
        raise KeyError("proposal_generator.rpn_head.objectness_logits.weight")
    return "ProposalNetwork"


def _backbone(shapes: Mapping[str, Shape], fpn: bool) -> str:
    names = set(shapes)
    if _has(names, "backbone.bottom_up.s1."):
        return "build_regnet_fpn_backbone"
    if "backbone.top_block.p6.weight" in names:
        # From p5 where its input is not that of the level's own convolution, res5.
        inputs, of_res5 = (
            shapes[f"backbone.{layer}.weight"][1] for layer in ("top_block.p6", "fpn_lateral5")
        )
        kind = "retinanet" if inputs == of_res5 else "fcos"
        return f"build_{kind}_resnet_fpn_backbone"
    return "build_resnet_fpn_backbone" if fpn else "build_resnet_backbone"


def _resnet(shapes: Mapping[str, Shape], body: str) -> dict[str, Any]:
    names = set(shapes)
    first = f"{body}.res2.0"
    bottleneck = f"{first}.conv3.weight" in names
    out, inputs = shapes[f"{first}.conv2.weight"][:2]
    groups = out // inputs if bottleneck else 1
    result = {
        "MODEL.RESNETS.STEM_OUT_CHANNELS": shapes[f"{body}.stem.conv1.weight"][0],
        "MODEL.RESNETS.RES2_OUT_CHANNELS": shapes[
            f"{first}.{'conv3' if bottleneck else 'conv2'}.weight"
        ][0],
        "MODEL.RESNETS.NORM": _norm(names, f"{first}.conv1"),
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [
            f"{body}.res{stage}.0.conv2_offset.weight" in names for stage in range(2, 6)
        ],
    }
    blocks = _count(names, body + ".res4.{}.conv1.weight")
    if (blocks, bottleneck) in _DEPTHS:
        result["MODEL.RESNETS.DEPTH"] = _DEPTHS[blocks, bottleneck]
    if bottleneck:
        result["MODEL.RESNETS.NUM_GROUPS"] = groups
        result["MODEL.RESNETS.WIDTH_PER_GROUP"] = out // groups
    return result


def _regnet(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    body = "backbone.bottom_up"
    stages = [_count(set(shapes), f"{body}.s{stage}.b{{}}.f.b.weight", 1) for stage in range(1, 5)]
    squeezed = shapes.get(f"{body}.s1.b1.f.se.f_ex.0.weight")
    stem = shapes[f"{body}.stem.conv.weight"][0]
    return {
        "MODEL.REGNETS.STEM_WIDTH": stem,
        "MODEL.REGNETS.DEPTH": sum(stages),
        "MODEL.REGNETS.GROUP_WIDTH": shapes[f"{body}.s1.b1.f.b.weight"][1],
        # Of the channels that go into the first block.
        "MODEL.REGNETS.SE_RATIO": squeezed[0] / stem if squeezed else 0.0,
        "MODEL.REGNETS.NORM": _norm(set(shapes), f"{body}.stem"),
    }


def _dense_head(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    section = "FCOS" if "head.ctrness.weight" in shapes else "RETINANET"
    norm = _norm(set(shapes), "head.cls_subnet")
    if not norm and "head.cls_subnet.1.weight" in shapes:  # between the first convolution and ReLU
        norm = "GN"
    anchors = shapes["head.bbox_pred.weight"][0] // 4
    return {
        f"MODEL.{section}.NUM_CLASSES": shapes["head.cls_score.weight"][0] // anchors,
        f"MODEL.{section}.NORM": norm,
    }


def _roi_heads(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    names = set(shapes)
    cascade = _has(names, "roi_heads.box_predictor.0.")
    res5 = _has(names, "roi_heads.res5.")
    stage = ".0" if cascade else ""
    predictor = f"roi_heads.box_predictor{stage}"
    classes = shapes[f"{predictor}.cls_score.weight"][0] - 1
    deltas = shapes[f"{predictor}.bbox_pred.weight"][0]
    points = _point_mask_head(names)
    result: dict[str, Any] = {
        "MODEL.ROI_HEADS.NAME": "CascadeROIHeads"
        if cascade
        else ("Res5ROIHeads" if res5 else "StandardROIHeads"),
        "MODEL.ROI_HEADS.NUM_CLASSES": classes,
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": (deltas == 4 and classes > 1) or cascade,
        "MODEL.MASK_ON": points is not None or "roi_heads.mask_head.predictor.weight" in names,
        "MODEL.KEYPOINT_ON": "roi_heads.keypoint_head.score_lowres.weight" in names,
    }
    if not res5:
        head = f"roi_heads.box_head{stage}"
        convs = _count(names, head + ".conv{}.weight", 1)
        fcs = _count(names, head + ".fc{}.weight", 1)
        result["MODEL.ROI_BOX_HEAD.NUM_CONV"] = convs
        result["MODEL.ROI_BOX_HEAD.NUM_FC"] = fcs
        if fcs:
            result["MODEL.ROI_BOX_HEAD.FC_DIM"] = shapes[f"{head}.fc1.weight"][0]
        if convs:
            result["MODEL.ROI_BOX_HEAD.CONV_DIM"] = shapes[f"{head}.conv1.weight"][0]
            result["MODEL.ROI_BOX_HEAD.NORM"] = _norm(names, f"{head}.conv1")
    if points is not None:
        result["MODEL.ROI_MASK_HEAD.NAME"] = points
    elif result["MODEL.MASK_ON"]:
        result["MODEL.ROI_MASK_HEAD.NAME"] = "MaskRCNNConvUpsampleHead"
        masks, channels = shapes["roi_heads.mask_head.predictor.weight"][:2]
        result["MODEL.ROI_MASK_HEAD.NUM_CONV"] = _count(
            names, "roi_heads.mask_head.mask_fcn{}.weight", 1
        )
        result["MODEL.ROI_MASK_HEAD.CONV_DIM"] = channels
        result["MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK"] = masks == 1 and classes > 1
        result["MODEL.ROI_MASK_HEAD.NORM"] = _norm(names, "roi_heads.mask_head.mask_fcn1")
    if result["MODEL.KEYPOINT_ON"]:
        head = "roi_heads.keypoint_head"
        result["MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"] = shapes[f"{head}.score_lowres.weight"][1]
        result["MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS"] = [
            shapes[f"{head}.conv_fcn{index + 1}.weight"][0]
            for index in range(_count(names, head + ".conv_fcn{}.weight", 1))
        ]
    return result


def _point_mask_head(names: set[str]) -> str | None:
    """PointRend's mask head of these names, if they are of one."""
    if _has(names, "roi_heads.mask_head.parameter_head."):
        return "ImplicitPointRendMaskHead"
    return "PointRendMaskHead" if _has(names, "roi_heads.mask_head.coarse_head.") else None


def _has(names: set[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _count(names: set[str], pattern: str, first: int = 0) -> int:
    """How many names `pattern` with `first`, `first` + 1, ... exist without a gap."""
    number = first
    while pattern.format(number) in names:
        number += 1
    return number - first


def _norm(names: set[str], layer: str) -> str:
    """The norm after a layer, or within it."""
    parameters = {name.rpartition(".")[2] for name in names if name.startswith(f"{layer}.")}
    if "running_mean" in parameters:
        return "BN" if "num_batches_tracked" in parameters else "FrozenBN"
    return "GN" if f"{layer}.norm.weight" in names else ""
