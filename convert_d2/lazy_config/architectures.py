"""Meta architectures of a LazyConfig, and the heads of dense and semantic models."""

from __future__ import annotations

from typing import Any

from convert_d2.lazy_config.arguments import Arguments, convert, converts, is_number, show
from convert_d2.lazy_config.features import (
    BACKBONE,
    SHAPE,
    Body,
    expect_channels,
    expect_features,
)
from convert_d2.lazy_config.proposals import (
    ANCHORS,
    CODING,
    LINEAR_CODING,
    PROPOSAL_GENERATOR,
    set_matcher,
)
from convert_d2.lazy_config.roi_heads import ROI_HEADS, Features, set_vis_period

ARCHITECTURE = "a model"
_SEMANTIC_HEAD = "a semantic head"
_DENSE_HEAD, _FCOS_HEAD = "a RetinaNet head", "an FCOS head"
_MODULE = "detectron2.modeling.meta_arch"


def _backbone(args: Arguments, name: str) -> Features:
    """The arguments that all architectures have; the backbone's features."""
    args.set("MODEL.META_ARCHITECTURE", "_target_", name)
    body: Body = args.part("backbone", BACKBONE)
    for pixels, key in (("pixel_mean", "MODEL.PIXEL_MEAN"), ("pixel_std", "MODEL.PIXEL_STD")):
        args.set(key, pixels, args.numbers(pixels))
    return body.features


def _format(args: Arguments, default: str | None) -> None:
    value = args.take("input_format", default)
    if value is not None:
        args.set("INPUT.FORMAT", "input_format", value)
    set_vis_period(args)


@converts(f"{_MODULE}.rcnn.GeneralizedRCNN", ARCHITECTURE)
def _rcnn(args: Arguments) -> None:
    features = _backbone(args, "GeneralizedRCNN")
    _proposals_and_roi_heads(args, features)
    _format(args, None)


@converts(f"{_MODULE}.rcnn.ProposalNetwork", ARCHITECTURE)
def _proposal_network(args: Arguments) -> None:
    features = _backbone(args, "ProposalNetwork")
    args.part("proposal_generator", PROPOSAL_GENERATOR, features=features)


@converts(f"{_MODULE}.panoptic_fpn.PanopticFPN", ARCHITECTURE)
def _panoptic(args: Arguments) -> None:
    features = _backbone(args, "PanopticFPN")
    _proposals_and_roi_heads(args, features)
    args.part("sem_seg_head", _SEMANTIC_HEAD, features=features)
    key = "MODEL.PANOPTIC_FPN.COMBINE."
    args.set(
        f"{key}OVERLAP_THRESH", "combine_overlap_thresh", args.number("combine_overlap_thresh", 0.5)
    )
    area = args.number("combine_stuff_area_thresh", 4096)
    args.set(
        f"{key}STUFF_AREA_LIMIT",
        "combine_stuff_area_thresh",
        int(area) if area == int(area) else area,
    )
    args.set(
        f"{key}INSTANCES_CONFIDENCE_THRESH",
        "combine_instances_score_thresh",
        args.number("combine_instances_score_thresh", 0.5),
    )
    _format(args, None)


def _proposals_and_roi_heads(args: Arguments, features: Features) -> None:
    if args.given("proposal_generator") is not None:
        args.part("proposal_generator", PROPOSAL_GENERATOR, features=features)
    else:
        args.take("proposal_generator")
        args.set("MODEL.PROPOSAL_GENERATOR.NAME", "proposal_generator", "PrecomputedProposals")
        args.set("MODEL.LOAD_PROPOSALS", "proposal_generator", True)
    args.part("roi_heads", ROI_HEADS, features=features)


@converts(f"{_MODULE}.semantic_seg.SemanticSegmentor", ARCHITECTURE)
def _semantic(args: Arguments) -> None:
    features = _backbone(args, "SemanticSegmentor")
    args.part("sem_seg_head", _SEMANTIC_HEAD, features=features)


@converts(f"{_MODULE}.semantic_seg.SemSegFPNHead", _SEMANTIC_HEAD)
def _semantic_head(args: Arguments, features: Features) -> None:
    key = "MODEL.SEM_SEG_HEAD."
    shapes = args.take("input_shape")
    if not isinstance(shapes, dict) or "_target_" in shapes:
        raise args.error("input_shape", f"is {show(shapes)}; give a ShapeSpec for each feature map")
    where = args.where("input_shape")
    strides = {}
    for name, shape in shapes.items():
        [(channels, stride)] = expect_features(args, "input_shape", features, [name])
        spec = convert(args.settings, f"{where}.{show(name)}", shape, SHAPE)
        expect_channels(args, f"input_shape.{name}", spec, channels)
        if spec["stride"] != stride:
            raise args.error(
                f"input_shape.{name}", f"has stride {spec['stride']}, but {name} has {stride}"
            )
        strides[name] = stride
    names = sorted(strides, key=lambda name: strides[name])
    args.set(f"{key}NAME", "_target_", "SemSegFPNHead")
    args.set(f"{key}IN_FEATURES", "input_shape", names)
    args.set(f"{key}NUM_CLASSES", "num_classes", args.integer("num_classes"))
    args.set(f"{key}CONVS_DIM", "conv_dims", args.integer("conv_dims"))
    args.set(f"{key}COMMON_STRIDE", "common_stride", args.integer("common_stride"))
    args.set(f"{key}LOSS_WEIGHT", "loss_weight", args.number("loss_weight", 1.0))
    args.norm(f"{key}NORM", "norm", None)
    args.set(f"{key}IGNORE_VALUE", "ignore_value", args.integer("ignore_value", -1))


