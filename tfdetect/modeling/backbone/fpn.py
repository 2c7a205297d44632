"""Feature Pyramid Network (Lin et al., 2017)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.conv import Conv2d
from tfdetect.modeling.backbone.resnet import build_resnet


class FPN(tf.Module):
    """Lateral and output convolutions over `bottom_up`, and p6 by striding p5.

    Args:
        bottom_up: maps an image batch to features by name.
        shapes: (channels, stride) of each input feature, from the highest resolution down.
        out_channels: of every level.
        norm: as Detectron2 names it; with one, the convolutions have no bias.
        average: whether lateral and top-down features are averaged, not summed.
    """

    def __init__(
        self,
        bottom_up: tf.Module,
        shapes: dict[str, tuple[int, int]],
        out_channels: int,
        norm: str,
        average: bool,
    ):
        super().__init__()
        self._in_features = list(shapes)
        self._stages = [int(math.log2(stride)) for _, stride in shapes.values()]
        self._average = average
        for (channels, _), stage in zip(shapes.values(), self._stages, strict=True):
            bias = norm == ""
            lateral = Conv2d(channels, out_channels, 1, bias=bias, norm=norm)
            output = Conv2d(out_channels, out_channels, 3, padding=1, bias=bias, norm=norm)
            setattr(self, f"fpn_lateral{stage}", lateral)
            setattr(self, f"fpn_output{stage}", output)
        self.bottom_up = bottom_up

        # The image is padded to a multiple of this, so that every level is twice the next.
        self.size_divisibility = 2 ** self._stages[-1]
        stages = [*self._stages, self._stages[-1] + 1]
        self.output_shapes = {f"p{stage}": (out_channels, 2**stage) for stage in stages}

    def __call__(self, x: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """[N, H, W, 3] -> the levels by name (p2 .. p6), and the bottom-up features."""
        bottom_up = self.bottom_up(x)
        levels: dict[str, tf.Tensor] = {}
        top_down = None
        for name, stage in zip(reversed(self._in_features), reversed(self._stages), strict=True):
            merged = getattr(self, f"fpn_lateral{stage}")(bottom_up[name])
            if top_down is not None:
                merged += nearest_double(top_down)
                if self._average:
                    merged /= 2
            top_down = merged
            levels[f"p{stage}"] = getattr(self, f"fpn_output{stage}")(merged)
        last = self._stages[-1]
        levels[f"p{last + 1}"] = levels[f"p{last}"][:, ::2, ::2]  # a max-pool of kernel 1, stride 2
        return {name: levels[name] for name in self.output_shapes}, bottom_up


def nearest_double(x: tf.Tensor) -> tf.Tensor:
    """Repeat every cell twice along height and width."""
    batch, height, width, channels = tf.unstack(tf.shape(x))
    x = tf.broadcast_to(x[:, :, None, :, None], [batch, height, 2, width, 2, channels])
    return tf.reshape(x, [batch, 2 * height, 2 * width, channels])


def build_resnet_fpn(cfg: CfgNode) -> FPN:
    """`build_resnet_fpn_backbone` of Detectron2, from MODEL.FPN and MODEL.RESNETS."""
    bottom_up, shapes = build_resnet(cfg)
    fpn = cfg.MODEL.FPN
    missing = [name for name in fpn.IN_FEATURES if name not in shapes]
    if missing:
        raise InputError(
            f"MODEL.FPN.IN_FEATURES: {missing[0]!r} is not in MODEL.RESNETS.OUT_FEATURES"
        )
    inputs = {name: shapes[name] for name in fpn.IN_FEATURES}
    strides: Sequence[int] = [stride for _, stride in inputs.values()]
    if any(high != 2 * low for low, high in itertools.pairwise(strides)):
        raise InputError(f"MODEL.FPN.IN_FEATURES: strides {strides} do not double at each step")
    if fpn.FUSE_TYPE not in ("sum", "avg"):
        raise InputError(f"MODEL.FPN.FUSE_TYPE: {fpn.FUSE_TYPE!r} is not 'sum' or 'avg'")
    return FPN(bottom_up, inputs, fpn.OUT_CHANNELS, fpn.NORM, fpn.FUSE_TYPE == "avg")
