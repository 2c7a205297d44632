"""Anchors, matchers, box coding and the RPN of a LazyConfig, into MODEL's keys."""

from __future__ import annotations

import math
from typing import Any

from convert_d2.lazy_config.arguments import Arguments, Feature, converts, is_number, show
from convert_d2.lazy_config.features import expect_features

PROPOSAL_GENERATOR = "a proposal generator"
ANCHORS, ROTATED_ANCHORS = "an anchor generator", "a generator of rotated anchors"
CODING, ROTATED_CODING = "a box transform", "a transform of rotated boxes"
LINEAR_CODING = "a linear box transform"
MATCHER = "a matcher"
_RPN_HEAD = "an RPN head"
_SCALE_CLAMP = math.log(1000.0 / 16)


@converts("detectron2.modeling.anchor_generator.DefaultAnchorGenerator", ANCHORS)
def _anchors(args: Arguments, features: list[Feature]) -> list[int]:
    args.set("MODEL.ANCHOR_GENERATOR.NAME", "_target_", "DefaultAnchorGenerator")
    return _set_anchors(args, features, ("sizes", "aspect_ratios"))


@converts("detectron2.modeling.anchor_generator.RotatedAnchorGenerator", ROTATED_ANCHORS)
def _rotated_anchors(args: Arguments, features: list[Feature]) -> list[int]:
    args.set("MODEL.ANCHOR_GENERATOR.NAME", "_target_", "RotatedAnchorGenerator")
    return _set_anchors(args, features, ("sizes", "aspect_ratios", "angles"))


def _set_anchors(args: Arguments, features: list[Feature], names: tuple[str, ...]) -> list[int]:
    """MODEL.ANCHOR_GENERATOR; the number of anchors at each location by feature map."""
    strides = [stride for _, stride in features]
    args.expect("strides", strides, f"the feature maps have strides {strides}")
    counts = [1] * len(strides)
    for name in names:
        value = args.take(name)
        is_nested = isinstance(value, list) and value and isinstance(value[0], list)
        nested = value if is_nested else [value]
        valid = all(
            isinstance(entry, list) and entry and all(map(is_number, entry)) for entry in nested
        )
        if not valid or len(nested) not in (1, len(strides)):
            raise args.error(
                name,
                f"is {show(value)}; give a list of numbers for each of {len(strides)} feature maps",
            )
        args.set(f"MODEL.ANCHOR_GENERATOR.{name.upper()}", name, nested)
        counts = [count * len(nested[index % len(nested)]) for index, count in enumerate(counts)]
    # Not what yacs has by default.
    args.set("MODEL.ANCHOR_GENERATOR.OFFSET", "offset", args.number("offset", 0.5))
    return counts


@converts("detectron2.modeling.box_regression.Box2BoxTransform", CODING)
def _coding(args: Arguments) -> list[float]:
    return _take_coding(args, 4)


@converts("detectron2.modeling.box_regression.Box2BoxTransformRotated", ROTATED_CODING)
def _rotated_coding(args: Arguments) -> list[float]:
    return _take_coding(args, 5)


def _take_coding(args: Arguments, count: int) -> list[float]:
    """The weights of a box transform."""
    weights = args.numbers("weights")
    if len(weights) != count:
        raise args.error("weights", f"is {show(weights)}; give {count} numbers")
    clamp = args.number("scale_clamp", _SCALE_CLAMP)
    if not math.isclose(clamp, _SCALE_CLAMP, rel_tol=1e-6):
        raise args.error("scale_clamp", f"is {clamp}, but it is log(1000 / 16) here")
    return weights


@converts("detectron2.modeling.box_regression.Box2BoxTransformLinear", LINEAR_CODING)
def _linear_coding(args: Arguments) -> bool:
    return args.flag("normalize_by_size", True)


@converts("detectron2.modeling.matcher.Matcher", MATCHER)
def _matcher(args: Arguments, low_quality: bool) -> tuple[list[Any], list[Any]]:
    """Thresholds and labels."""
    thresholds, labels = args.numbers("thresholds"), args.integers("labels")
    given = args.flag("allow_low_quality_matches", False)
    if given != low_quality:
        args.note(
            "allow_low_quality_matches",
            f"is {given}, but training has {low_quality} here, as Detectron2's yacs configurations",
        )
    return thresholds, labels


@converts("detectron2.modeling.proposal_generator.rpn.RPN", PROPOSAL_GENERATOR)
def _rpn(args: Arguments, features: dict[str, Feature]) -> None:
    args.set("MODEL.PROPOSAL_GENERATOR.NAME", "_target_", "RPN")
    _set_rpn(args, features, ANCHORS, CODING)


