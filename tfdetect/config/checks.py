"""Rejects invalid values before a model is built.

Detectron2 checks few of them: most lead to an assertion there, or to a meaningless result. Special
values that it accepts (None, 0, -1, an empty list) are accepted here too; see the comments. As in
Detectron2, only keys of the parts that a model has are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.config.choices import check_choices
from tfdetect.config.mvit import MVIT, check_mvit
from tfdetect.config.rotated import check_rotated
from tfdetect.config.rules import (
    BELOW_1,
    NO_NAN,
    NOT_ZERO,
    Rule,
    at_least,
    between,
    check_rules,
    each,
    numbers,
    require_value,
    require_values,
)
from tfdetect.config.swin import SWIN, check_swin
from tfdetect.config.vit import (
    SIMPLE_FEATURE_PYRAMID,
    VIT,
    check_simple_feature_pyramid,
    check_vit,
)
from tfdetect.errors import InputError

# -1 in a list of channels: as many as come in.
_CHANNELS = Rule(
    lambda value: value == -1 or value > 0, "more than 0, or -1 for those of the input"
)
_DENSE = {
    "NUM_CLASSES": at_least(1),
    "NUM_CONVS": at_least(1),
    "PRIOR_PROB": Rule(lambda value: 0 < value < 1, "a number between 0 and 1"),
    "SCORE_THRESH_TEST": NO_NAN,
    "NMS_THRESH_TEST": NO_NAN,
    "TOPK_CANDIDATES_TEST": at_least(0),
}
_POOLED = {
    # 0 or less: adaptive number of samples; any integer is valid.
    "POOLER_RESOLUTION": at_least(1),
}

# Of every use of a model. A key that is missing here may be any value of its type but null.
_MODEL: dict[str, Rule] = {
    "FLOAT32_PRECISION": Rule(
        lambda value: value in ("", "highest", "high", "medium"),
        "'' or 'highest' for exact float32, 'high' or 'medium' for TF32 on a GPU",
    ),
    "MODEL.PIXEL_MEAN": numbers(3),
    "MODEL.PIXEL_STD": numbers(3, NOT_ZERO),
    # 0: the image's own size.
    "INPUT.MIN_SIZE_TEST": at_least(0),
    "INPUT.MAX_SIZE_TEST": at_least(1),
    # 0: no square.
    "MODEL.BACKBONE.SQUARE_PAD": at_least(0),
}
_SECTIONS: dict[str, dict[str, Rule]] = {
    "RESNETS": {
        "NUM_GROUPS": at_least(1),
        "WIDTH_PER_GROUP": at_least(1),
        "RES2_OUT_CHANNELS": at_least(1),
        "STEM_OUT_CHANNELS": at_least(1),
        "DEFORM_NUM_GROUPS": at_least(1),
    },
    "VIT": VIT,
    "SIMPLE_FEATURE_PYRAMID": SIMPLE_FEATURE_PYRAMID,
    "MVIT": MVIT,
    "SWIN": SWIN,
    "FPN": {"OUT_CHANNELS": at_least(1)},
    # PROPOSAL_GENERATOR.MIN_SIZE, negative: not even a box without area is dropped.
    "ANCHOR_GENERATOR": {"OFFSET": BELOW_1},
    "RPN": {
        "PRE_NMS_TOPK_TEST": at_least(0),
        "POST_NMS_TOPK_TEST": at_least(0),
        # Above 1 every box is kept, below 0 the best one only.
        "NMS_THRESH": NO_NAN,
        "BBOX_REG_WEIGHTS": numbers(4, NOT_ZERO),
        # Empty: no convolution.
        "CONV_DIMS": each(_CHANNELS),
    },
    "ROI_HEADS": {
        "NUM_CLASSES": at_least(1),
        "SCORE_THRESH_TEST": NO_NAN,
        "NMS_THRESH_TEST": NO_NAN,
    },
    "ROI_BOX_HEAD": _POOLED
    | {
        "NUM_CONV": at_least(0),
        "NUM_FC": at_least(0),
        "CONV_DIM": at_least(1),
        "FC_DIM": at_least(1),
        "BBOX_REG_WEIGHTS": numbers(4, NOT_ZERO),
    },
    "ROI_BOX_CASCADE_HEAD": {
        "BBOX_REG_WEIGHTS": Rule(
            lambda value: len(value) > 0 and all(map(numbers(4, NOT_ZERO).holds, value)),
            "4 numbers for each stage, not 0",
        ),
    },
    "ROI_MASK_HEAD": _POOLED
    | {
        "NUM_CONV": at_least(0),
        "CONV_DIM": at_least(1),
        "FC_DIM": at_least(1),
        "NUM_FC": at_least(1),
        "OUTPUT_SIDE_RESOLUTION": at_least(1),
    },
    "POINT_HEAD": {
        "NUM_CLASSES": at_least(1),
        "FC_DIM": at_least(1),
        "NUM_FC": at_least(0),
        # 0: the first mask is the last.
        "SUBDIVISION_STEPS": between(0, 10),
        "SUBDIVISION_NUM_POINTS": at_least(1),
    },
    # CONV_DIMS, empty: no convolution.
    "ROI_KEYPOINT_HEAD": _POOLED | {"NUM_KEYPOINTS": at_least(1), "CONV_DIMS": each(at_least(1))},
    "SEM_SEG_HEAD": {
        "NUM_CLASSES": at_least(1),
        "CONVS_DIM": at_least(1),
        "COMMON_STRIDE": at_least(1),
    },
    "RETINANET": _DENSE | {"BBOX_REG_WEIGHTS": numbers(4, NOT_ZERO)},
    "FCOS": _DENSE | {"OFFSET": BELOW_1},
}

# Of values that do not go together.
_TOGETHER: dict[str, Callable[[CfgNode], None]] = {
    "VIT": check_vit,
    "SIMPLE_FEATURE_PYRAMID": check_simple_feature_pyramid,
    "MVIT": check_mvit,
    "SWIN": check_swin,
}

# Of models of rotated boxes, in place of the above.
_ROTATED: dict[str, dict[str, Rule]] = {
    "RPN": {"BBOX_REG_WEIGHTS": numbers(5, NOT_ZERO)},
    "ROI_BOX_HEAD": {"BBOX_REG_WEIGHTS": numbers(5, NOT_ZERO)},
}

# The channels that the norm of a section has, which GN divides by 32.
_NORMALIZED = {
    "RESNETS": ("RESNETS", "RES2_OUT_CHANNELS"),
    "FPN": ("FPN", "OUT_CHANNELS"),
    "RETINANET": ("FPN", "OUT_CHANNELS"),
    "FCOS": ("FPN", "OUT_CHANNELS"),
    "ROI_BOX_HEAD": ("ROI_BOX_HEAD", "CONV_DIM"),
    "ROI_MASK_HEAD": ("ROI_MASK_HEAD", "CONV_DIM"),
    "SEM_SEG_HEAD": ("SEM_SEG_HEAD", "CONVS_DIM"),
}
_GROUPS = 32


def check_model(cfg: CfgNode) -> None:
    """Raise InputError for values that are invalid for the model or for inference."""
    check_rotated(cfg)
    sections, rotated = list(model_sections(cfg)), capabilities(cfg).rotated
    for name, node in cfg.MODEL.items():
        if not isinstance(node, CfgNode):
            require_value(f"MODEL.{name}", node)
    check_rules(cfg, _MODEL)
    for section in sections:
        require_values(f"MODEL.{section}", cfg.MODEL[section])
        rules = _SECTIONS.get(section, {})
        if rotated:
            rules = rules | _ROTATED.get(section, {})
        check_rules(cfg, {f"MODEL.{section}.{name}": rule for name, rule in rules.items()})
        place, width = _NORMALIZED.get(section, ("", ""))
        # The features of a dense head may be of another backbone than an FPN.
        if place not in sections or cfg.MODEL[section].NORM != "GN":
            continue
        if cfg.MODEL[place][width] % _GROUPS:
            raise InputError(
                f"MODEL.{place}.{width}: is {cfg.MODEL[place][width]}, which is not "
                f"divisible by the {_GROUPS} "
                f"groups of MODEL.{section}.NORM GN; give a multiple of {_GROUPS}"
            )
    check_choices(cfg, sections)
    for section, check in _TOGETHER.items():
        if section in sections:
            check(cfg.MODEL)
    _check_square(cfg)
    if cfg.TEST.DETECTIONS_PER_IMAGE is None:
        raise InputError("TEST.DETECTIONS_PER_IMAGE: is null; give a number")
    if capabilities(cfg).parts.dense_head and cfg.TEST.DETECTIONS_PER_IMAGE < 0:
        raise InputError(
            f"TEST.DETECTIONS_PER_IMAGE: is {cfg.TEST.DETECTIONS_PER_IMAGE}, which "
            f"{cfg.MODEL.META_ARCHITECTURE} has no meaning for; give 0 or more"
        )


def _check_square(cfg: CfgNode) -> None:
    """An image may not be longer than MODEL.BACKBONE.SQUARE_PAD: Detectron2 would cut it off."""
    side = cfg.MODEL.BACKBONE.SQUARE_PAD
    limits = {"INPUT.MAX_SIZE_TEST": cfg.INPUT.MAX_SIZE_TEST}
    if cfg.INPUT.MIN_SIZE_TEST == 0:  # the images' own sizes, which are looked at when they come
        limits.clear()
    if cfg.TEST.AUG.ENABLED:
        limits["TEST.AUG.MAX_SIZE"] = cfg.TEST.AUG.MAX_SIZE
    for key, limit in limits.items():
        if 0 < side < limit:
            raise InputError(
                f"{key}: is {limit}, but MODEL.BACKBONE.SQUARE_PAD pads images to squares of "
                f"{side}; set it to at most {side}"
            )


def _backbone_sections(backbone: str) -> Iterator[str]:
    """The sections of MODEL that a backbone of this name uses, below an FPN."""
    if backbone.startswith("build_vit_"):
        yield "VIT"
        if "simple_feature_pyramid" in backbone:
            yield "SIMPLE_FEATURE_PYRAMID"
    elif "mvit" in backbone:
        yield "MVIT"
    elif backbone.startswith("build_swin_"):
        yield "SWIN"
    else:
        yield "REGNETS" if "regnet" in backbone else "RESNETS"


def model_sections(cfg: CfgNode) -> Iterator[str]:
    """The sections of MODEL that the configured model uses."""
    model = cfg.MODEL
    able, backbone = capabilities(cfg), str(model.BACKBONE.NAME)
    yield "BACKBONE"
    yield from _backbone_sections(backbone)
    if "fpn" in backbone:
        yield "FPN"
    if able.parts.dense_head:
        yield able.parts.dense_head
        if able.parts.dense_head == "RETINANET":
            yield "ANCHOR_GENERATOR"
    if able.has_semantic:
        yield "SEM_SEG_HEAD"
    if able.has_panoptic:
        yield "PANOPTIC_FPN"
    if able.has_points:
        yield from ("POINT_HEAD", "IMPLICIT_POINTREND")
    if able.parts.proposal_generator:
        yield "PROPOSAL_GENERATOR"
        if not able.takes_proposals:
            yield from ("ANCHOR_GENERATOR", "RPN")
    if not able.parts.roi_heads:
        return
    yield from ("ROI_HEADS", "ROI_BOX_HEAD")
    if able.cascade:
        yield "ROI_BOX_CASCADE_HEAD"
    if able.has_masks:
        yield "ROI_MASK_HEAD"
    if able.has_keypoints:
        yield "ROI_KEYPOINT_HEAD"
