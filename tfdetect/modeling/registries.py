"""The parts of models by the names that a configuration calls them by, which are Detectron2's.

Importing this does not import TensorFlow. Built-in parts are registered where they are defined;
docs/extending.md shows how to add others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfdetect.registry import Registry


def _advice(_: str) -> str:
    return "what Detectron2's projects/ add is out of scope; --import FILE.py registers your own"


def _registry(kind: str, *modules: str) -> Registry[Callable[..., Any]]:
    return Registry(kind, [f"tfdetect.modeling.{module}" for module in modules], _advice)


META_ARCHITECTURES = _registry(
    "meta architecture", "rcnn", "panoptic", "dense.retinanet", "dense.fcos", "semantic"
)
"""Called with (cfg): the whole model, such as `GeneralizedRCNN`."""

BACKBONES = _registry(
    "backbone",
    "backbone.resnet",
    "backbone.fpn",
    "backbone.mvit",
    "backbone.swin",
    "backbone.vit",
    "backbone.simple_feature_pyramid",
)
"""Called with (cfg): see `tfdetect.modeling.backbone.resnet.ResNet` for what a backbone has."""

PROPOSAL_GENERATORS = _registry(
    "proposal generator", "proposal_generator.rpn", "proposal_generator.rrpn"
)
"""Called with (cfg, shapes), the latter (channels, stride) of the backbone's features by name."""

ROI_HEADS = _registry(
    "RoI heads",
    "roi_heads.roi_heads",
    "roi_heads.cascade_rcnn",
    "roi_heads.res5",
    "roi_heads.point_rend",
    "roi_heads.rotated",
)
"""Called with (cfg, shapes)."""

BOX_HEADS = _registry("box head", "roi_heads.box_head")
"""Called with (cfg, in_channels)."""

MASK_HEADS = _registry(
    "mask head", "roi_heads.mask_head", "roi_heads.point_rend", "roi_heads.implicit_point_rend"
)
"""Called with (cfg, in_channels): see `MaskHead` in `tfdetect.modeling.roi_heads.mask_head`; with
(cfg, shapes) where MODEL.ROI_MASK_HEAD.POOLER_TYPE is '': see `FeatureMaskHead` there."""

POINT_HEADS = _registry("point head", "point_head")
"""Called with (cfg, in_channels): see `StandardPointHead` in `tfdetect.modeling.point_head`."""

KEYPOINT_HEADS = _registry("keypoint head", "roi_heads.keypoint_head")
"""Called with (cfg, in_channels)."""

SEM_SEG_HEADS = _registry("semantic head", "semantic", "point_rend_semantic")
"""Called with (cfg, shapes)."""

BOX_LOSSES = _registry("box regression loss", "losses")
"""Called with (deltas, boxes, gt_boxes, weights, beta): see `BoxRegressionLoss`."""
