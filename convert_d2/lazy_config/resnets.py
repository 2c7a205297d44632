"""ResNets of a LazyConfig, from all stages at once or one by one, into MODEL.RESNETS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convert_d2.lazy_config.arguments import (
    Arguments,
    Feature,
    aliases,
    convert,
    converts,
    norm_name,
    show,
)
from convert_d2.lazy_config.features import BACKBONE, Body
from convert_d2.lazy_config.interpolation import Name

_STEM, _STAGES, _STAGE = "a stem", "all stages", "a stage"
_RESNET = "detectron2.modeling.backbone.resnet"
_BLOCKS = {
    name: set(aliases(f"{_RESNET}.{name}"))
    for name in ("BasicBlock", "BottleneckBlock", "DeformBottleneckBlock")
}
_COUNTS = {
    (18, True): [2, 2, 2, 2],
    (34, True): [3, 4, 6, 3],
    (50, False): [3, 4, 6, 3],
    (101, False): [3, 4, 23, 3],
    (152, False): [3, 8, 36, 3],
}


@dataclass(frozen=True)
class _Stage:
    """The arguments of a ResNet's stage that say which layers it has."""

    path: str
    block: str
    count: int
    stride: int
    in_channels: int
    out_channels: int
    bottleneck: int | None
    groups: int
    stride_in_1x1: bool
    dilation: int
    modulated: bool
    deform_groups: int
    norm: Any


@converts(f"{_RESNET}.ResNet", BACKBONE)
def _resnet(args: Arguments, below_fpn: bool = False) -> Body:
    args.expect("num_classes", None, "a detector has no classifier of images", default=None)
    out_features = args.names("out_features", ["res5"])
    for name in out_features:
        if name not in ("stem", "res2", "res3", "res4", "res5"):
            raise args.error("out_features", f"{name!r} is not one of stem, res2, ..., res5")
    args.set("MODEL.BACKBONE.FREEZE_AT", "freeze_at", args.integer("freeze_at", 0))
    channels = args.part("stem", _STEM)
    stages = args.take("stages")
    where = args.where("stages")
    if isinstance(stages, list):
        built = [
            convert(args.settings, f"{where}[{index}]", stage, _STAGE)
            for index, stage in enumerate(stages)
        ]
    else:
        built = convert(args.settings, where, stages, _STAGES)
    last = max([0] + [int(name[3:]) - 1 for name in out_features if name != "stem"])
    if len(built) < last:
        raise args.error("stages", f"there are {len(built)}, but out_features needs {last}")
    features = _set_stages(args, channels, built[:last])
    args.set("MODEL.RESNETS.OUT_FEATURES", "out_features", out_features)
    if not below_fpn:
        args.set("MODEL.BACKBONE.NAME", "_target_", "build_resnet_backbone")
    return Body("resnet", {name: features[name] for name in out_features})


@converts(f"{_RESNET}.BasicStem", _STEM)
def _basic_stem(args: Arguments) -> int:
    args.expect("in_channels", 3, "images have three channels", default=3)
    channels = args.integer("out_channels", 64)
    args.set("MODEL.RESNETS.STEM_OUT_CHANNELS", "out_channels", channels)
    args.norm("MODEL.RESNETS.NORM", "norm", "BN")
    return channels


@converts(f"{_RESNET}.ResNet.make_default_stages", _STAGES)
def _default_stages(args: Arguments) -> list[_Stage]:
    depth = args.integer("depth")
    basic = depth < 50
    if (depth, basic) not in _COUNTS:
        raise args.error(
            "depth", f"{depth} is not one of {', '.join(str(key[0]) for key in _COUNTS)}"
        )
    block = _block(args, "BasicBlock" if basic else "BottleneckBlock")
    common = _block_options(args, block)
    args.set("MODEL.RESNETS.DEPTH", "depth", depth)
    stages = []
    channels = 64
    for index, count in enumerate(_COUNTS[depth, basic]):
        out = (64 if basic else 256) * 2**index
        stages.append(
            _Stage(
                path=args.path,
                block=block,
                count=count,
                stride=1 if index == 0 else 2,
                in_channels=channels,
                out_channels=out,
                bottleneck=None if basic else out // 4,
                **common,
            )
        )
        channels = out
    return stages


