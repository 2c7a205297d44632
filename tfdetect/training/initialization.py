"""Initial values for training from scratch, by Detectron2's rules."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.names import NamedVariable, named_variables
from tfdetect.config.training_checks import require_trainable
from tfdetect.layers.conv1d import Conv1d
from tfdetect.layers.linear import Linear
from tfdetect.layers.norm import GroupNorm, LayerNorm, LevelBatchNorm, RunningStatistics

# What BatchNorm adds to a variance: Detectron2 lets FrozenBN begin as the identity exactly.
_EPSILON = 1e-5

Fill = Callable[[NamedVariable, np.random.Generator], np.ndarray]


def initialize(model: tf.Module, cfg: CfgNode, seed: int) -> None:
    """Initialise every variable from the distribution that Detectron2 uses.

    Each depends on the seed and on its name only, so that what is loaded afterwards, and what is
    added to a model, changes nothing in the others.

    Args:
        model: of `build_model`.
        cfg: its configuration.
        seed: not negative.

    Raises:
        InputError: see `require_trainable`.
    """
    require_trainable(cfg)
    for named in named_variables(model):
        random = np.random.default_rng([seed, zlib.crc32(named.name.encode())])
        value = _rule(named)(named, random)
        named.variable.assign(value.astype(np.float32))


def _rule(named: NamedVariable) -> Fill:
    """The initialiser of a variable.

    Biases are 0, except those of squeeze-and-excitation, of a transformer's patch embedding and of
    the simple feature pyramid, which Detectron2 leaves to PyTorch. Normalisation layers begin as
    the identity, but the last one of a ViT's residual block as 0.
    """
    parts = named.name.split(".")
    kind, layer = parts[-1], parts[-2]
    if kind == "fed_loss_cls_weights":
        # Of the data, and set before: nothing to draw.
        return lambda named, random: named.variable.numpy()
    if parts[-3:] == ["residual", "norm3", "weight"]:
        return _constant(0.0)
    if isinstance(named.layer, (RunningStatistics, LevelBatchNorm, GroupNorm, LayerNorm)):
        if kind == "running_var" and not named.layer.trains:
            return _constant(1.0 - _EPSILON)
        return _constant(1.0 if kind in ("weight", "running_var") else 0.0)
    of_transformer = _rule_of_transformer(named) if parts[0] == "backbone" else None
    if of_transformer is not None:
        return of_transformer
    if parts[0] == "head" and layer == "cls_score" and kind == "bias":
        # Of a dense detector: made for the prior probability of a class.
        return lambda named, random: named.variable.numpy()
    squeeze = "f_ex" in parts
    if kind == "bias":
        return _pytorch_bias if squeeze else _constant(0.0)
    if layer == "conv2_offset":
        return _constant(0.0)
    if parts[0] in ("proposal_generator", "head") or layer == "cls_score":
        return _normal(0.01)
    if isinstance(named.layer, Conv1d):  # of a point head
        return _normal(0.001) if layer == "predictor" else _msra
    if layer == "bbox_pred" or ("mask_head" in parts and layer in ("predictor", "prediction")):
        return _normal(0.001)
    if kind == "positional_encoding_gaussian_matrix":
        return _normal(1.0)
    if "top_block" in parts or layer.startswith(("fpn_lateral", "fpn_output", "fc")):
        return _xavier
    if named.variable.shape.rank < 2:  # of a user's own layer: as that made it
        return lambda named, random: named.variable.numpy()
    return _msra


def _rule_of_transformer(named: NamedVariable) -> Fill | None:
    """Of what ViT, Swin, MViT and the simple feature pyramid have beside norms; else None."""
    parts = named.name.split(".")
    kind, layer = parts[-1], parts[-2]
    if kind in ("rel_pos_h", "rel_pos_w"):
        return _constant(0.0)
    if kind in ("pos_embed", "absolute_pos_embed", "relative_position_bias_table"):
        return _normal(0.02)  # PyTorch's trunc_normal_ cuts off at 2, not at two deviations
    if isinstance(named.layer, Linear) and not {"blocks", "layers"}.isdisjoint(parts):
        return _constant(0.0) if kind == "bias" else _normal(0.02)
    if parts[1].startswith("simfp_") or "patch_embed" in parts or layer.startswith("pool_"):
        return _pytorch_bias if kind == "bias" else _pytorch_weight
    return None


def _constant(value: float) -> Fill:
    return lambda named, random: np.full(named.variable.shape, value)


def _normal(std: float) -> Fill:
    return lambda named, random: random.normal(0.0, std, named.variable.shape)


def _msra(named: NamedVariable, random: np.random.Generator) -> np.ndarray:
    """`c2_msra_fill`, PyTorch's kaiming_normal_ by fan out (He et al., 2015)."""
    _, fan_out = _fans(named)
    return random.normal(0.0, math.sqrt(2.0 / fan_out), named.variable.shape)


def _xavier(named: NamedVariable, random: np.random.Generator) -> np.ndarray:
    """`c2_xavier_fill`, PyTorch's kaiming_uniform_ with a = 1, by fan in (Glorot, 2010)."""
    fan_in, _ = _fans(named)
    bound = math.sqrt(3.0 / fan_in)
    return random.uniform(-bound, bound, named.variable.shape)


def _pytorch_weight(named: NamedVariable, random: np.random.Generator) -> np.ndarray:
    """What torch.nn.Conv2d and ConvTranspose2d give their weight: kaiming_uniform_, a = sqrt(5)."""
    fan_in, _ = _fans(named)
    bound = 1.0 / math.sqrt(fan_in)
    return random.uniform(-bound, bound, named.variable.shape)


def _pytorch_bias(named: NamedVariable, random: np.random.Generator) -> np.ndarray:
    """What torch.nn.Conv2d and ConvTranspose2d give their bias."""
    height, width, in_channels, _ = named.layer.weight.shape  # of a transposed one the output's
    bound = 1.0 / math.sqrt(height * width * in_channels)
    return random.uniform(-bound, bound, named.variable.shape)


def _fans(named: NamedVariable) -> tuple[int, int]:
    """Fan in and fan out as PyTorch counts them: of a transposed convolution the other way round.

    In TensorFlow's layout both are read off in the same way, as the last two axes are in and out
    of a convolution, and out and in of a transposed one. Groups do not lessen the fan out.
    """
    *kernel, inputs, outputs = named.variable.shape
    receptive = math.prod(kernel)
    return inputs * receptive, outputs * receptive
