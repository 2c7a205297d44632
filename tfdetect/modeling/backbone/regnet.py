"""RegNet X and Y (Radosavovic et al., 2020), with the names of Detectron2's new_baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.freeze import untrainable
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.norm import apply_norm, frozen, make_norm
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes

_STAGE_STRIDE = 2
# Widths are multiples of this before they are fitted to the groups.
_QUANTUM = 8


class SimpleStem(tf.Module):
    """3 x 3 convolution: stride 2."""

    normalized = (("conv", "bn"),)  # for `optimize`

    def __init__(self, out_channels: int, norm: str):
        super().__init__()
        self.conv, self.bn = _conv_and_norm(3, out_channels, 3, norm, stride=2)

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """[N, H, W, 3] to [N, H / 2, W / 2, out_channels]."""
        return tf.nn.relu(apply_norm(self.bn, self.conv(x, valid_sizes), valid_sizes.strided(2)))


class SqueezeExcitation(tf.Module):
    """Scales each channel by a factor computed from the means of all channels."""

    def __init__(self, channels: int, squeezed_channels: int):
        super().__init__()
        # The names are positions in Detectron2's sequence: convolution, ReLU, convolution, sigmoid.
        self.f_ex = {
            "0": Conv2d(channels, squeezed_channels, 1),
            "2": Conv2d(squeezed_channels, channels, 1),
        }

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """x: [N, H, W, channels]; the means are taken over each image's valid part."""
        mean = valid_sizes.mean(tf.cast(x, tf.float32))
        squeezed = tf.nn.relu(self.f_ex["0"](tf.cast(mean, x.dtype)))
        return x * tf.sigmoid(self.f_ex["2"](squeezed))


class BottleneckTransform(tf.Module):
    """1 x 1, grouped 3 x 3 (with squeeze-and-excitation in RegNetY) and 1 x 1 convolutions."""

    normalized = (("a", "a_bn"), ("b", "b_bn"), ("c", "c_bn"))

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, groups: int, se: int, norm: str
    ):
        super().__init__()
        self._stride = stride
        self.a, self.a_bn = _conv_and_norm(in_channels, out_channels, 1, norm)
        self.b, self.b_bn = _conv_and_norm(
            out_channels, out_channels, 3, norm, stride=stride, groups=groups
        )
        self.se = SqueezeExcitation(out_channels, se) if se else None
        self.c, self.c_bn = _conv_and_norm(out_channels, out_channels, 1, norm)

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """[N, H, W, in_channels] to [N, H / stride, W / stride, out_channels]."""
        x = tf.nn.relu(apply_norm(self.a_bn, self.a(x), valid_sizes))
        x = self.b(x, valid_sizes)
        valid_sizes = valid_sizes.strided(self._stride)
        x = tf.nn.relu(apply_norm(self.b_bn, x, valid_sizes))
        if self.se is not None:
            x = self.se(x, valid_sizes)
        return apply_norm(self.c_bn, self.c(x), valid_sizes)


class ResBottleneckBlock(tf.Module):
    """A bottleneck transform with a shortcut."""

    normalized = (("proj", "bn"),)

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, groups: int, se: int, norm: str
    ):
        super().__init__()
        self.stride = stride
        self.proj = None
        if in_channels != out_channels or stride != 1:
            self.proj, self.bn = _conv_and_norm(in_channels, out_channels, 1, norm, stride=stride)
        self.f = BottleneckTransform(
            in_channels, out_channels, stride=stride, groups=groups, se=se, norm=norm
        )

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """[N, H, W, in_channels] to [N, H / stride, W / stride, out_channels]."""
        shortcut = x
        if self.proj is not None:
            shortcut = apply_norm(self.bn, self.proj(x), valid_sizes.strided(self.stride))
        return tf.nn.relu(shortcut + self.f(x, valid_sizes))