@converts(f"{_RESNET}.ResNet.make_stage", _STAGE)
def _one_stage(args: Arguments) -> _Stage:
    block = _block(args, None)
    count = args.integer("num_blocks")
    strides = args.integers("stride_per_block", [args.integer("stride", 1)] * max(count, 0))
    if count < 1 or len(strides) != count or any(stride != 1 for stride in strides[1:]):
        raise args.error(
            "stride_per_block", "only the first block of a stage can have a stride here"
        )
    return _Stage(
        path=args.path,
        block=block,
        count=count,
        stride=strides[0],
        in_channels=args.integer("in_channels"),
        out_channels=args.integer("out_channels"),
        bottleneck=None if block == "BasicBlock" else args.integer("bottleneck_channels"),
        **_block_options(args, block),
    )


def _block(args: Arguments, default: str | None) -> str:
    value = args.take("block_class", None) if default else args.take("block_class")
    if value is None and default:
        return default
    name = value.name if isinstance(value, Name) else value
    for block, names in _BLOCKS.items():
        if isinstance(name, str) and name in names:
            return block
    raise args.error("block_class", f"{show(value)} is not one of {', '.join(_BLOCKS)}")


def _block_options(args: Arguments, block: str) -> dict[str, Any]:
    """The arguments of a block, with its defaults."""
    options = {
        "groups": 1,
        "stride_in_1x1": False,
        "dilation": 1,
        "modulated": False,
        "deform_groups": 1,
        "norm": args.take("norm", "BN"),
    }
    if block != "BasicBlock":
        options["groups"] = args.integer("num_groups", 1)
        options["stride_in_1x1"] = args.flag("stride_in_1x1", False)
        dilations = args.integers("dilation_per_block", [args.integer("dilation", 1)])
        if len(set(dilations)) != 1:
            raise args.error("dilation_per_block", "all blocks of a stage have one dilation here")
        options["dilation"] = dilations[0]
    if block == "DeformBottleneckBlock":
        options["modulated"] = args.flag("deform_modulated", False)
        options["deform_groups"] = args.integer("deform_num_groups", 1)
    return options


