"""Feature Pyramid Network (Lin et al., 2017)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.backbone.mvit import build_mvit_backbone
from tfdetect.modeling.backbone.regnet import build_regnet
from tfdetect.modeling.backbone.resnet import build_resnet_backbone
from tfdetect.modeling.backbone.swin import build_swin_backbone
from tfdetect.modeling.registries import BACKBONES


class LastLevelMaxPool(tf.Module):
    """One more level: `in_feature` subsampled by 2 (max-pool with kernel 1 and stride 2)."""

    num_levels = 1

    def __init__(self, in_feature: str):
        super().__init__()
        self.in_feature = in_feature

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> list[tf.Tensor]:
        del valid_sizes  # each output depends on a single location
        return [x[:, ::2, ::2]]


class LastLevelP6P7(tf.Module):
    """Two more levels by convolutions of stride 2 (RetinaNet, section 4)."""

    num_levels = 2

    def __init__(self, in_channels: int, out_channels: int, in_feature: str):
        super().__init__()
        self.in_feature = in_feature
        self.p6 = Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = Conv2d(out_channels, out_channels, 3, stride=2, padding=1)

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> list[tf.Tensor]:
        p6 = self.p6(x, valid_sizes)
        return [p6, self.p7(tf.nn.relu(p6), valid_sizes.strided(2))]


class FPN(tf.Module):
    """Lateral and output convolutions over `bottom_up`, and the levels that `top_block` adds.

    Args:
        bottom_up: a backbone; see `tfdetect.modeling.backbone.resnet.ResNet`.
        in_features: of `bottom_up`, in order of decreasing resolution, each half of the one before.
        out_channels: of every level.
        norm: as Detectron2 names it; the convolutions have a bias only with "", and so with None
            neither a norm nor a bias.
        average: whether lateral and top-down features are averaged, not summed.
        top_block: maps its `in_feature`, of the levels or of `bottom_up`, to `num_levels` more.
    """

    def __init__(
        self,
        bottom_up: tf.Module,
        in_features: list[str],
        out_channels: int,
        norm: str | None,
        average: bool,
        top_block: LastLevelMaxPool | LastLevelP6P7,
    ):
        super().__init__()
        shapes = [bottom_up.output_shapes[name] for name in in_features]
        self._in_features = list(in_features)
        self._stages = [int(math.log2(stride)) for _, stride in shapes]
        self._average = average
        for (channels, _), number in zip(shapes, self._stages, strict=True):
            bias = norm == ""
            lateral = Conv2d(channels, out_channels, 1, bias=bias, norm=norm)
            output = Conv2d(out_channels, out_channels, 3, padding=1, bias=bias, norm=norm)
            setattr(self, f"fpn_lateral{number}", lateral)
            setattr(self, f"fpn_output{number}", output)
        self.top_block = top_block
        self.bottom_up = bottom_up

        # The image is padded to a multiple of this, so that every level is twice the next.
        self.size_divisibility = 2 ** self._stages[-1]
        highest = self._stages[-1] + top_block.num_levels
        self.output_shapes = {
            f"p{stage}": (out_channels, 2**stage) for stage in range(self._stages[0], highest + 1)
        }

    @profile_scope("backbone")
    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> dict[str, tf.Tensor]:
        """[N, H, W, 3] -> the levels by name (p2, p3, ...).

        The valid sizes are multiples of `size_divisibility`, as the batch is.
        """
        levels = self._make_levels(self.bottom_up(x, valid_sizes), valid_sizes)
        add_intermediates(levels)
        return levels

    @profile_scope("fpn")
    def _make_levels(
        self, bottom_up: dict[str, tf.Tensor], valid_sizes: ValidSizes
    ) -> dict[str, tf.Tensor]:
        levels: dict[str, tf.Tensor] = {}
        top_down = None
        for name, number in zip(reversed(self._in_features), reversed(self._stages), strict=True):
            here = valid_sizes.strided(2**number)
            lateral = getattr(self, f"fpn_lateral{number}")
            merged = lateral(
                bottom_up[name], here, residual=top_down, upsampled=top_down is not None
            )
            if top_down is not None and self._average:
                merged /= 2
            top_down = merged
            levels[f"p{number}"] = getattr(self, f"fpn_output{number}")(merged, here)
        highest = valid_sizes.strided(2 ** self._stages[-1])
        top = self.top_block({**bottom_up, **levels}[self.top_block.in_feature], highest)
        for number, level in enumerate(top, start=self._stages[-1] + 1):
            levels[f"p{number}"] = level
        return {name: levels[name] for name in self.output_shapes}


@BACKBONES.register()
def build_resnet_fpn_backbone(cfg: CfgNode) -> FPN:
    """From MODEL.FPN and MODEL.RESNETS (Detectron2's function of this name)."""
    return _build(cfg, build_resnet_backbone(cfg), LastLevelMaxPool)


@BACKBONES.register()
def build_retinanet_resnet_fpn_backbone(cfg: CfgNode) -> FPN:
    """The same with p6 and p7, which come from res5 (Detectron2's function of this name)."""
    bottom_up = build_resnet_backbone(cfg)
    if "res5" not in bottom_up.output_shapes:
        raise InputError("MODEL.RESNETS.OUT_FEATURES: RetinaNet's FPN needs res5 for p6 and p7")

    def top_block(_: str) -> LastLevelP6P7:
        channels = bottom_up.output_shapes["res5"][0]
        return LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS, "res5")

    return _build(cfg, bottom_up, top_block)


