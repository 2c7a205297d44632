"""A backbone, a mask head and a hook of a user's own: `--import examples/custom_model.py`."""

from __future__ import annotations

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect import BACKBONES, HOOKS, MASK_HEADS, Hook, add_config
from tfdetect.layers.conv import Conv2d, ConvTranspose2d
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.backbone.fpn import FPN, LastLevelMaxPool
from tfdetect.modeling.roi_heads.mask_head import MaskHead
from tfdetect.training import TrainingState

add_config("MODEL.PLAIN_NET", {"WIDTH": 16, "NORM": "GN"})


class PlainNet(tf.Module):
    """3 x 3 convolutions of stride 2: features c1 .. c5, each of half the one before."""

    size_divisibility = 1

    def __init__(self, width: int, norm: str):
        super().__init__()
        self.convs = [
            Conv2d(3 if index == 0 else width * 2**index, width * 2 ** (index + 1), 3, stride=2,
                   padding=1, bias=False, norm=norm)
            for index in range(5)
        ]  # fmt: skip
        self.output_shapes = {f"c{i}": (width * 2**i, 2**i) for i in range(1, 6)}

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> dict[str, tf.Tensor]:
        features = {}
        for name, conv in zip(self.output_shapes, self.convs, strict=True):
            x = features[name] = conv(x, valid_sizes, relu=True)
            valid_sizes = valid_sizes.strided(2)
        return features


@BACKBONES.register()
def build_plain_fpn_backbone(cfg: CfgNode) -> FPN:
    plain = PlainNet(cfg.MODEL.PLAIN_NET.WIDTH, cfg.MODEL.PLAIN_NET.NORM)
    levels, channels = ["c2", "c3", "c4", "c5"], cfg.MODEL.FPN.OUT_CHANNELS
    return FPN(plain, levels, channels, "", False, LastLevelMaxPool("p5"))


@MASK_HEADS.register()
class OneConvMaskHead(MaskHead):
    """The smallest head that doubles what it is given; masks do not depend on the class."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.deconv = ConvTranspose2d(in_channels, 32, 2)
        self.predictor = Conv2d(32, 1, 1)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> OneConvMaskHead:
        return cls(in_channels)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.depth_to_space(self.deconv.blocks(x, relu=True), 2)
        return tf.cast(self.predictor(x), tf.float32)


@HOOKS.register()
class WeightNorm(Hook):
    """A number for metrics.json and TensorBoard: the length of all that is trained."""

    def after_step(self, state: TrainingState) -> None:
        norm = tf.linalg.global_norm(state.model.trainable_variables)
        state.events.write(state.iteration, {"weight_norm": float(norm)})
