"""ResNet and ResNeXt (He et al., 2016; Xie et al., 2017), as Detectron2 builds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.freeze import untrainable
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.norm import frozen
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.backbone.blocks import BasicBlock, BottleneckBlock, Deformation, Stem
from tfdetect.modeling.registries import BACKBONES

_BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_FEATURES = ["stem", "res2", "res3", "res4", "res5"]


class ResNet(tf.Module):
    """The stem and the stages up to the last one that is asked for.

    A backbone has `output_shapes`, (channels, stride) of its features by name, `size_divisibility`,
    of which the size of an image batch is a multiple, and is called as this one is.

    Args:
        stem: of stride 4.
        stages: the blocks of res2, res3, ...
        output_shapes: (channels, stride) of each feature that is wanted, by name.
    """

    # Detectron2 says 0: the image batch is not padded to a multiple of anything.
    size_divisibility = 1

    def __init__(
        self,
        stem: Stem,
        stages: Sequence[list[tf.Module]],
        output_shapes: dict[str, tuple[int, int]],
    ):
        super().__init__()
        self.stem = stem
        self._stage_names = _FEATURES[1 : 1 + len(stages)]
        for name, blocks in zip(self._stage_names, stages, strict=True):
            setattr(self, name, blocks)
        self.output_shapes = output_shapes

    @profile_scope("backbone")
    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> dict[str, tf.Tensor]:
        """[N, H, W, 3] -> the features by name (stem, res2 .. res5)."""
        x = self.stem(x, valid_sizes)
        valid_sizes = valid_sizes.strided(4)
        features = {"stem": x}
        for name in self._stage_names:
            for block in getattr(self, name):
                x = block(x, valid_sizes)
                valid_sizes = valid_sizes.strided(block.stride)
            features[name] = x
        features = {name: features[name] for name in self.output_shapes}
        add_intermediates(features)
        return features


def make_stage(
    count: int,
    *,
    in_channels: int,
    out_channels: int,
    stride: int,
    norm: str,
    bottleneck_channels: int | None = None,
    stride_in_1x1: bool = False,
    dilation: int = 1,
    groups: int = 1,
    deformation: Deformation | None = None,
) -> list[tf.Module]:
    """`count` blocks, of which only the first one strides.

    Args:
        bottleneck_channels: None for `BasicBlock`s, which have none of what follows.
        stride_in_1x1, dilation, groups, deformation: of `BottleneckBlock`.
    """
    blocks: list[tf.Module] = []
    for _ in range(count):
        if bottleneck_channels is None:
            blocks.append(BasicBlock(in_channels, out_channels, stride=stride, norm=norm))
        else:
            blocks.append(
                BottleneckBlock(
                    in_channels,
                    out_channels,
                    bottleneck_channels,
                    stride=stride,
                    stride_in_1x1=stride_in_1x1,
                    dilation=dilation,
                    groups=groups,
                    norm=norm,
                    deformation=deformation,
                )
            )
        in_channels, stride = out_channels, 1
    return blocks


def stage_options(cfg: CfgNode, index: int) -> dict[str, Any]:
    """What MODEL.RESNETS says to `make_stage` of res`index`."""
    resnets = cfg.MODEL.RESNETS
    options: dict[str, Any] = {"out_channels": resnets.RES2_OUT_CHANNELS * 2 ** (index - 2)}
    if resnets.DEPTH < 50:
        return options
    deformation = None
    if resnets.DEFORM_ON_PER_STAGE[index - 2]:
        deformation = Deformation(resnets.DEFORM_MODULATED, resnets.DEFORM_NUM_GROUPS)
    width = resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP
    return options | {
        "bottleneck_channels": width * 2 ** (index - 2),
        "stride_in_1x1": resnets.STRIDE_IN_1X1,
        "groups": resnets.NUM_GROUPS,
        "deformation": deformation,
    }


@BACKBONES.register()
def build_resnet_backbone(cfg: CfgNode) -> ResNet:
    """The ResNet of MODEL.RESNETS (Detectron2's function of this name).

    MODEL.BACKBONE.FREEZE_AT stages do not train: 1 is the stem, 2 the stem and res2, and so on.

    Raises:
        InputError: for a depth, a dilation, a feature or an option that is not supported.
    """
    _check(cfg)
    resnets = cfg.MODEL.RESNETS
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    norm = resnets.NORM or ""
    last_stage = max([1] + [int(name[3:]) for name in resnets.OUT_FEATURES if name != "stem"])
    channels = resnets.STEM_OUT_CHANNELS
    stride = 4
    shapes = {"stem": (channels, stride)}
    stages = []
    for index in range(2, last_stage + 1):
        options = stage_options(cfg, index)
        dilation = resnets.RES5_DILATION if index == 5 else 1
        # A dilated res5 keeps the resolution of res4.
        first_stride = 1 if index == 2 or dilation == 2 else 2
        frozen_stage = freeze_at >= index
        with untrainable(frozen_stage):
            blocks = make_stage(
                _BLOCKS_PER_STAGE[resnets.DEPTH][index - 2],
                in_channels=channels,
                stride=first_stride,
                dilation=dilation,
                norm=frozen(norm) if frozen_stage else norm,
                **options,
            )
        stages.append(blocks)
        channels = options["out_channels"]
        stride *= first_stride
        shapes[f"res{index}"] = (channels, stride)
    with untrainable(freeze_at >= 1):
        stem_norm = frozen(norm) if freeze_at >= 1 else norm
        stem = Stem(resnets.STEM_OUT_CHANNELS, stem_norm)
    return ResNet(stem, stages, {name: shapes[name] for name in resnets.OUT_FEATURES})


def _check(cfg: CfgNode) -> None:
    resnets = cfg.MODEL.RESNETS
    if resnets.DEPTH not in _BLOCKS_PER_STAGE:
        raise InputError(
            f"MODEL.RESNETS.DEPTH: {resnets.DEPTH} is not supported; "
            f"use one of {sorted(_BLOCKS_PER_STAGE)}"
        )
    if resnets.RES5_DILATION not in (1, 2):
        raise InputError(f"MODEL.RESNETS.RES5_DILATION: {resnets.RES5_DILATION} is not 1 or 2")
    if not resnets.OUT_FEATURES:
        raise InputError(f"MODEL.RESNETS.OUT_FEATURES: is empty; give some of {_FEATURES}")
    for name in resnets.OUT_FEATURES:
        if name not in _FEATURES:
            raise InputError(f"MODEL.RESNETS.OUT_FEATURES: {name!r} is not one of {_FEATURES}")
    if len(resnets.DEFORM_ON_PER_STAGE) != 4:
        raise InputError("MODEL.RESNETS.DEFORM_ON_PER_STAGE: needs four entries, res2 to res5")
    if resnets.DEPTH >= 50:
        return
    if resnets.RES2_OUT_CHANNELS != resnets.STEM_OUT_CHANNELS:
        raise InputError(
            f"MODEL.RESNETS.RES2_OUT_CHANNELS: is {resnets.RES2_OUT_CHANNELS}; with DEPTH "
            f"{resnets.DEPTH} it must be STEM_OUT_CHANNELS, {resnets.STEM_OUT_CHANNELS}"
        )
    plain = {
        "DEFORM_ON_PER_STAGE": not any(resnets.DEFORM_ON_PER_STAGE),
        "RES5_DILATION": resnets.RES5_DILATION == 1,
        "NUM_GROUPS": resnets.NUM_GROUPS == 1,
    }
    for key, fits in plain.items():
        if not fits:
            raise InputError(
                f"MODEL.RESNETS.{key}: {resnets[key]} does not work with DEPTH {resnets.DEPTH}, "
                "which supports neither groups nor dilation nor deformation; use the default"
            )