@converts(f"{_MODULE}.retinanet.RetinaNet", ARCHITECTURE)
def _retinanet(args: Arguments) -> None:
    features = _backbone(args, "RetinaNet")
    key = "MODEL.RETINANET."
    names = args.names("head_in_features")
    used = expect_features(args, "head_in_features", features, names)
    args.set(f"{key}IN_FEATURES", "head_in_features", names)
    args.set(f"{key}NUM_CLASSES", "num_classes", args.integer("num_classes"))
    counts = args.part("anchor_generator", ANCHORS, features=used)
    channels = [number for number, _ in used]
    args.part("head", _DENSE_HEAD, section="RETINANET", channels=channels, anchors=counts)
    args.set(f"{key}BBOX_REG_WEIGHTS", "box2box_transform", args.part("box2box_transform", CODING))
    set_matcher(args, "anchor_matcher", "RETINANET", low_quality=True)
    set_focal_loss(args, "RETINANET")
    args.set(f"{key}SMOOTH_L1_LOSS_BETA", "smooth_l1_beta", args.number("smooth_l1_beta", 0.0))
    args.set(
        f"{key}BBOX_REG_LOSS_TYPE", "box_reg_loss_type", args.text("box_reg_loss_type", "smooth_l1")
    )
    set_dense_inference(args, "RETINANET", score=0.05, nms=0.5)
    _format(args, "BGR")


@converts(f"{_MODULE}.retinanet.RetinaNetHead", _DENSE_HEAD)
def _retinanet_head(args: Arguments, section: str, channels: list[Any], anchors: list[int]) -> None:
    key = f"MODEL.{section}."
    set_towers(args, section, channels)
    count = args.integer("num_anchors")
    if any(number != count for number in anchors):
        raise args.error(
            "num_anchors", f"is {count}, but the anchor generator has {max(anchors)} at a location"
        )
    args.norm(f"{key}NORM", "norm", "")
    args.set(f"{key}PRIOR_PROB", "prior_prob", args.number("prior_prob", 0.01))


@converts(f"{_MODULE}.fcos.FCOS", ARCHITECTURE)
def _fcos(args: Arguments) -> None:
    features = _backbone(args, "FCOS")
    key = "MODEL.FCOS."
    names = args.names("head_in_features", list(features))
    used = expect_features(args, "head_in_features", features, names)
    args.set(f"{key}IN_FEATURES", "head_in_features", names)
    args.set(f"{key}NUM_CLASSES", "num_classes", args.integer("num_classes"))
    args.part("head", _FCOS_HEAD, channels=[number for number, _ in used])
    by_size = True
    if args.given("box2box_transform") is None:
        args.take("box2box_transform", None)
    else:
        by_size = args.part("box2box_transform", LINEAR_CODING)
    args.set(f"{key}NORMALIZE_BY_SIZE", "box2box_transform", by_size)
    # Of the anchor generator that it makes itself, with that constructor's default.
    args.set(f"{key}OFFSET", "_target_", 0.5)
    radius = args.number("center_sampling_radius", 1.5)
    args.set(f"{key}CENTER_SAMPLING_RADIUS", "center_sampling_radius", radius)
    set_focal_loss(args, "FCOS")
    set_dense_inference(args, "FCOS", score=0.2, nms=0.6)


@converts(f"{_MODULE}.fcos.FCOSHead", _FCOS_HEAD)
def _fcos_head(args: Arguments, channels: list[Any]) -> None:
    set_towers(args, "FCOS", channels)
    args.norm("MODEL.FCOS.NORM", "norm", "")
    args.set("MODEL.FCOS.PRIOR_PROB", "prior_prob", args.number("prior_prob", 0.01))


def set_towers(args: Arguments, section: str, channels: list[Any]) -> None:
    """The classes and the convolutions of a dense head, which keep the feature maps' width."""
    args.set(f"MODEL.{section}.NUM_CLASSES", "num_classes", args.integer("num_classes"))
    shapes = args.parts("input_shape", SHAPE)
    if len(shapes) != len(channels):
        raise args.error(
            "input_shape", f"there are {len(shapes)}, but {len(channels)} feature maps"
        )
    for index, (shape, width) in enumerate(zip(shapes, channels, strict=True)):
        expect_channels(args, f"input_shape[{index}]", shape, width)
    widths = args.integers("conv_dims")
    if set(widths) != {channels[0]}:
        raise args.error(
            "conv_dims",
            f"is {show(widths)}; all must be {channels[0]}, the width of the feature maps",
        )
    args.set(f"MODEL.{section}.NUM_CONVS", "conv_dims", len(widths))


def set_focal_loss(args: Arguments, section: str) -> None:
    """FOCAL_LOSS_ALPHA and FOCAL_LOSS_GAMMA."""
    for name, default in (("focal_loss_alpha", 0.25), ("focal_loss_gamma", 2.0)):
        args.set(f"MODEL.{section}.{name.upper()}", name, args.number(name, default))


def set_dense_inference(args: Arguments, section: str, score: float, nms: float) -> None:
    """What a dense detector keeps, with the defaults of its class."""
    key = f"MODEL.{section}."
    args.set(
        f"{key}SCORE_THRESH_TEST", "test_score_thresh", args.number("test_score_thresh", score)
    )
    args.set(
        f"{key}TOPK_CANDIDATES_TEST",
        "test_topk_candidates",
        args.integer("test_topk_candidates", 1000),
    )
    args.set(f"{key}NMS_THRESH_TEST", "test_nms_thresh", args.number("test_nms_thresh", nms))
    kept = args.take("max_detections_per_image", 100)
    if not is_number(kept):
        raise args.error("max_detections_per_image", f"is {show(kept)}; give a number")
    args.set("TEST.DETECTIONS_PER_IMAGE", "max_detections_per_image", kept)
