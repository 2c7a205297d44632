"""From a configuration to a model: which class each name of Detectron2's registries stands for."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.modeling.backbone.fpn import (
    build_regnet_fpn,
    build_resnet_fpn,
    build_retinanet_resnet_fpn,
)
from tfdetect.modeling.backbone.resnet import build_resnet
from tfdetect.modeling.panoptic import PanopticFPN
from tfdetect.modeling.proposal_generator.rpn import RPN
from tfdetect.modeling.rcnn import GeneralizedRCNN
from tfdetect.modeling.retinanet import RetinaNet
from tfdetect.modeling.roi_heads.cascade_rcnn import CascadeROIHeads
from tfdetect.modeling.roi_heads.res5 import Res5ROIHeads
from tfdetect.modeling.roi_heads.roi_heads import StandardROIHeads
from tfdetect.modeling.semantic import SemanticSegmentor

# Each is called with the configuration and gives a backbone: a module that maps an image batch
# [N, H, W, 3] to (features by name, stages by name), with `output_shapes` ((channels, stride) by
# name) and `size_divisibility`.
# `build_regnet_fpn_backbone` is this project's name: Detectron2 builds RegNets in Python configs.
BACKBONES: dict[str, Callable] = {
    "build_resnet_backbone": build_resnet,
    "build_resnet_fpn_backbone": build_resnet_fpn,
    "build_retinanet_resnet_fpn_backbone": build_retinanet_resnet_fpn,
    "build_regnet_fpn_backbone": build_regnet_fpn,
}
# Each of these is called with the configuration and the backbone's `output_shapes`.
PROPOSAL_GENERATORS: dict[str, Callable] = {"RPN": RPN}
ROI_HEADS: dict[str, Callable] = {
    "StandardROIHeads": StandardROIHeads,
    "CascadeROIHeads": CascadeROIHeads,
    "Res5ROIHeads": Res5ROIHeads,
}


def build_model(cfg: CfgNode) -> tf.Module:
    """The model of MODEL.META_ARCHITECTURE.

    Raises:
        InputError: for a part that is not supported, naming the configuration key.
    """
    return choose(META_ARCHITECTURES, "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE)(cfg)


def _build_generalized_rcnn(cfg: CfgNode) -> GeneralizedRCNN:
    model = cfg.MODEL
    if model.LOAD_PROPOSALS:
        raise InputError("MODEL.LOAD_PROPOSALS: precomputed proposals are not supported; set False")
    backbone = choose(BACKBONES, "MODEL.BACKBONE.NAME", model.BACKBONE.NAME)(cfg)
    shapes = backbone.output_shapes
    make_proposals = choose(
        PROPOSAL_GENERATORS, "MODEL.PROPOSAL_GENERATOR.NAME", model.PROPOSAL_GENERATOR.NAME
    )
    make_heads = choose(ROI_HEADS, "MODEL.ROI_HEADS.NAME", model.ROI_HEADS.NAME)
    return GeneralizedRCNN(backbone, make_proposals(cfg, shapes), make_heads(cfg, shapes))


def _build_panoptic_fpn(cfg: CfgNode) -> PanopticFPN:
    rcnn = _build_generalized_rcnn(cfg)
    return PanopticFPN(cfg, rcnn.backbone, rcnn.proposal_generator, rcnn.roi_heads)


def _build_on_backbone(architecture: Callable) -> Callable:
    """The builder of an architecture that is called with the configuration and the backbone."""

    def build(cfg: CfgNode) -> tf.Module:
        name = cfg.MODEL.BACKBONE.NAME
        return architecture(cfg, choose(BACKBONES, "MODEL.BACKBONE.NAME", name)(cfg))

    return build


def choose(known: dict[str, Callable], key: str, name: str) -> Callable:
    """What `name`, the value of configuration `key`, stands for; InputError if nothing."""
    if name not in known:
        raise InputError(f"{key}: {name!r} is not supported; use {' or '.join(known)}")
    return known[name]


META_ARCHITECTURES: dict[str, Callable] = {
    "GeneralizedRCNN": _build_generalized_rcnn,
    "PanopticFPN": _build_panoptic_fpn,
    "RetinaNet": _build_on_backbone(RetinaNet),
    "SemanticSegmentor": _build_on_backbone(SemanticSegmentor),
}
