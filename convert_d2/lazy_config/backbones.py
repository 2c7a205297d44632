"""RegNets and FPNs of a LazyConfig, into MODEL's keys; ResNets are in resnets.py,
transformers in transformers.py."""

from __future__ import annotations

import math
from dataclasses import dataclass

from convert_d2.lazy_config.arguments import (
    Arguments,
    Feature,
    aliases,
    converts,
    show,
    unsupported,
)
from convert_d2.lazy_config.features import BACKBONE, Body
from convert_d2.lazy_config.interpolation import Name

_TOP = "an FPN's top block"
_REGNET = "detectron2.modeling.backbone.regnet"
_FPN = "detectron2.modeling.backbone.fpn"


@converts(f"{_REGNET}.RegNet", BACKBONE)
def _regnet(args: Arguments, below_fpn: bool = False) -> Body:
    if not below_fpn:
        raise args.settings.error(args.path, "a RegNet without an FPN is not supported")
    for name, expected in (("stem_class", "SimpleStem"), ("block_class", "ResBottleneckBlock")):
        value = args.take(name)
        given = value.name if isinstance(value, Name) else value
        if not isinstance(given, str) or given not in set(aliases(f"{_REGNET}.{expected}")):
            raise args.error(name, f"{show(value)} is not supported; only {expected} is")
    args.expect("stride", 2, "RegNets have it here", default=2)
    args.expect("bottleneck_ratio", 1, "RegNets have it here", default=1)
    args.expect("activation_class", None, "RegNets have ReLU here", default=None)
    for name in ("stem_width", "depth", "w_0", "group_width"):
        args.set(f"MODEL.REGNETS.{name.upper()}", name, args.integer(name))
    for name in ("w_a", "w_m"):
        args.set(f"MODEL.REGNETS.{name.upper()}", name, args.number(name))
    args.set("MODEL.REGNETS.SE_RATIO", "se_ratio", args.number("se_ratio", 0.0))
    args.norm("MODEL.REGNETS.NORM", "norm", "BN")
    args.set("MODEL.BACKBONE.FREEZE_AT", "freeze_at", args.integer("freeze_at", 0))
    out_features = args.names("out_features", ["s4"])
    args.set("MODEL.REGNETS.OUT_FEATURES", "out_features", out_features)
    strides = {"stem": 2, "s1": 4, "s2": 8, "s3": 16, "s4": 32}
    for name in out_features:
        if name not in strides:
            raise args.error("out_features", f"{name!r} is not one of {', '.join(strides)}")
    return Body("regnet", {name: (None, strides[name]) for name in out_features})


@dataclass(frozen=True)
class _TopBlock:
    kind: str
    levels: int


_BUILDERS = {
    ("resnet", "max pool"): "build_resnet_fpn_backbone",
    ("resnet", "res5"): "build_retinanet_resnet_fpn_backbone",
    ("resnet", "p5"): "build_fcos_resnet_fpn_backbone",
    ("regnet", "max pool"): "build_regnet_fpn_backbone",
    ("swin", "max pool"): "build_swin_fpn_backbone",
    ("mvit", "max pool"): "build_mvit_fpn_backbone",
}


@converts(f"{_FPN}.FPN", BACKBONE)
def _fpn(args: Arguments) -> Body:
    bottom_up: Body = args.part("bottom_up", BACKBONE, below_fpn=True)
    in_features = args.names("in_features")
    for name in in_features:
        if name not in bottom_up.features:
            raise args.error("in_features", f"{name!r} is not among bottom_up.out_features")
    if not in_features:
        raise args.error("in_features", "is empty; give some of bottom_up.out_features")
    channels = args.integer("out_channels")
    args.set("MODEL.FPN.IN_FEATURES", "in_features", in_features)
    args.set("MODEL.FPN.OUT_CHANNELS", "out_channels", channels)
    args.norm("MODEL.FPN.NORM", "norm", "")
    args.set("MODEL.FPN.FUSE_TYPE", "fuse_type", args.text("fuse_type", "sum"))
    args.set("MODEL.BACKBONE.SQUARE_PAD", "square_pad", args.integer("square_pad", 0))
    if args.given("top_block") is None:
        raise args.error("top_block", "an FPN without one is not supported; give LastLevelMaxPool")
    strides = [bottom_up.features[name][1] for name in in_features]
    top: _TopBlock = args.part("top_block", _TOP, features=bottom_up.features, channels=channels)
    builder = _BUILDERS.get((bottom_up.kind, top.kind))
    if builder is None:
        raise args.error(
            "top_block", f"p6 and p7 of {top.kind} are not supported over this backbone"
        )
    args.set("MODEL.BACKBONE.NAME", "_target_", builder)
    lowest = int(math.log2(strides[0]))
    highest = int(math.log2(strides[-1])) + top.levels
    levels = range(lowest, highest + 1)
    return Body("fpn", {f"p{level}": (channels, 2**level) for level in levels})


@converts(f"{_FPN}.LastLevelMaxPool", _TOP)
def _max_pool(args: Arguments, features: dict[str, Feature], channels: int) -> _TopBlock:
    return _TopBlock("max pool", 1)


@converts(f"{_FPN}.LastLevelP6P7", _TOP)
def _p6p7(args: Arguments, features: dict[str, Feature], channels: int) -> _TopBlock:
    source = args.text("in_feature", "res5")
    expected = features[source][0] if source in features else channels
    given = args.integer("in_channels")
    if expected is not None and given != expected:
        raise args.error(
            "in_channels", f"is {given}, but {show(source)} has {expected}; make them equal"
        )
    args.expect("out_channels", channels, f"the FPN has out_channels {channels}")
    return _TopBlock(source, 2)


unsupported(
    "detectron2.modeling.mmdet_wrapper.MMDetBackbone",
    "needs mmdetection, which this project does not use",
)
unsupported(
    "detectron2.modeling.mmdet_wrapper.MMDetDetector",
    "needs mmdetection, which this project does not use",
)
