"""From a configuration to a model: which class each name of Detectron2's registries stands for."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.config.checks import check_model, model_sections
from tfdetect.errors import InputError
from tfdetect.layers.norm import NORMS
from tfdetect.modeling.backbone.fpn import (
    build_regnet_fpn,
    build_resnet_fpn,
    build_retinanet_resnet_fpn,
)
from tfdetect.modeling.backbone.resnet import build_resnet
from tfdetect.modeling.panoptic import PanopticFPN
from tfdetect.modeling.proposal_generator.rpn import RPN
from tfdetect.modeling.rcnn import FastRCNN, GeneralizedRCNN, ProposalNetwork
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
    check_model(cfg)
    for section in model_sections(cfg):
        # None is Detectron2's to take as well: no norm. In an FPN there is no bias either then.
        norm = cfg.MODEL[section].get("NORM", "")
        if norm not in (None, *NORMS):
            raise InputError(
                f"MODEL.{section}.NORM: {norm!r} is not supported; use {', '.join(NORMS[1:])} or ''"
            )
    return choose(META_ARCHITECTURES, "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE)(cfg)


def _build_generalized_rcnn(cfg: CfgNode) -> GeneralizedRCNN | FastRCNN:
    backbone = _build_backbone(cfg)
    if capabilities(cfg).takes_proposals:
        return FastRCNN(backbone, _build_roi_heads(cfg, backbone))
    return GeneralizedRCNN(
        backbone, _build_proposal_generator(cfg, backbone), _build_roi_heads(cfg, backbone)
    )


def _build_panoptic_fpn(cfg: CfgNode) -> PanopticFPN:
    backbone = _build_backbone(cfg)
    return PanopticFPN(
        cfg, backbone, _build_proposal_generator(cfg, backbone), _build_roi_heads(cfg, backbone)
    )


def _build_proposal_network(cfg: CfgNode) -> ProposalNetwork:
    backbone = _build_backbone(cfg)
    return ProposalNetwork(backbone, _build_proposal_generator(cfg, backbone))


def _build_backbone(cfg: CfgNode) -> tf.Module:
    return choose(BACKBONES, "MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME)(cfg)


def _build_proposal_generator(cfg: CfgNode, backbone: tf.Module) -> tf.Module:
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    make = choose(PROPOSAL_GENERATORS, "MODEL.PROPOSAL_GENERATOR.NAME", name)
    return make(cfg, backbone.output_shapes)


def _build_roi_heads(cfg: CfgNode, backbone: tf.Module) -> tf.Module:
    make = choose(ROI_HEADS, "MODEL.ROI_HEADS.NAME", cfg.MODEL.ROI_HEADS.NAME)
    return make(cfg, backbone.output_shapes)


def _build_on_backbone(architecture: Callable) -> Callable:
    """The builder of an architecture that is called with the configuration and the backbone."""

    def build(cfg: CfgNode) -> tf.Module:
        return architecture(cfg, _build_backbone(cfg))

    return build


def choose(known: dict[str, Callable], key: str, name: str) -> Callable:
    """What `name`, the value of configuration `key`, stands for; InputError if nothing."""
    if name in known:
        return known[name]
    if name.startswith("RR") or "Rotated" in name:
        raise InputError(f"{key}: {name!r} is not supported: rotated boxes are out of scope")
    raise InputError(
        f"{key}: {name!r} is not supported; use {' or '.join(known)} "
        "(what Detectron2's projects/ add is out of scope)"
    )


META_ARCHITECTURES: dict[str, Callable] = {
    "GeneralizedRCNN": _build_generalized_rcnn,
    "ProposalNetwork": _build_proposal_network,
    "PanopticFPN": _build_panoptic_fpn,
    "RetinaNet": _build_on_backbone(RetinaNet),
    "SemanticSegmentor": _build_on_backbone(SemanticSegmentor),
}
