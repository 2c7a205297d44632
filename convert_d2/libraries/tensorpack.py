"""tensorpack's FasterRCNN models (`.npz`): names and layouts, both ways.

tensorpack's own `convert_d2` makes one from a Detectron2 pickle; `to_tensorpack` gives the same
arrays and `tensorpack_config` the same options, and `from_tensorpack` goes back. In tensorpack the
background is class 0 and has box deltas too, which nothing reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from yacs.config import CfgNode

from convert_d2.libraries.architecture import pooler_options
from tfdetect.config.capabilities import capabilities
from tfdetect.errors import InputError

# Names that a model of tensorpack has, and no other library's.
MARKERS = ("conv0/W", "rpn/conv0/W")

_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# The depths that tensorpack's own converter knows.
_WRITTEN_DEPTHS = (50, 101)
# What a training checkpoint has in addition to the weights.
_TRAINING = re.compile(r".*/Momentum|global_step|learning_rate")
_BATCH_NORM = {
    "weight": "bn/gamma",
    "bias": "bn/beta",
    "running_var": "bn/variance/EMA",
    "running_mean": "bn/mean/EMA",
}
# What Detectron2 computes again from the configuration.
_RECOMPUTED = re.compile(r".*\bcell_anchors\b.*|pixel_mean|pixel_std|.*\.num_batches_tracked")
# The kinds of layers: convolution, linear, and of the box predictor the deltas and the classes.
_CONV, _LINEAR, _DELTAS, _CLASSES = "convolution", "linear", "deltas", "classes"


def tensorpack_config(cfg: CfgNode) -> list[tuple[str, Any]]:
    """tensorpack's options, (key, value), for a model of Detectron2's configuration.

    Raises:
        InputError: tensorpack has no such model; the message names the key.
    """
    model = cfg.MODEL
    fpn = _has_fpn(cfg)
    heads = ("StandardROIHeads", "CascadeROIHeads") if fpn else ("Res5ROIHeads",)
    _require("META_ARCHITECTURE", model.META_ARCHITECTURE, ("GeneralizedRCNN",))
    _require("PROPOSAL_GENERATOR.NAME", model.PROPOSAL_GENERATOR.NAME, ("RPN",))
    _require("ROI_HEADS.NAME", model.ROI_HEADS.NAME, heads)
    _require("RESNETS.DEPTH", model.RESNETS.DEPTH, _WRITTEN_DEPTHS)
    _require("RESNETS.NUM_GROUPS", model.RESNETS.NUM_GROUPS, (1,))
    _require("RESNETS.RES5_DILATION", model.RESNETS.RES5_DILATION, (1,))
    _require("ROI_BOX_HEAD.POOLER_TYPE", model.ROI_BOX_HEAD.POOLER_TYPE, ("ROIAlignV2",))
    _require("ROI_MASK_HEAD.POOLER_TYPE", model.ROI_MASK_HEAD.POOLER_TYPE, ("ROIAlignV2",))
    _require("KEYPOINT_ON", model.KEYPOINT_ON, (False,))
    options: list[tuple[str, Any]] = [("MODE_MASK", model.MASK_ON), ("MODE_FPN", fpn)]
    if fpn:
        cascade = capabilities(cfg).cascade
        options.append(("FPN.CASCADE", cascade))
        if cascade:
            _require("ROI_BOX_CASCADE_HEAD.IOUS", len(model.ROI_BOX_CASCADE_HEAD.IOUS), (3,))
            _require("ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", _is_agnostic(cfg), (True,))
    if model.RESNETS.DEPTH != 50:
        options.append(("BACKBONE.RESNET_NUM_BLOCKS", list(_BLOCKS[model.RESNETS.DEPTH])))
    return [
        *options,
        ("BACKBONE.STRIDE_1X1", model.RESNETS.STRIDE_IN_1X1),
        ("PREPROC.PIXEL_MEAN", list(model.PIXEL_MEAN)[::-1]),
        ("PREPROC.PIXEL_STD", list(model.PIXEL_STD)[::-1]),
    ]


def to_tensorpack(
    arrays: Mapping[str, np.ndarray], cfg: CfgNode, source: str
) -> dict[str, np.ndarray]:
    """A state dict of Detectron2 as tensorpack's arrays by name.

    Args:
        arrays: in PyTorch's layout.
        cfg: one that `tensorpack_config` accepts.
        source: what the arrays are from, for errors.

    Raises:
        InputError: an array is missing, or tensorpack has no place for it.
    """
    left = {name: array for name, array in arrays.items() if not _RECOMPUTED.fullmatch(name)}
    result: dict[str, np.ndarray] = {}

    def take(name: str) -> np.ndarray:
        if name not in left:
            raise InputError(f"{source}: has no {name}; give the configuration from its training")
        return left.pop(name)

    for ours, theirs, kind in _layers(cfg):
        parts = {"W": take(f"{ours}.weight")}
        if f"{ours}.bias" in left:
            parts["b"] = take(f"{ours}.bias")
        if kind == _DELTAS and not _is_agnostic(cfg):
            # The deltas of the background, which nothing reads: those of the first class.
            parts = {key: np.concatenate([part[:4], part]) for key, part in parts.items()}
        if kind == _CLASSES:
            parts = {key: np.roll(part, 1, axis=0) for key, part in parts.items()}
        weight = parts.pop("W")
        result[f"{theirs}/W"] = weight.transpose([2, 3, 1, 0] if weight.ndim == 4 else [1, 0])
        if f"{ours}.norm.weight" in left:
            for part, name in _BATCH_NORM.items():
                result[f"{theirs}/{name}"] = take(f"{ours}.norm.{part}")
        result |= {f"{theirs}/{key}": part for key, part in parts.items()}
    if left:
        raise InputError(
            f"{source}: tensorpack has no place for {next(iter(left))}; give the configuration of "
            "its training, or keep the model here"
        )
    return result


def from_tensorpack(arrays: Mapping[str, np.ndarray], cfg: CfgNode) -> dict[str, np.ndarray]:
    """tensorpack's arrays as a state dict of Detectron2, without what only training needs.

    Group normalisation is understood here too. Missing arrays, and arrays with unknown names, which
    are kept, are reported by `assign_state_dict`.
    """
    left = {name: array for name, array in arrays.items() if not _TRAINING.fullmatch(name)}
    result: dict[str, np.ndarray] = {}
    for ours, theirs, kind in _layers(cfg):
        parts = {}
        for name in ("W", "b"):
            part = left.pop(f"{theirs}/{name}", None)
            if part is None:
                continue
            if name == "W":
                part = part.transpose([3, 2, 0, 1] if part.ndim == 4 else [1, 0])
            if kind == _DELTAS and not _is_agnostic(cfg):
                part = part[4:]
            parts[name] = np.roll(part, -1, axis=0) if kind == _CLASSES else part
        for name, part in parts.items():
            result[f"{ours}.{'weight' if name == 'W' else 'bias'}"] = np.ascontiguousarray(part)
        for parameter, name in _BATCH_NORM.items():
            for norm in (f"{theirs}/{name}", f"{_group_norm(theirs)}/{name[3:]}"):
                if norm in left:
                    result[f"{ours}.norm.{parameter}"] = left.pop(norm)
    return result | left


def tensorpack_architecture(names: Iterable[str]) -> dict[str, Any]:
    """The keys of Detectron2's configuration that settle which layers a model of tensorpack has."""
    names = set(names)
    fpn = "fpn/lateral_1x1_c2/W" in names
    cascade = "cascade_rcnn_stage1/outputs/class/W" in names
    inner = "cascade_rcnn_stage1/head" if cascade else "fastrcnn"
    blocks = sum(f"group2/block{block}/conv1/W" in names for block in range(40))
    one_stage = "StandardROIHeads" if fpn else "Res5ROIHeads"
    return {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone" if fpn else "build_resnet_backbone",
        "MODEL.RESNETS.DEPTH": {6: 50, 23: 101}.get(blocks, 152),
        "MODEL.ROI_HEADS.NAME": "CascadeROIHeads" if cascade else one_stage,
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": cascade,
        "MODEL.ROI_BOX_HEAD.NUM_CONV": sum(f"{inner}/conv{k}/W" in names for k in range(9)),
        "MODEL.ROI_BOX_HEAD.NUM_FC": sum(f"{inner}/fc{k}/W" in names for k in ("", 6, 7)),
        "MODEL.MASK_ON": "maskrcnn/conv/W" in names,
        "MODEL.ROI_MASK_HEAD.NUM_CONV": sum(f"maskrcnn/fcn{k}/W" in names for k in range(9)),
    }


