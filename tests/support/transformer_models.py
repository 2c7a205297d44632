"""Narrow models of ViT, Swin and MViT from the zoo's configurations, and ImageNet's files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from benchmarks.seeded_weights import state_dict
from tfdetect.checkpoint.names import named_buffers, named_variables
from tfdetect.config import load_config
from tfdetect.modeling.build import build_model

ZOO = {
    "vit": "ViTDet/COCO/mask_rcnn_vitdet_b_100ep",
    "swin": "ViTDet/COCO/cascade_mask_rcnn_swin_b_in21k_50ep",
    "mvit": "MViTv2/cascade_mask_rcnn_mvitv2_t_3x",
}
NARROW = (
    *("MODEL.FPN.OUT_CHANNELS", 8, "MODEL.SIMPLE_FEATURE_PYRAMID.OUT_CHANNELS", 8),
    *("MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.ROI_BOX_HEAD.CONV_DIM", 8),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 8, "MODEL.ROI_MASK_HEAD.CONV_DIM", 8),
    *("INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 64),
)
BACKBONES = {
    "vit": (
        *("MODEL.VIT.EMBED_DIM", 16, "MODEL.VIT.DEPTH", 3, "MODEL.VIT.NUM_HEADS", 2),
        *("MODEL.VIT.WINDOW_SIZE", 3, "MODEL.VIT.WINDOW_BLOCK_INDEXES", [0, 2]),
        *("MODEL.VIT.IMG_SIZE", 64, "MODEL.BACKBONE.SQUARE_PAD", 64),
    ),
    "swin": (
        *("MODEL.SWIN.EMBED_DIM", 8, "MODEL.SWIN.DEPTHS", [1, 2, 1, 1]),
        *("MODEL.SWIN.NUM_HEADS", [1, 2, 2, 4], "MODEL.BACKBONE.SQUARE_PAD", 64),
    ),
    "mvit": (
        *("MODEL.MVIT.EMBED_DIM", 8, "MODEL.MVIT.DEPTH", 4),
        *("MODEL.MVIT.LAST_BLOCK_INDEXES", [0, 1, 2, 3]),
    ),
}


def narrow_options(kind: str) -> list[Any]:
    return [*NARROW, *BACKBONES[kind]]


def narrow_config(kind: str, more: Sequence[Any] = ()) -> CfgNode:
    """Of a zoo model's backbone "vit", "swin" or "mvit", with few channels and blocks."""
    return load_config(ZOO[kind], [*narrow_options(kind), *more])


def names_and_shapes(cfg: CfgNode) -> dict[str, tuple[int, ...]]:
    """Of a model's variables and buffers, as in Detectron2's state dict."""
    return {name: array.shape for name, array in narrow_state_dict(cfg).items()}


def narrow_state_dict(cfg: CfgNode) -> dict[str, np.ndarray]:
    """Seeded weights, with buffers and the counters of PyTorch's BatchNorm."""
    key = cfg.MODEL.dump()
    if key not in _KNOWN:
        _KNOWN[key] = _make_state_dict(cfg)
    return dict(_KNOWN[key])


# Of the models that were asked for: building one takes a second.
_KNOWN: dict[str, dict[str, np.ndarray]] = {}


def _make_state_dict(cfg: CfgNode) -> dict[str, np.ndarray]:
    with tf.Graph().as_default():
        model = build_model(cfg)
        shapes = {named.name: named.foreign_shape for named in named_variables(model)}
    arrays = state_dict(shapes)
    for name in shapes:
        if name.endswith("running_var"):
            counter = name.replace("running_var", "num_batches_tracked")
            arrays[counter] = np.zeros([], np.int64)
    return arrays | {name: buffer.compute() for name, buffer in named_buffers(model)}


def _backbone(cfg: CfgNode) -> dict[str, np.ndarray]:
    """The parameters of a backbone below an FPN, by their names within it."""
    prefix = "backbone.bottom_up."
    arrays = narrow_state_dict(cfg)
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def imagenet_swin(cfg: CfgNode) -> dict[str, np.ndarray]:
    """By the names of microsoft/Swin-Transformer: one norm, a classifier, a mask per block."""
    arrays = {name: array for name, array in _backbone(cfg).items() if not name.startswith("norm")}
    width = cfg.MODEL.SWIN.EMBED_DIM * 8
    mask = np.zeros([4, cfg.MODEL.SWIN.WINDOW_SIZE**2, cfg.MODEL.SWIN.WINDOW_SIZE**2], np.float32)
    extra = {"norm.weight": (width,), "norm.bias": (width,)}
    extra |= {"head.weight": (10, width), "head.bias": (10,)}
    return arrays | state_dict(extra) | {"layers.1.blocks.1.attn_mask": mask}


def imagenet_mvit(cfg: CfgNode) -> dict[str, np.ndarray]:
    """By the names of facebookresearch/mvit: one norm and a classifier."""
    arrays = {name: array for name, array in _backbone(cfg).items() if "_norm." not in name}
    width = cfg.MODEL.MVIT.EMBED_DIM * 8
    extra = {"norm.weight": (width,), "norm.bias": (width,)}
    extra |= {"head.projection.weight": (10, width), "head.projection.bias": (10,)}
    return arrays | state_dict(extra)
