"""From a configuration to a model, by the names that `tfdetect.modeling.registries` knows."""

from __future__ import annotations

import re

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.config.checks import check_model, model_sections
from tfdetect.errors import InputError
from tfdetect.layers.norm import NORMS
from tfdetect.modeling.features import Shapes
from tfdetect.modeling.registries import (
    BACKBONES,
    META_ARCHITECTURES,
    PROPOSAL_GENERATORS,
    ROI_HEADS,
)


def build_model(cfg: CfgNode) -> tf.Module:
    """The model of MODEL.META_ARCHITECTURE; what it can do is its attribute `capabilities`.

    Raises:
        InputError: for a part that is not supported, naming the configuration key; or for a
            variable that there is no memory for.
    """
    check_model(cfg)
    for section in model_sections(cfg):
        # Detectron2 accepts None too: no norm. In an FPN there is no bias either then.
        norm = cfg.MODEL[section].get("NORM", "")
        if norm not in (None, *NORMS):
            raise InputError(
                f"MODEL.{section}.NORM: {norm!r} is not supported; use {', '.join(NORMS[1:])} or ''"
            )
    try:
        model = META_ARCHITECTURES.build(cfg, "MODEL.META_ARCHITECTURE")
    except tf.errors.OpError as error:
        # "... with shape[1,197,768] ...", or "Shape [...] would have more than 2**63 - 1 elements".
        shape = re.search(r"shape ?(\[[\d,]+\])", error.message, re.IGNORECASE)
        if shape is None:
            raise
        raise InputError(
            f"MODEL: memory is too small for a variable of shape {shape[1]}; correct the sizes"
        ) from None
    model.capabilities = capabilities(cfg)
    return model


def build_backbone(cfg: CfgNode) -> tf.Module:
    """The backbone of MODEL.BACKBONE.NAME, with MODEL.BACKBONE.SQUARE_PAD."""
    backbone = BACKBONES.build(cfg, "MODEL.BACKBONE.NAME")
    if cfg.MODEL.BACKBONE.SQUARE_PAD:
        # An image that is not longer than a square has the square as its next multiple. The square
        # itself is rounded up too, as in Detectron2's `ImageList.from_tensors`.
        multiple = backbone.size_divisibility
        backbone.size_divisibility = -(-cfg.MODEL.BACKBONE.SQUARE_PAD // multiple) * multiple
    return backbone


def build_proposal_generator(cfg: CfgNode, shapes: Shapes) -> tf.Module:
    """The proposal generator of MODEL.PROPOSAL_GENERATOR.NAME, for features of these shapes."""
    return PROPOSAL_GENERATORS.build(cfg, "MODEL.PROPOSAL_GENERATOR.NAME", shapes)


def build_roi_heads(cfg: CfgNode, shapes: Shapes) -> tf.Module:
    """The heads of MODEL.ROI_HEADS.NAME, for features of these shapes."""
    return ROI_HEADS.build(cfg, "MODEL.ROI_HEADS.NAME", shapes)