def tensorpack_options(found: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration options for models from tensorpack, as in its default `config.py`.

    It measures boxes as Detectron2. What stays different: it resizes images of 8 bits with OpenCV,
    scales boxes back by one factor for both axes, and grows a box to at most 1333 / 16 of its size.
    """
    fpn = found["MODEL.BACKBONE.NAME"] == "build_resnet_fpn_backbone"
    return {
        "MODEL.CONVENTIONS": "tensorpack",
        "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
        "MODEL.PIXEL_STD": [57.375, 57.12, 58.395],
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "INPUT.FORMAT": "BGR",
        # With FPN, tensorpack rounds it up to a multiple of 32.
        "INPUT.MAX_SIZE_TEST": 1344 if fpn else 1333,
    } | pooler_options("ROIAlignV2", 2)


def _require(key: str, value: Any, known: tuple) -> None:
    if value not in known:
        choices = " or ".join(map(str, known))
        raise InputError(f"MODEL.{key}: tensorpack has no model with {value}, only {choices}")


def _has_fpn(cfg: CfgNode) -> bool:
    return cfg.MODEL.BACKBONE.NAME == "build_resnet_fpn_backbone"


def _is_agnostic(cfg: CfgNode) -> bool:
    return cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG


def _group_norm(layer: str) -> str:
    """The group normalisation after a layer: beside those of FPN and heads, in the backbone's."""
    folder, _, name = layer.rpartition("/")
    if match := re.fullmatch(r"(?:lateral_1x1|posthoc_3x3)_(c\d|p\d)", name):
        return f"{folder}/gn_{match[1]}"
    if re.fullmatch(r"(?:fastrcnn|cascade_rcnn_stage\d/head|maskrcnn)", folder):
        return f"{folder}/gn{re.sub('[a-z]', '', name)}"
    return f"{layer}/gn"


def _layers(cfg: CfgNode) -> Iterator[tuple[str, str, str]]:
    """Detectron2's name, tensorpack's name and the kind of every layer, in tensorpack's order."""
    model = cfg.MODEL
    fpn = _has_fpn(cfg)
    backbone = "backbone.bottom_up" if fpn else "backbone"
    yield f"{backbone}.stem.conv1", "conv0", _CONV
    for group, blocks in enumerate(_BLOCKS[model.RESNETS.DEPTH]):
        parent = "roi_heads" if group == 3 and not fpn else backbone
        for block in range(blocks):
            ours, theirs = f"{parent}.res{group + 2}.{block}", f"group{group}/block{block}"
            for conv in ("conv1", "conv2", "conv3"):
                yield f"{ours}.{conv}", f"{theirs}/{conv}", _CONV
            if block == 0:
                yield f"{ours}.shortcut", f"{theirs}/convshortcut", _CONV
    if fpn:
        for level in range(2, 6):
            yield f"backbone.fpn_lateral{level}", f"fpn/lateral_1x1_c{level}", _CONV
            yield f"backbone.fpn_output{level}", f"fpn/posthoc_3x3_p{level}", _CONV
    rpn = "proposal_generator.rpn_head"
    yield f"{rpn}.conv", "rpn/conv0", _CONV
    yield f"{rpn}.objectness_logits", "rpn/class", _CONV
    yield f"{rpn}.anchor_deltas", "rpn/box", _CONV
    yield from _box_layers(cfg)
    if model.MASK_ON:
        mask = "roi_heads.mask_head"
        for index in range(model.ROI_MASK_HEAD.NUM_CONV):
            yield f"{mask}.mask_fcn{index + 1}", f"maskrcnn/fcn{index}", _CONV
        yield f"{mask}.deconv", "maskrcnn/deconv", _CONV
        yield f"{mask}.predictor", "maskrcnn/conv", _CONV


def _box_layers(cfg: CfgNode) -> Iterator[tuple[str, str, str]]:
    head = cfg.MODEL.ROI_BOX_HEAD
    if capabilities(cfg).cascade:
        places = [
            (f".{k}", f"cascade_rcnn_stage{k + 1}/head", f"cascade_rcnn_stage{k + 1}/outputs")
            for k in range(3)
        ]
    else:
        places = [("", "fastrcnn", "fastrcnn/outputs" if _has_fpn(cfg) else "fastrcnn")]
    for stage, inner, outputs in places:
        for index in range(head.NUM_CONV):
            yield f"roi_heads.box_head{stage}.conv{index + 1}", f"{inner}/conv{index}", _CONV
        for index in range(head.NUM_FC):
            # With convolutions before it there is one, which has no number.
            name = "fc" if head.NUM_CONV else f"fc{index + 6}"
            yield f"roi_heads.box_head{stage}.fc{index + 1}", f"{inner}/{name}", _LINEAR
        predictor = f"roi_heads.box_predictor{stage}"
        yield f"{predictor}.bbox_pred", f"{outputs}/box", _DELTAS
        yield f"{predictor}.cls_score", f"{outputs}/class", _CLASSES
