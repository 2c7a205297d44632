"""Which layers of a model can be int8, and which of them stay in float32."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfdetect.checkpoint.names import named_modules
from tfdetect.errors import InputError
from tfdetect.inference.quantization.make import Layer
from tfdetect.layers.conv import Conv2d, ConvTranspose2d
from tfdetect.layers.conv1d import Conv1d
from tfdetect.layers.deform_conv import DeformConv2d
from tfdetect.layers.depthwise_conv import DepthwiseConv2d
from tfdetect.layers.linear import Linear
from tfdetect.modeling.backbone.blocks import BottleneckBlock
from tfdetect.modeling.backbone.mvit import MViT
from tfdetect.modeling.backbone.swin import SwinTransformer
from tfdetect.modeling.backbone.vit import ViT
from tfdetect.modeling.dense.heads import FCOSHead, RetinaNetHead
from tfdetect.modeling.proposal_generator.rpn import RPNHead
from tfdetect.modeling.roi_heads.box_head import FastRCNNOutputLayers
from tfdetect.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from tfdetect.modeling.semantic import SemSegFPNHead

_LAYERS = (Conv2d, ConvTranspose2d, Linear)
_OTHERS = {
    DeformConv2d: "deformable",
    DepthwiseConv2d: "a convolution of single channels",
    Conv1d: "a convolution of points",
}
_TRANSFORMERS = (ViT, SwinTransformer, MViT)
_PREDICTOR = "predicts the result itself"
# What stays in float32 whatever was measured: a small share of the work.
_KEPT: dict[type, dict[str, str]] = {
    RPNHead: dict.fromkeys(("objectness_logits", "anchor_deltas"), _PREDICTOR),
    FastRCNNOutputLayers: dict.fromkeys(("cls_score", "bbox_pred"), _PREDICTOR),
    MaskRCNNConvUpsampleHead: {"predictor": _PREDICTOR},
    RetinaNetHead: dict.fromkeys(("cls_score", "bbox_pred"), _PREDICTOR),
    FCOSHead: dict.fromkeys(("cls_score", "bbox_pred", "ctrness"), _PREDICTOR),
    SemSegFPNHead: {"predictor": _PREDICTOR},
    BottleneckBlock: {"conv2_offset": "says where a deformable one looks"},
}


def find_layers(
    model: tf.Module, keep: Sequence[str] = ()
) -> tuple[dict[str, Layer], dict[str, str]]:
    """The layers of a model with weights, by their paths.

    Args:
        model: of `build_model`.
        keep: patterns (shell style) of those that are to stay in float32.

    Returns:
        Those that may be int8, and of the others why they stay in float32.

    Raises:
        InputError: a pattern is that of no layer.
    """
    free: dict[str, Layer] = {}
    kept: dict[str, str] = {}
    for name, layer, reason in _walk(model):
        if reason:
            kept[name] = reason
        else:
            free[name] = layer
    for pattern in keep:
        matched = fnmatch.filter(free, pattern)
        if not matched and not fnmatch.filter(kept, pattern):
            raise InputError(
                f"--keep {pattern}: is the name of no layer; they are such as {min(free or kept)}"
            )
        for name in matched:
            del free[name]
            kept[name] = "as --keep says"
    return free, kept


def _walk(model: tf.Module) -> Iterator[tuple[str, Any, str]]:
    """(path, layer, why it stays in float32 or "") of every layer with weights, once each."""
    modules = dict(named_modules(model))
    seen: set[int] = set()
    for name, layer in modules.items():
        if type(layer) not in (*_LAYERS, *_OTHERS) or id(layer) in seen:
            continue
        seen.add(id(layer))
        yield name, layer, _reason(layer, name, modules)


def _reason(layer: Any, name: str, modules: dict[str, tf.Module]) -> str:
    if type(layer) in _OTHERS:
        return _OTHERS[type(layer)]
    path, parents = name.split("."), []
    for end in range(len(path)):
        parents.append(modules.get(".".join(path[:end])))
    if any(isinstance(parent, _TRANSFORMERS) for parent in parents):
        return "part of a transformer"
    reason = _KEPT.get(type(parents[-1]), {}).get(path[-1])
    if reason:
        return reason
    if isinstance(layer, ConvTranspose2d) and layer.weight.shape[0] != 2:
        return "a transposed convolution whose outputs overlap"
    if isinstance(layer, Conv2d) and layer.weight.shape[2] * layer.groups == 3:
        return "reads the image"
    return ""
