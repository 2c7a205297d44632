"""The feature pyramid of ViTDet, made from a single feature map (Li et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.layers.conv import Conv2d, ConvTranspose2d, max_pool
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.norm import apply_norm, make_norm
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, LevelSizes, ValidSizes
from tfdetect.modeling.backbone.fpn import LastLevelMaxPool
from tfdetect.modeling.backbone.vit import ViT
from tfdetect.modeling.registries import BACKBONES
from tfdetect.ops.gelu import gelu


class SimpleFeaturePyramid(tf.Module):
    """Levels of several resolutions from the feature of `net`, each by itself.

    Args:
        net: a `ViT`.
        out_channels: of every level.
        scale_factors: of 4, 2, 1 and 0.5, in order of decreasing resolution without gaps.
        norm: of the convolutions, which have a bias only with "".
        top_block: maps the last level to more of them.
    """

    def __init__(
        self,
        net: ViT,
        out_channels: int,
        scale_factors: Sequence[float],
        norm: str,
        top_block: type[LastLevelMaxPool] = LastLevelMaxPool,
    ):
        super().__init__()
        ((channels, net_stride),) = net.output_shapes.values()
        self._scale_factors = list(scale_factors)
        strides = [int(net_stride / scale) for scale in scale_factors]
        self._stages = [int(math.log2(stride)) for stride in strides]
        for scale, stage in zip(scale_factors, self._stages, strict=True):
            setattr(self, f"simfp_{stage}", _make_stage(channels, out_channels, scale, norm))
        self.net = net
        self.top_block = top_block(f"p{self._stages[-1]}")
        self.num_layers = net.num_layers
        self.size_divisibility = net.size_divisibility
        highest = self._stages[-1] + self.top_block.num_levels
        self.output_shapes = {
            f"p{stage}": (out_channels, 2**stage) for stage in range(self._stages[0], highest + 1)
        }

    def layer_of(self, name: str) -> int:
        """See `ViT.layer_of`."""
        return self.net.layer_of(name)

    def valid_sizes(self, sizes: tf.Tensor) -> ValidSizes:
        """The valid sizes of images of int32 [B, 2] sizes, and at each stride those of the level.

        Levels are multiples of the tokens, and half of them, rounded down. Those of the top block
        are halved, rounded up.
        """
        tokens = self.net.grid_sizes(sizes)
        levels = {
            2**stage: tokens // 2 if scale < 1 else tokens * int(scale)
            for stage, scale in zip(self._stages, self._scale_factors, strict=True)
        }
        return LevelSizes(sizes, levels)

    @profile_scope("backbone")
    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> dict[str, tf.Tensor]:
        """[B, H, W, 3] -> the levels by name (p2, p3, ...)."""
        (feature,) = self.net(x, valid_sizes).values()
        levels = self._make_levels(feature, valid_sizes)
        add_intermediates(levels)
        return levels

    @profile_scope("fpn")
    def _make_levels(self, feature: tf.Tensor, valid_sizes: ValidSizes) -> dict[str, tf.Tensor]:
        if valid_sizes.sizes is not None:
            valid_sizes = self.valid_sizes(valid_sizes.sizes)
        levels = []
        for scale, stage in zip(self._scale_factors, self._stages, strict=True):
            layers = getattr(self, f"simfp_{stage}")
            *_, lateral, output = layers
            x = _rescale(layers[:-2], feature, scale)
            levels.append(output(lateral(x), valid_sizes.strided(2**stage)))
        levels += self.top_block(levels[-1])
        return dict(zip(self.output_shapes, levels, strict=True))


def _make_stage(
    channels: int, out_channels: int, scale: float, norm: str
) -> list[tf.Module | None]:
    """The layers of a level by their places in Detectron2's, None for one without variables."""
    layers: list[tf.Module | None] = []
    if scale == 4:
        layers = [
            ConvTranspose2d(channels, channels // 2, 2),
            make_norm(norm, channels // 2),
            None,
            ConvTranspose2d(channels // 2, channels // 4, 2),
        ]
        channels //= 4
    elif scale == 2:
        layers = [ConvTranspose2d(channels, channels // 2, 2)]
        channels //= 2
    elif scale == 0.5:
        layers = [None]
    bias = norm == ""
    return [
        *layers,
        Conv2d(channels, out_channels, 1, bias=bias, norm=norm),
        Conv2d(out_channels, out_channels, 3, padding=1, bias=bias, norm=norm),
    ]


def _rescale(layers: Sequence[Any], x: tf.Tensor, scale: float) -> tf.Tensor:
    """x [B, H, W, C] as [B, scale * H, scale * W, C'] by the first layers of a level."""
    if scale == 0.5:
        return max_pool(x, 2, 2, 0)
    if scale == 1:
        return x
    x = tf.nn.depth_to_space(layers[0].blocks(x), 2)
    if scale == 2:
        return x
    x = gelu(apply_norm(layers[1], x))
    return tf.nn.depth_to_space(layers[3].blocks(x), 2)


@BACKBONES.register()
def build_vit_simple_feature_pyramid_backbone(cfg: CfgNode) -> SimpleFeaturePyramid:
    """The ViT of MODEL.VIT with the pyramid of MODEL.SIMPLE_FEATURE_PYRAMID on it.

    The name is this project's: Detectron2 builds it in Python.
    """
    net = ViT.from_config(cfg)
    pyramid = cfg.MODEL.SIMPLE_FEATURE_PYRAMID
    return SimpleFeaturePyramid(net, pyramid.OUT_CHANNELS, pyramid.SCALE_FACTORS, pyramid.NORM)
