"""The parts of models by the names that a configuration calls them by, which are Detectron2's.

Importing this does not import TensorFlow. Built-in parts are registered where they are defined;
docs/extending.md shows how to add others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities, has_res5_heads
from tfdetect.config.checks import model_sections
from tfdetect.registry import Registry


def _advice(_: str) -> str:
    return "what Detectron2's projects/ add is out of scope; --import FILE.py registers your own"


def _registry(kind: str, names: dict[str, list[str]]) -> Registry[Callable[..., Any]]:
    """The names are those that each module registers."""
    modules = [f"tfdetect.modeling.{module}" for module in names]
    return Registry(kind, modules, _advice, [name for some in names.values() for name in some])


META_ARCHITECTURES = _registry(
    "meta architecture",
    {
        "rcnn": ["GeneralizedRCNN", "ProposalNetwork"],
        "panoptic": ["PanopticFPN"],
        "dense.retinanet": ["RetinaNet"],
        "dense.fcos": ["FCOS"],
        "semantic": ["SemanticSegmentor"],
    },
)
"""Called with (cfg): the whole model, such as `GeneralizedRCNN`."""

BACKBONES = _registry(
    "backbone",
    {
        "backbone.resnet": ["build_resnet_backbone"],
        "backbone.fpn": [
            "build_resnet_fpn_backbone",
            "build_retinanet_resnet_fpn_backbone",
            "build_fcos_resnet_fpn_backbone",
            "build_regnet_fpn_backbone",
            "build_mvit_fpn_backbone",
            "build_swin_fpn_backbone",
        ],
        "backbone.mvit": ["build_mvit_backbone"],
        "backbone.swin": ["build_swin_backbone"],
        "backbone.vit": ["build_vit_backbone"],
        "backbone.simple_feature_pyramid": ["build_vit_simple_feature_pyramid_backbone"],
    },
)
"""Called with (cfg): see `tfdetect.modeling.backbone.resnet.ResNet` for what a backbone has."""

PROPOSAL_GENERATORS = _registry(
    "proposal generator", {"proposal_generator.rpn": ["RPN"], "proposal_generator.rrpn": ["RRPN"]}
)
"""Called with (cfg, shapes), the latter (channels, stride) of the backbone's features by name."""

ROI_HEADS = _registry(
    "RoI heads",
    {
        "roi_heads.roi_heads": ["StandardROIHeads"],
        "roi_heads.cascade_rcnn": ["CascadeROIHeads"],
        "roi_heads.res5": ["Res5ROIHeads"],
        "roi_heads.point_rend": ["PointRendROIHeads"],
        "roi_heads.rotated": ["RROIHeads"],
    },
)
"""Called with (cfg, shapes)."""

BOX_HEADS = _registry("box head", {"roi_heads.box_head": ["FastRCNNConvFCHead"]})
"""Called with (cfg, in_channels)."""

MASK_HEADS = _registry(
    "mask head",
    {
        "roi_heads.mask_head": ["MaskRCNNConvUpsampleHead"],
        "roi_heads.point_rend": ["PointRendMaskHead"],
        "roi_heads.implicit_point_rend": ["ImplicitPointRendMaskHead"],
    },
)
"""Called with (cfg, in_channels): see `MaskHead` in `tfdetect.modeling.roi_heads.mask_head`; with
(cfg, shapes) where MODEL.ROI_MASK_HEAD.POOLER_TYPE is '': see `FeatureMaskHead` there."""

POINT_HEADS = _registry("point head", {"point_head": ["StandardPointHead", "ImplicitPointHead"]})
"""Called with (cfg, in_channels): see `StandardPointHead` in `tfdetect.modeling.point_head`."""

KEYPOINT_HEADS = _registry(
    "keypoint head", {"roi_heads.keypoint_head": ["KRCNNConvDeconvUpsampleHead"]}
)
"""Called with (cfg, in_channels)."""

SEM_SEG_HEADS = _registry(
    "semantic head",
    {"semantic": ["SemSegFPNHead"], "point_rend_semantic": ["PointRendSemSegHead"]},
)
"""Called with (cfg, shapes)."""

BOX_LOSSES = _registry("box regression loss", {"losses": ["smooth_l1", "giou", "diou", "ciou"]})
"""Called with (deltas, boxes, gt_boxes, weights, beta): see `BoxRegressionLoss`."""


def check_names(cfg: CfgNode) -> None:
    """Raise InputError for a part of MODEL that is not registered, before anything is built."""
    for key, registry in _named_parts(cfg):
        value: Any = cfg
        for part in key.split("."):
            value = value[part]
        registry.require(key, value)


def check_box_losses(cfg: CfgNode) -> None:
    """The same of what training alone reads."""
    for section in model_sections(cfg):
        if "BBOX_REG_LOSS_TYPE" in cfg.MODEL[section]:
            name = cfg.MODEL[section].BBOX_REG_LOSS_TYPE
            BOX_LOSSES.require(f"MODEL.{section}.BBOX_REG_LOSS_TYPE", name)


def _named_parts(cfg: CfgNode) -> Iterator[tuple[str, Registry[Callable[..., Any]]]]:
    """The keys of the parts that the configured model has."""
    able = capabilities(cfg)
    yield "MODEL.META_ARCHITECTURE", META_ARCHITECTURES
    yield "MODEL.BACKBONE.NAME", BACKBONES
    if able.parts.proposal_generator and not able.takes_proposals:
        yield "MODEL.PROPOSAL_GENERATOR.NAME", PROPOSAL_GENERATORS
    if able.parts.roi_heads:
        yield "MODEL.ROI_HEADS.NAME", ROI_HEADS
        if not has_res5_heads(cfg):
            yield "MODEL.ROI_BOX_HEAD.NAME", BOX_HEADS
    # Those of PointRend are registered but for CoarseMaskHead, which has PointRendROIHeads.
    if able.has_masks and not able.has_point_masks:
        yield "MODEL.ROI_MASK_HEAD.NAME", MASK_HEADS
    if able.has_keypoints:
        yield "MODEL.ROI_KEYPOINT_HEAD.NAME", KEYPOINT_HEADS
    if able.has_semantic:
        yield "MODEL.SEM_SEG_HEAD.NAME", SEM_SEG_HEADS
    if able.has_points:
        yield "MODEL.POINT_HEAD.NAME", POINT_HEADS
    if able.has_point_semantic:
        yield "MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME", SEM_SEG_HEADS
