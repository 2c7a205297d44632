"""Builds the configured optimizer and gradient clipping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.names import named_variables
from tfdetect.errors import InputError
from tfdetect.layers.norm import BatchNorm, GroupNorm, LayerNorm, MapLayerNorm
from tfdetect.training.adamw import AdamW
from tfdetect.training.optimizer_base import Optimizer
from tfdetect.training.sgd import SGD

Gradients = list[tf.Tensor | None]

# PyTorch adds it to a norm before dividing by it.
_NORM_EPSILON = 1e-6


def build_optimizer(cfg: CfgNode, model: tf.Module, parameters: Sequence[tf.Variable]) -> Optimizer:
    """SOLVER.OPTIMIZER over some variables of a model (Detectron2: `build_optimizer`).

    Each parameter's weight decay and learning rate are of `hyperparameters`.

    Args:
        cfg: SOLVER.
        model: whose variables are called as in Detectron2.
        parameters: those that are trained.

    Raises:
        InputError: see `hyperparameters`.
    """
    solver = cfg.SOLVER
    of_variables = hyperparameters(cfg, model)
    found = [of_variables[id(parameter)] for parameter in parameters]
    of_each = {
        "weight_decays": [each.weight_decay for each in found],
        "learning_rate_factors": [each.learning_rate_factor for each in found],
    }
    if solver.OPTIMIZER == "AdamW":
        return AdamW(parameters, betas=solver.BETAS, **of_each)
    return SGD(parameters, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV, **of_each)


class Hyperparameters(NamedTuple):
    """A parameter's own: its weight decay, and the factor on the learning rate."""

    weight_decay: float
    learning_rate_factor: float


def hyperparameters(cfg: CfgNode, model: tf.Module) -> dict[int, Hyperparameters]:
    """The hyperparameters of all variables of a model, by their id.

    The weight decay is SOLVER.WEIGHT_DECAY, or in this order of precedence, where the key is not
    None: SOLVER.WEIGHT_DECAY_OVERRIDES of the last component of the name; WEIGHT_DECAY_BIAS of what
    is called `bias`; WEIGHT_DECAY_NORM of what belongs to one of PyTorch's normalisation layers.
    Neither LevelBatchNorm nor the layer norm that NORM "LN" stands for is one (Detectron2's
    `CycleBatchNormList` and `LayerNorm`).

    The learning rate is that of the schedule, times SOLVER.LAYER_DECAY for each layer of the
    backbone above the parameter's own. For what is called `bias` it is SOLVER.BIAS_LR_FACTOR times
    that of the schedule, in whatever layer, if that is neither None nor 1.

    Detectron2: `get_default_optimizer_params`, with `get_vit_lr_decay_rate`.

    Raises:
        InputError: SOLVER.LAYER_DECAY is not 1, but the backbone has no layers that it is for.
    """
    solver = cfg.SOLVER
    overrides = {name: float(decay) for name, decay in solver.WEIGHT_DECAY_OVERRIDES}
    if solver.WEIGHT_DECAY_BIAS is not None:
        overrides["bias"] = solver.WEIGHT_DECAY_BIAS
    factor_of = _layer_decay(solver.LAYER_DECAY, model)
    found = {}
    for named in named_variables(model):
        kind = named.name.rpartition(".")[2]
        decay, factor = solver.WEIGHT_DECAY, factor_of(named.name)
        if solver.WEIGHT_DECAY_NORM is not None and _is_norm(named.layer):
            decay = solver.WEIGHT_DECAY_NORM
        if kind == "bias" and solver.BIAS_LR_FACTOR not in (None, 1.0):
            factor = solver.BIAS_LR_FACTOR
        found[id(named.variable)] = Hyperparameters(overrides.get(kind, decay), factor)
    return found


def _is_norm(layer: Any) -> bool:
    """Whether it is one of torch.nn's normalisation layers, and not of Detectron2's own."""
    norms = (BatchNorm, GroupNorm, LayerNorm)
    return isinstance(layer, norms) and not isinstance(layer, MapLayerNorm)


def _layer_decay(decay: float, model: tf.Module) -> Callable[[str], float]:
    """The factor on the learning rate of the parameter of a name (`get_vit_lr_decay_rate`)."""
    if decay == 1.0:
        return lambda name: 1.0
    backbone: Any = getattr(model, "backbone", None)
    if not hasattr(backbone, "layer_of"):
        raise InputError(
            f"SOLVER.LAYER_DECAY: is {decay}, but the model has no backbone with `layer_of`, which "
            "would tell its layers; set it to 1.0"
        )
    last = backbone.num_layers + 1

    def factor(name: str) -> float:
        return decay ** (last - backbone.layer_of(name)) if name.startswith("backbone.") else 1.0

    return factor


def gradient_clipping(cfg: CfgNode) -> Callable[[Gradients], Gradients]:
    """What SOLVER.CLIP_GRADIENTS does to the gradients of all parameters.

    CLIP_TYPE value clips every element to [-CLIP_VALUE, CLIP_VALUE]; norm scales each parameter's
    gradient down to a norm of at most CLIP_VALUE; full_model scales all down by one factor, so that
    they have this norm together. NORM_TYPE is the p of the norm, which may be infinity. Gradients
    that are None stay so.

    torch.nn.utils.clip_grad_norm_ and clip_grad_value_; full_model is that of DETR's trainer.
    """
    options = cfg.SOLVER.CLIP_GRADIENTS
    if not options.ENABLED:
        return lambda gradients: gradients
    limit, order = float(options.CLIP_VALUE), float(options.NORM_TYPE)

    def clip(gradients: Gradients) -> Gradients:
        return [g if g is None else tf.clip_by_value(g, -limit, limit) for g in gradients]

    def scale_each(gradients: Gradients) -> Gradients:
        return [g if g is None else g * _factor(_norm(g, order), limit) for g in gradients]

    def scale_all(gradients: Gradients) -> Gradients:
        norms = tf.stack([_norm(g, order) for g in gradients if g is not None])
        factor = _factor(_norm(norms, order), limit)
        return [g if g is None else g * factor for g in gradients]

    return {"value": clip, "norm": scale_each, "full_model": scale_all}[options.CLIP_TYPE]


def _norm(x: tf.Tensor, order: float) -> tf.Tensor:
    return tf.norm(x, ord="euclidean" if order == 2 else order)


def _factor(norm: tf.Tensor, limit: float) -> tf.Tensor:
    return tf.minimum(limit / (norm + _NORM_EPSILON), 1.0)