@converts("detectron2.modeling.proposal_generator.rrpn.RRPN", PROPOSAL_GENERATOR)
def _rrpn(args: Arguments, features: dict[str, Feature]) -> None:
    args.set("MODEL.PROPOSAL_GENERATOR.NAME", "_target_", "RRPN")
    _set_rpn(args, features, ROTATED_ANCHORS, ROTATED_CODING)


def _set_rpn(args: Arguments, features: dict[str, Feature], anchors: str, coding: str) -> None:
    """MODEL.RPN, with anchors and a box transform of these roles."""
    key = "MODEL.RPN."
    names = args.names("in_features")
    used = expect_features(args, "in_features", features, names)
    args.set(f"{key}IN_FEATURES", "in_features", names)
    counts = args.part("anchor_generator", anchors, features=used)
    weights = args.part("box2box_transform", coding)
    args.part("head", _RPN_HEAD, channels=used[0][0], anchors=counts, box_dim=len(weights))
    set_matcher(args, "anchor_matcher", "RPN", low_quality=True)
    args.set(f"{key}BBOX_REG_WEIGHTS", "box2box_transform", weights)
    args.set(
        f"{key}BATCH_SIZE_PER_IMAGE", "batch_size_per_image", args.integer("batch_size_per_image")
    )
    args.set(f"{key}POSITIVE_FRACTION", "positive_fraction", args.number("positive_fraction"))
    for name in ("pre_nms_topk", "post_nms_topk"):
        values = args.integers(name)
        if len(values) != 2:
            raise args.error(
                name, f"is {show(values)}; give two numbers, of training and of inference"
            )
        args.set(f"{key}{name.upper()}_TRAIN", name, values[0])
        args.set(f"{key}{name.upper()}_TEST", name, values[1])
    args.set(f"{key}NMS_THRESH", "nms_thresh", args.number("nms_thresh", 0.7))
    size = args.number("min_box_size", 0.0)
    if size != int(size):
        raise args.error("min_box_size", f"is {size}; give a whole number of pixels")
    args.set("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", "min_box_size", int(size))
    boundary = args.number("anchor_boundary_thresh", -1.0)
    args.set(f"{key}BOUNDARY_THRESH", "anchor_boundary_thresh", int(boundary))
    if boundary != int(boundary):
        args.note("anchor_boundary_thresh", f"{boundary} is taken for {int(boundary)} in training")
    classes, boxes = loss_weights(args, "loss_rpn_cls", "loss_rpn_loc")
    args.set(f"{key}LOSS_WEIGHT", "loss_weight", classes)
    args.set(f"{key}BBOX_REG_LOSS_WEIGHT", "loss_weight", boxes / classes if classes else 1.0)
    if not classes and boxes:
        args.note(
            "loss_weight", "here MODEL.RPN.LOSS_WEIGHT 0 switches both losses off in training"
        )
    args.set(
        f"{key}BBOX_REG_LOSS_TYPE", "box_reg_loss_type", args.text("box_reg_loss_type", "smooth_l1")
    )
    args.set(f"{key}SMOOTH_L1_BETA", "smooth_l1_beta", args.number("smooth_l1_beta", 0.0))


@converts("detectron2.modeling.proposal_generator.rpn.StandardRPNHead", _RPN_HEAD)
def _rpn_head(args: Arguments, channels: int | None, anchors: list[int], box_dim: int) -> None:
    given = args.integer("in_channels")
    if channels is not None and given != channels:
        raise args.error("in_channels", f"is {given}, but the feature maps have {channels}")
    count = args.integer("num_anchors")
    if any(number != count for number in anchors):
        raise args.error(
            "num_anchors", f"is {count}, but the anchor generator has {max(anchors)} at a location"
        )
    args.expect("box_dim", box_dim, f"boxes are {box_dim} numbers", default=4)
    args.set("MODEL.RPN.HEAD_NAME", "_target_", "StandardRPNHead")
    args.set("MODEL.RPN.CONV_DIMS", "conv_dims", args.integers("conv_dims", [-1]))


def set_matcher(args: Arguments, name: str, section: str, *, low_quality: bool) -> None:
    """IOU_THRESHOLDS and IOU_LABELS of a section."""
    thresholds, labels = args.part(name, MATCHER, low_quality=low_quality)
    args.set(f"MODEL.{section}.IOU_THRESHOLDS", name, thresholds)
    args.set(f"MODEL.{section}.IOU_LABELS", name, labels)


def loss_weights(args: Arguments, first: str, second: str) -> tuple[float, float]:
    """A `loss_weight`, which is a number for all losses or a mapping with some of them."""
    value = args.take("loss_weight", 1.0)
    if (
        isinstance(value, dict)
        and set(value) <= {first, second}
        and all(map(is_number, value.values()))
    ):
        return value.get(first, 1.0), value.get(second, 1.0)
    if is_number(value):
        return value, value
    raise args.error(
        "loss_weight", f"is {show(value)}; give a number, or those of {first} and {second}"
    )