@BACKBONES.register()
def build_fcos_resnet_fpn_backbone(cfg: CfgNode) -> FPN:
    """The same with p6 and p7 from the FPN's last level, p5, not from res5 (Tian et al., 2020).

    The name is this project's: Detectron2 builds it in Python configs.
    """
    channels = cfg.MODEL.FPN.OUT_CHANNELS

    def top_block(last: str) -> LastLevelP6P7:
        return LastLevelP6P7(channels, channels, last)

    return _build(cfg, build_resnet_backbone(cfg), top_block)


@BACKBONES.register()
def build_regnet_fpn_backbone(cfg: CfgNode) -> FPN:
    """The FPN over a RegNet of Detectron2's new_baselines, from MODEL.FPN and MODEL.REGNETS.

    The name is this project's: Detectron2 builds RegNets in Python configs.
    """
    return _build(cfg, build_regnet(cfg), LastLevelMaxPool)


@BACKBONES.register()
def build_mvit_fpn_backbone(cfg: CfgNode) -> FPN:
    """The FPN over an MViT, from MODEL.FPN and MODEL.MVIT.

    The name is this project's: Detectron2 builds it in Python configs.
    """
    return _build(cfg, build_mvit_backbone(cfg), LastLevelMaxPool)


@BACKBONES.register()
def build_swin_fpn_backbone(cfg: CfgNode) -> FPN:
    """The FPN over a Swin Transformer, from MODEL.FPN and MODEL.SWIN.

    p0 to p3 of MODEL.FPN.IN_FEATURES become p2 to p6 here. The name is this project's: Detectron2
    builds it in Python configs.
    """
    return _build(cfg, build_swin_backbone(cfg), LastLevelMaxPool)


def _build(cfg: CfgNode, bottom_up: tf.Module, make_top_block: Callable) -> FPN:
    """MODEL.FPN over `bottom_up`; `make_top_block` is given the name of the last level."""
    fpn = cfg.MODEL.FPN
    shapes = bottom_up.output_shapes
    if not fpn.IN_FEATURES:
        raise InputError(f"MODEL.FPN.IN_FEATURES: is empty; give some of {', '.join(shapes)}")
    for name in fpn.IN_FEATURES:
        if name not in shapes:
            raise InputError(
                f"MODEL.FPN.IN_FEATURES: {name!r} is not among the OUT_FEATURES of the network "
                f"below ({', '.join(shapes)})"
            )
    strides = [shapes[name][1] for name in fpn.IN_FEATURES]
    if any(high != 2 * low for low, high in itertools.pairwise(strides)):
        raise InputError(f"MODEL.FPN.IN_FEATURES: strides {strides} do not double at each step")
    if fpn.FUSE_TYPE not in ("sum", "avg"):
        raise InputError(f"MODEL.FPN.FUSE_TYPE: {fpn.FUSE_TYPE!r} is not 'sum' or 'avg'")
    top_block = make_top_block(f"p{int(math.log2(strides[-1]))}")
    average = fpn.FUSE_TYPE == "avg"
    return FPN(bottom_up, fpn.IN_FEATURES, fpn.OUT_CHANNELS, fpn.NORM, average, top_block)