class RegNet(tf.Module):
    """The stem and the stages s1, s2, ..., whose blocks are b1, b2, ...

    Args:
        widths: channels of each stage.
        depths: blocks of each stage.
        stem_width: channels of the stem.
        group_width: channels of a group in the 3 x 3 convolutions.
        se_ratio: squeezed channels by those of a block's input; 0 for no squeeze-and-excitation.
        norm: as Detectron2 names it.
        out_features: of stem, s1, s2, ...
        freeze_at: this many of stem, s1, s2, ... do not train (MODEL.BACKBONE.FREEZE_AT).
    """

    # As in ResNet, no divisibility requirement.
    size_divisibility = 1

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        stem_width: int,
        group_width: int,
        se_ratio: float,
        norm: str,
        out_features: Sequence[str],
        freeze_at: int = 0,
    ):
        super().__init__()

        def norm_of(index: int) -> str:
            return frozen(norm) if freeze_at > index else norm

        with untrainable(freeze_at > 0):
            self.stem = SimpleStem(stem_width, norm_of(0))
        self._stage_names = []
        channels, stride = stem_width, 2
        shapes = {"stem": (channels, stride)}
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
            blocks: dict[str, tf.Module] = {}
            for block in range(1, depth + 1):
                with untrainable(freeze_at > index):
                    blocks[f"b{block}"] = ResBottleneckBlock(
                        channels,
                        width,
                        stride=_STAGE_STRIDE if block == 1 else 1,
                        groups=width // min(group_width, width),
                        se=round(channels * se_ratio),
                        norm=norm_of(index),
                    )
                channels = width
            name = f"s{index}"
            setattr(self, name, blocks)
            self._stage_names.append(name)
            stride *= _STAGE_STRIDE
            shapes[name] = (channels, stride)
        for name in out_features:
            if name not in shapes:
                raise InputError(f"MODEL.REGNETS.OUT_FEATURES: {name!r} is not one of {[*shapes]}")
        self.output_shapes = {name: shapes[name] for name in out_features}

    @profile_scope("backbone")
    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> dict[str, tf.Tensor]:
        """[N, H, W, 3] -> the features by name (stem, s1 .. s4)."""
        x = self.stem(x, valid_sizes)
        valid_sizes = valid_sizes.strided(2)
        features = {"stem": x}
        for name in self._stage_names:
            blocks = getattr(self, name)
            for block in range(1, len(blocks) + 1):
                x = blocks[f"b{block}"](x, valid_sizes)
                valid_sizes = valid_sizes.strided(blocks[f"b{block}"].stride)
            features[name] = x
        features = {name: features[name] for name in self.output_shapes}
        add_intermediates(features)
        return features


def stage_widths_and_depths(
    depth: int, w_a: float, w_0: int, w_m: float, group_width: int
) -> tuple[list[int], list[int]]:
    """Channels and blocks of each stage from RegNet's parameters (section 3.3 of the paper).

    The width of block j should be w_0 + w_a * j. It is taken to the nearest w_0 * w_m ** k in
    logarithm, then to a multiple of 8; equal ones make a stage, whose width is last fitted to
    whole groups.
    """
    wanted = w_0 + w_a * np.arange(depth)
    steps = np.round(np.log(wanted / w_0) / np.log(w_m))
    quantized = np.round(w_0 * np.power(w_m, steps) / _QUANTUM).astype(int) * _QUANTUM
    widths, depths = np.unique(quantized, return_counts=True)
    fitted = []
    for width in widths.tolist():
        group = min(group_width, width)
        fitted.append(max(group, round(width / group) * group))
    return fitted, depths.tolist()


def build_regnet(cfg: CfgNode) -> RegNet:
    """The RegNet of MODEL.REGNETS.

    Raises:
        InputError: the parameters describe no network, or a feature is unknown.
    """
    regnets = cfg.MODEL.REGNETS
    limits = {
        "STEM_WIDTH": regnets.STEM_WIDTH > 0,
        "DEPTH": regnets.DEPTH > 0,
        "W_A": regnets.W_A >= 0,
        "W_0": regnets.W_0 > 0 and regnets.W_0 % _QUANTUM == 0,
        "W_M": regnets.W_M > 1,
        "GROUP_WIDTH": regnets.GROUP_WIDTH > 0,
        "SE_RATIO": regnets.SE_RATIO >= 0,
        "OUT_FEATURES": len(regnets.OUT_FEATURES) > 0,
    }
    for key, holds in limits.items():
        if not holds:
            raise InputError(
                f"MODEL.REGNETS.{key}: {regnets[key]} does not describe a RegNet; "
                "see the YAMLs in configs/new_baselines"
            )
    widths, depths = stage_widths_and_depths(
        regnets.DEPTH, regnets.W_A, regnets.W_0, regnets.W_M, regnets.GROUP_WIDTH
    )
    return RegNet(
        widths,
        depths,
        stem_width=regnets.STEM_WIDTH,
        group_width=regnets.GROUP_WIDTH,
        se_ratio=regnets.SE_RATIO,
        norm=regnets.NORM or "",
        out_features=regnets.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


def _conv_and_norm(
    in_channels: int, out_channels: int, kernel: int, norm: str, *, stride: int = 1, groups: int = 1
) -> tuple[Conv2d, tf.Module | None]:
    """Here the two have separate names, unlike `conv.norm` in ResNet."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        bias=False,
    )
    return conv, make_norm(norm, out_channels)
