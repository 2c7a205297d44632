"""ResNet and ResNeXt (He et al., 2016; Xie et al., 2017), as Detectron2 builds them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.conv import Conv2d, max_pool

_BLOCKS_PER_STAGE = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Stem(tf.Module):
    """7 x 7 convolution and max-pool: stride 4."""

    def __init__(self, out_channels: int, norm: str):
        super().__init__()
        self.conv1 = Conv2d(3, out_channels, 7, stride=2, padding=3, bias=False, norm=norm)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return max_pool(tf.nn.relu(self.conv1(x)), 3, 2, 1)


class BottleneckBlock(tf.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bottleneck_channels: int,
        *,
        stride: int,
        stride_in_1x1: bool,
        dilation: int,
        groups: int,
        norm: str,
    ):
        super().__init__()
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = Conv2d(
                in_channels, out_channels, 1, stride=stride, bias=False, norm=norm
            )
        # The original MSRA models stride in the 1 x 1, those trained with Torch in the 3 x 3.
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = Conv2d(
            in_channels, bottleneck_channels, 1, stride=stride_1x1, bias=False, norm=norm
        )
        self.conv2 = Conv2d(
            bottleneck_channels,
            bottleneck_channels,
            3,
            stride=stride_3x3,
            padding=dilation,
            dilation=dilation,
            groups=groups,
            bias=False,
            norm=norm,
        )
        self.conv3 = Conv2d(bottleneck_channels, out_channels, 1, bias=False, norm=norm)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        y = tf.nn.relu(self.conv1(x))
        y = tf.nn.relu(self.conv2(y))
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return tf.nn.relu(self.conv3(y) + shortcut)


class ResNet(tf.Module):
    """The stem and the stages up to the last one that is asked for."""

    def __init__(self, stem: Stem, stages: Sequence[list[tf.Module]], out_features: Sequence[str]):
        super().__init__()
        self.stem = stem
        self._stage_names = [f"res{index}" for index in range(2, 2 + len(stages))]
        for name, blocks in zip(self._stage_names, stages, strict=True):
            setattr(self, name, blocks)
        self._out_features = list(out_features)

    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """[N, H, W, 3] -> the maps of `out_features` by name (stem, res2 .. res5)."""
        x = self.stem(x)
        features = {"stem": x}
        for name in self._stage_names:
            for block in getattr(self, name):
                x = block(x)
            features[name] = x
        return {name: features[name] for name in self._out_features}


def build_resnet(cfg: CfgNode) -> tuple[ResNet, dict[str, tuple[int, int]]]:
    """The ResNet of MODEL.RESNETS, and (channels, stride) of each of its output features.

    Raises:
        InputError: for a depth, a dilation, a feature or an option that is not supported.
    """
    resnets = cfg.MODEL.RESNETS
    if resnets.DEPTH not in _BLOCKS_PER_STAGE:
        raise InputError(
            f"MODEL.RESNETS.DEPTH: {resnets.DEPTH} is not supported; "
            f"use one of {sorted(_BLOCKS_PER_STAGE)}"
        )
    if any(resnets.DEFORM_ON_PER_STAGE):
        raise InputError(
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE: deformable stages are not supported; set them off"
        )
    if resnets.RES5_DILATION not in (1, 2):
        raise InputError(f"MODEL.RESNETS.RES5_DILATION: {resnets.RES5_DILATION} is not 1 or 2")
    out_features = resnets.OUT_FEATURES
    known = ["stem", "res2", "res3", "res4", "res5"]
    for name in out_features:
        if name not in known:
            raise InputError(f"MODEL.RESNETS.OUT_FEATURES: {name!r} is not one of {known}")
    last_stage = max([1] + [int(name[3:]) for name in out_features if name != "stem"])

    channels = resnets.STEM_OUT_CHANNELS
    shapes = {"stem": (channels, 4)}
    stages = []
    stride = 4
    for index in range(2, last_stage + 1):
        dilation = resnets.RES5_DILATION if index == 5 else 1
        first_stride = 1 if index == 2 or dilation == 2 else 2
        stride *= first_stride
        out_channels = resnets.RES2_OUT_CHANNELS * 2 ** (index - 2)
        blocks: list[tf.Module] = []
        for block in range(_BLOCKS_PER_STAGE[resnets.DEPTH][index - 2]):
            blocks.append(
                BottleneckBlock(
                    channels,
                    out_channels,
                    resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP * 2 ** (index - 2),
                    stride=first_stride if block == 0 else 1,
                    stride_in_1x1=resnets.STRIDE_IN_1X1,
                    dilation=dilation,
                    groups=resnets.NUM_GROUPS,
                    norm=resnets.NORM,
                )
            )
            channels = out_channels
        stages.append(blocks)
        shapes[f"res{index}"] = (channels, stride)
    model = ResNet(Stem(resnets.STEM_OUT_CHANNELS, resnets.NORM), stages, out_features)
    return model, {name: shapes[name] for name in out_features}
