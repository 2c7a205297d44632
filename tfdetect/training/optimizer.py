"""Builds the configured optimizer and gradient clipping."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.names import named_variables
from tfdetect.errors import InputError
from tfdetect.layers.norm import BatchNorm, GroupNorm
from tfdetect.training.sgd import SGD

Gradients = list[tf.Tensor | None]

# PyTorch adds it to a norm before dividing by it.
_NORM_EPSILON = 1e-6


def build_optimizer(cfg: CfgNode, model: tf.Module, parameters: Sequence[tf.Variable]) -> SGD:
    """SGD over some variables of a model (Detectron2: `build_optimizer`).

    Weight decay is SOLVER.WEIGHT_DECAY; what belongs to a normalisation layer (not LevelBatchNorm,
    as in Detectron2) has SOLVER.WEIGHT_DECAY_NORM where that is not None; what is called `bias`, of
    a normalisation layer too, has SOLVER.WEIGHT_DECAY_BIAS where that is not None, and
    SOLVER.BIAS_LR_FACTOR times the learning rate (None: once).

    Args:
        cfg: SOLVER.
        model: whose variables are called as in Detectron2.
        parameters: those that are trained.
    """
    solver = cfg.SOLVER
    decays: dict[int, float] = {}
    factors: dict[int, float] = {}
    for named in named_variables(model):
        key = id(named.variable)
        is_bias = named.name.rpartition(".")[2] == "bias"
        is_norm = isinstance(named.layer, (BatchNorm, GroupNorm))
        decays[key] = solver.WEIGHT_DECAY
        if is_norm and solver.WEIGHT_DECAY_NORM is not None:
            decays[key] = solver.WEIGHT_DECAY_NORM
        if is_bias and solver.WEIGHT_DECAY_BIAS is not None:
            decays[key] = solver.WEIGHT_DECAY_BIAS
        factors[key] = (
            solver.BIAS_LR_FACTOR if is_bias and solver.BIAS_LR_FACTOR is not None else 1.0
        )
    return SGD(
        parameters,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decays=[decays[id(parameter)] for parameter in parameters],
        learning_rate_factors=[factors[id(parameter)] for parameter in parameters],
    )


def gradient_clipping(cfg: CfgNode) -> Callable[[Gradients], Gradients]:
    """What SOLVER.CLIP_GRADIENTS does to the gradients of all parameters.

    CLIP_TYPE value clips every element to [-CLIP_VALUE, CLIP_VALUE]; norm scales each parameter's
    gradient down to a norm of at most CLIP_VALUE; full_model scales all down by one factor, so that
    they have this norm together. NORM_TYPE is the p of the norm, which may be infinity. Gradients
    that are None stay so.

    Raises:
        InputError: for another CLIP_TYPE, or a CLIP_VALUE or NORM_TYPE that is not positive.

    torch.nn.utils.clip_grad_norm_ and clip_grad_value_; full_model is that of DETR's trainer.
    """
    options = cfg.SOLVER.CLIP_GRADIENTS
    if not options.ENABLED:
        return lambda gradients: gradients
    limit, order = float(options.CLIP_VALUE), float(options.NORM_TYPE)
    for key, value in (("CLIP_VALUE", limit), ("NORM_TYPE", order)):
        if not value > 0:
            raise InputError(f"SOLVER.CLIP_GRADIENTS.{key}: is {value}; give more than 0")

    def clip(gradients: Gradients) -> Gradients:
        return [g if g is None else tf.clip_by_value(g, -limit, limit) for g in gradients]

    def scale_each(gradients: Gradients) -> Gradients:
        return [g if g is None else g * _factor(_norm(g, order), limit) for g in gradients]

    def scale_all(gradients: Gradients) -> Gradients:
        norms = tf.stack([_norm(g, order) for g in gradients if g is not None])
        factor = _factor(_norm(norms, order), limit)
        return [g if g is None else g * factor for g in gradients]

    kinds = {"value": clip, "norm": scale_each, "full_model": scale_all}
    if options.CLIP_TYPE not in kinds:
        raise InputError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE: {options.CLIP_TYPE!r} is not supported; use "
            f"{', '.join(kinds)}"
        )
    return kinds[options.CLIP_TYPE]


def _norm(x: tf.Tensor, order: float) -> tf.Tensor:
    return tf.norm(x, ord="euclidean" if order == 2 else order)


def _factor(norm: tf.Tensor, limit: float) -> tf.Tensor:
    return tf.minimum(limit / (norm + _NORM_EPSILON), 1.0)