def _set_stages(args: Arguments, channels: int, stages: list[_Stage]) -> dict[str, Feature]:
    """MODEL.RESNETS for stages that it can describe; features by name."""
    settings = args.settings
    stride = 4
    features: dict[str, Feature] = {"stem": (channels, stride)}
    if not stages:
        return features
    first = stages[0]
    basic = first.block == "BasicBlock"
    for index, stage in enumerate(stages):
        dilated = index == 3 and stage.dilation == 2
        factor = 2**index
        expected = {
            "in_channels": (stage.in_channels, channels),
            "out_channels": (stage.out_channels, first.out_channels * factor),
            "the stride of the first block": (stage.stride, 1 if index == 0 or dilated else 2),
            "bottleneck_channels": (
                stage.bottleneck,
                first.bottleneck and first.bottleneck * factor,
            ),
            "num_groups": (stage.groups, first.groups),
            "stride_in_1x1": (stage.stride_in_1x1, first.stride_in_1x1),
            "dilation": (stage.dilation, 2 if dilated else 1),
            "block_class": (stage.block == "BasicBlock", basic),
        }
        for name, (given, wanted) in expected.items():
            if given != wanted:
                raise settings.error(
                    stage.path,
                    f"{name} of res{index + 2} is {given}; MODEL.RESNETS can only describe a "
                    f"ResNet in which it is {wanted}",
                )
        _set_norm(args, stage.norm, stage.path)
        channels, stride = stage.out_channels, stride * stage.stride
        features[f"res{index + 2}"] = (channels, stride)
    counts = [stage.count for stage in stages]
    if "MODEL.RESNETS.DEPTH" not in settings.values:
        fitting = [
            depth
            for (depth, of_basic), known in _COUNTS.items()
            if of_basic == basic and known[: len(counts)] == counts
        ]
        if not fitting:
            raise settings.error(first.path, f"no ResNet here has stages of {counts} blocks")
        settings.set("MODEL.RESNETS.DEPTH", fitting[0], first.path)
    settings.set("MODEL.RESNETS.RES2_OUT_CHANNELS", first.out_channels, first.path)
    if basic:
        return features
    if first.groups < 1 or first.bottleneck is None or first.bottleneck % first.groups:
        raise settings.error(
            first.path, f"bottleneck_channels {first.bottleneck} do not divide into num_groups"
        )
    settings.set("MODEL.RESNETS.NUM_GROUPS", first.groups, first.path)
    settings.set("MODEL.RESNETS.WIDTH_PER_GROUP", first.bottleneck // first.groups, first.path)
    settings.set("MODEL.RESNETS.STRIDE_IN_1X1", first.stride_in_1x1, first.path)
    if len(stages) == 4:
        settings.set("MODEL.RESNETS.RES5_DILATION", stages[3].dilation, stages[3].path)
    deformed = [stage.block == "DeformBottleneckBlock" for stage in stages]
    deformed += [False] * (4 - len(deformed))
    settings.set("MODEL.RESNETS.DEFORM_ON_PER_STAGE", deformed, first.path)
    for stage, is_deformed in zip(stages, deformed, strict=False):
        if is_deformed:
            settings.set("MODEL.RESNETS.DEFORM_MODULATED", stage.modulated, stage.path)
            settings.set("MODEL.RESNETS.DEFORM_NUM_GROUPS", stage.deform_groups, stage.path)
    return features


def _set_norm(args: Arguments, norm: Any, path: str) -> None:
    """MODEL.RESNETS.NORM, which the stem, all stages and a res5 of the RoI heads have in common."""
    settings, key = args.settings, "MODEL.RESNETS.NORM"
    if isinstance(norm, Name) and norm.name.endswith("<lambda>"):
        settings.lost_norms[key] = f"{path}.norm"
        return
    settings.set(
        key, norm_name(norm, lambda text: settings.error(f"{path}.norm", text)), f"{path}.norm"
    )


def convert_res5(args: Arguments, name: str) -> int:
    """The res5 of `Res5ROIHeads`, which has MODEL.RESNETS' options; its output channels."""
    stage: _Stage = args.part(name, _STAGE)
    values = args.settings.values
    known = {
        key: values[f"MODEL.RESNETS.{key}"][0]
        for key in ("RES2_OUT_CHANNELS", "NUM_GROUPS", "WIDTH_PER_GROUP", "STRIDE_IN_1X1")
        if f"MODEL.RESNETS.{key}" in values
    }
    if len(known) < 4:
        raise args.error(name, "needs a ResNet of bottleneck blocks as backbone")
    out = 8 * known["RES2_OUT_CHANNELS"]
    expected = {
        "block_class": (stage.block, "BottleneckBlock"),
        "num_blocks": (stage.count, 3),
        "the stride of the first block": (stage.stride, 2),
        "in_channels": (stage.in_channels, out // 2),
        "out_channels": (stage.out_channels, out),
        "bottleneck_channels": (
            stage.bottleneck,
            8 * known["NUM_GROUPS"] * known["WIDTH_PER_GROUP"],
        ),
        "num_groups": (stage.groups, known["NUM_GROUPS"]),
        "stride_in_1x1": (stage.stride_in_1x1, known["STRIDE_IN_1X1"]),
        "dilation": (stage.dilation, 1),
    }
    for what, (given, wanted) in expected.items():
        if given != wanted:
            raise args.error(name, f"{what} is {given}, but must be {wanted} after this backbone")
    _set_norm(args, stage.norm, stage.path)
    return stage.out_channels
