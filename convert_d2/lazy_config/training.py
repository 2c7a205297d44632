"""The training parts of a LazyConfig: optimizer, schedule and the options of the loop.

What has no counterpart is noted, not refused: prediction does not need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from convert_d2.lazy_config.arguments import (
    Arguments,
    Settings,
    aliases,
    converts,
    is_integer,
    is_number,
    optional,
    optional_part,
    show,
)
from convert_d2.lazy_config.interpolation import Partial
from convert_d2.lazy_config.loaders import set_data

_OPTIMIZER, _SCHEDULE, _SCHEDULER = "an optimizer", "a schedule", "a scheduler of fvcore"
_PARAMS = "parameters"
_SOLVER = "detectron2.solver"
# Added by fvcore before a share of the training is turned into iterations.
_EPSILON = 1e-6
_LAYER_DECAY = set(aliases("detectron2.modeling.backbone.vit.get_vit_lr_decay_rate"))
# Of a checkpoint's address: a request that MODEL.WEIGHTS may have too.
_MATCHING = "matching_heuristics=True"
_SECTIONS = ("optimizer", "lr_multiplier", "dataloader", "train")


def set_training(settings: Settings, root: dict[Any, Any]) -> None:
    """Everything of a file but its model."""
    _section(settings, root, "train", _set_train)
    _section(settings, root, "optimizer", _set_optimizer)
    _section(settings, root, "lr_multiplier", _set_schedule)
    _section(settings, root, "dataloader", set_data)
    for name in root:
        if name not in ("model", *_SECTIONS):
            settings.note(show(name), "is not used")


def _section(
    settings: Settings, root: dict[Any, Any], name: str, set_keys: Callable[..., None]
) -> None:
    if name not in root:
        settings.note(name, "is missing; training would take the defaults of the configuration")
    elif isinstance(root[name], dict):
        set_keys(settings, root[name])
    else:
        settings.note(name, f"is {show(root[name])}, which has no counterpart")


def _set_optimizer(settings: Settings, value: dict[Any, Any]) -> None:
    optional(settings, "optimizer", value, _OPTIMIZER)


@converts("torch.optim.sgd.SGD", _OPTIMIZER)
def _sgd(args: Arguments) -> None:
    rate = args.number("lr", 0.001)
    decay = args.number("weight_decay", 0.0)
    args.set("SOLVER.BASE_LR", "lr", rate)
    args.set("SOLVER.WEIGHT_DECAY", "weight_decay", decay)
    args.set("SOLVER.MOMENTUM", "momentum", args.number("momentum", 0.0))
    args.set("SOLVER.NESTEROV", "nesterov", args.flag("nesterov", False))
    for name in ("dampening", "maximize"):
        args.expect(name, 0, "it has no counterpart", default=0)
    for name in ("foreach", "fused", "differentiable"):
        args.take(name, None)
    optional_part(args, "params", _PARAMS, rate=rate, decay=decay)


@converts("torch.optim.adamw.AdamW", _OPTIMIZER)
def _adamw(args: Arguments) -> None:
    rate = args.number("lr", 0.001)
    decay = args.number("weight_decay", 0.01)
    args.set("SOLVER.OPTIMIZER", "_target_", "AdamW")
    args.set("SOLVER.BASE_LR", "lr", rate)
    args.set("SOLVER.WEIGHT_DECAY", "weight_decay", decay)
    args.set("SOLVER.BETAS", "betas", args.numbers("betas", (0.9, 0.999)))
    args.expect("eps", 1e-8, "it cannot be changed here", default=1e-8)
    for name in ("amsgrad", "maximize"):
        args.expect(name, False, "it has no counterpart", default=False)
    for name in ("foreach", "fused", "differentiable", "capturable"):
        args.take(name, None)
    optional_part(args, "params", _PARAMS, rate=rate, decay=decay)


@converts(f"{_SOLVER}.build.get_default_optimizer_params", _PARAMS)
def _params(args: Arguments, rate: float, decay: float) -> None:
    args.take("model", None)
    for name, of_optimizer in (("base_lr", rate), ("weight_decay", decay)):
        if args.take(name, None) not in (None, of_optimizer):
            args.note(name, f"differs from the optimizer's, {of_optimizer}, which is used")

    def number_or_null(name: str, default: Any) -> Any:
        return args.of_type(
            name, default, lambda value: value is None or is_number(value), "a number or null"
        )

    args.set(
        "SOLVER.WEIGHT_DECAY_NORM", "weight_decay_norm", number_or_null("weight_decay_norm", None)
    )
    args.set(
        "SOLVER.WEIGHT_DECAY_BIAS", "weight_decay_bias", number_or_null("weight_decay_bias", None)
    )
    args.set("SOLVER.BIAS_LR_FACTOR", "bias_lr_factor", number_or_null("bias_lr_factor", 1.0))
    _set_layer_decay(args)
    _set_overrides(args)


def _set_layer_decay(args: Arguments) -> None:
    """SOLVER.LAYER_DECAY from `lr_factor_func`, which only ViTDet's function can say."""
    value = args.take("lr_factor_func", None)
    if value is None:
        return
    given = value.keywords if isinstance(value, Partial) else {}
    rate, layers = given.get("lr_decay_rate", 1.0), given.get("num_layers", 12)
    depth = args.settings.values.get("MODEL.VIT.DEPTH", (None, ""))[0]
    if (
        not isinstance(value, Partial)
        or value.args
        or value.function not in _LAYER_DECAY
        or set(given) - {"lr_decay_rate", "num_layers"}
        or not is_number(rate)
    ):
        args.note("lr_factor_func", f"{show(value)} has no counterpart in training")
    elif layers != depth:
        blocks = "has no such layers" if depth is None else f"has {depth} blocks"
        args.note(
            "lr_factor_func",
            f"is for num_layers {show(layers)}, but the backbone {blocks}; without layer decay",
        )
    else:
        args.set("SOLVER.LAYER_DECAY", "lr_factor_func", float(rate))


def _set_overrides(args: Arguments) -> None:
    """SOLVER.WEIGHT_DECAY_OVERRIDES from `overrides`."""
    value = args.take("overrides", None)
    if value is None:
        return
    found = []
    for name, keys in value.items() if isinstance(value, dict) else [("", None)]:
        decay = keys.get("weight_decay") if isinstance(keys, dict) and len(keys) == 1 else None
        if decay is None or not is_number(decay):
            args.note("overrides", f"{show(value)} has no counterpart in training")
            return
        found.append([name, float(decay)])
    args.set("SOLVER.WEIGHT_DECAY_OVERRIDES", "overrides", found)


def _set_schedule(settings: Settings, value: dict[Any, Any]) -> None:
    optional(settings, "lr_multiplier", value, _SCHEDULE)


@converts(f"{_SOLVER}.lr_scheduler.WarmupParamScheduler", _SCHEDULE)
def _warmup(args: Arguments) -> None:
    max_iter = args.settings.values.get("SOLVER.MAX_ITER", (None, ""))[0]
    if max_iter is None:
        raise args.error("scheduler", "train.max_iter is missing, which it refers to")
    args.set("SOLVER.WARMUP_FACTOR", "warmup_factor", args.number("warmup_factor"))
    args.set("SOLVER.WARMUP_METHOD", "warmup_method", args.text("warmup_method", "linear"))
    args.set("SOLVER.RESCALE_INTERVAL", "rescale_interval", args.flag("rescale_interval", False))
    length = args.number("warmup_length") * max_iter
    args.set("SOLVER.WARMUP_ITERS", "warmup_length", round(length))
    if abs(length - round(length)) > 1e-3:
        args.note(
            "warmup_length", f"is {length:.2f} iterations; training rounds to {round(length)}"
        )
    optional_part(args, "scheduler", _SCHEDULER, max_iter=max_iter)


@converts("fvcore.common.param_scheduler.MultiStepParamScheduler", _SCHEDULER)
def _multi_step(args: Arguments, max_iter: int) -> None:
    values = args.numbers("values")
    updates = args.of_type(
        "num_updates", None, lambda value: value is None or is_integer(value), "an integer"
    )
    milestones = args.of_type(
        "milestones", None, lambda value: value is None or isinstance(value, list), "a list"
    )
    if milestones is None:
        if not updates or updates < 1 or not values:
            raise args.error("milestones", "is missing, and so is num_updates")
        width = math.ceil(updates / len(values))
        milestones = [width * index for index in range(1, len(values))]
    elif not milestones or not all(map(is_integer, milestones)):
        raise args.error("milestones", f"is {show(milestones)}; give iterations")
    if updates is None:
        updates, milestones = milestones[-1], milestones[:-1]
    if updates < 1 or max_iter < 1 or len(milestones) != len(values) - 1:
        raise args.error("milestones", f"does not fit the {len(values)} values and num_updates")
    gamma = values[1] / values[0] if len(values) > 1 and values[0] else 0.1
    steady = all(
        math.isclose(value, gamma**index, rel_tol=1e-6) for index, value in enumerate(values)
    )
    if not steady:
        raise args.error(
            "values", f"is {show(values)}; SOLVER.GAMMA can only give 1, g, g ** 2, ..."
        )
    args.set("SOLVER.LR_SCHEDULER_NAME", "_target_", "WarmupMultiStepLR")
    args.set("SOLVER.GAMMA", "values", gamma)
    steps = [_first_iteration(milestone, updates, max_iter) for milestone in milestones]
    args.set("SOLVER.STEPS", "milestones", steps)


def _first_iteration(milestone: int, updates: int, max_iter: int) -> int:
    """The first of `max_iter` iterations that fvcore counts as `milestone` of `updates`."""
    iteration = max(milestone * max_iter // updates - 2, 0)
    while int((iteration / max_iter + _EPSILON) * updates) < milestone:
        iteration += 1
    return iteration


@converts("fvcore.common.param_scheduler.CosineParamScheduler", _SCHEDULER)
def _cosine(args: Arguments, max_iter: int) -> None:
    args.expect("start_value", 1, "a schedule begins with it")
    end = args.number("end_value")
    args.set("SOLVER.LR_SCHEDULER_NAME", "_target_", "WarmupCosineLR")
    rate = args.settings.values.get("SOLVER.BASE_LR", (None, ""))[0]
    if rate is None:
        raise args.error("end_value", "needs the optimizer's lr, which is missing")
    args.set("SOLVER.BASE_LR_END", "end_value", end * rate)


@converts("fvcore.common.param_scheduler.StepWithFixedGammaParamScheduler", _SCHEDULER)
def _fixed_gamma(args: Arguments, max_iter: int) -> None:
    args.expect("base_value", 1, "a schedule begins with it")
    args.set("SOLVER.LR_SCHEDULER_NAME", "_target_", "WarmupStepWithFixedGammaLR")
    args.set("SOLVER.GAMMA", "gamma", args.number("gamma"))
    args.set("SOLVER.NUM_DECAYS", "num_decays", args.integer("num_decays"))
    args.integer("num_updates")


@converts("fvcore.common.param_scheduler.ConstantParamScheduler", _SCHEDULER)
def _constant(args: Arguments, max_iter: int) -> None:
    args.expect("value", 1, "a schedule begins with it")
    args.set("SOLVER.LR_SCHEDULER_NAME", "_target_", "WarmupMultiStepLR")
    args.set("SOLVER.STEPS", "_target_", [])


# Keys of train, of Detectron2's configs/common/train.py, with the type of their values.
_TRAIN: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "max_iter": ("SOLVER.MAX_ITER", is_integer),
    "eval_period": ("TEST.EVAL_PERIOD", is_integer),
    "log_period": ("SOLVER.LOG_PERIOD", is_integer),
    "output_dir": ("OUTPUT_DIR", lambda value: isinstance(value, str)),
    "device": ("MODEL.DEVICE", lambda value: isinstance(value, str)),
    "seed": ("SEED", is_integer),
    "cudnn_benchmark": ("CUDNN_BENCHMARK", lambda value: type(value) is bool),
    "float32_precision": ("FLOAT32_PRECISION", lambda value: isinstance(value, str)),
    "amp.enabled": ("SOLVER.AMP.ENABLED", lambda value: type(value) is bool),
    "checkpointer.period": ("SOLVER.CHECKPOINT_PERIOD", is_integer),
    "checkpointer.max_to_keep": ("SOLVER.CHECKPOINTS_KEPT", is_integer),
}
# Of PyTorch's DistributedDataParallel, as common/train.py has them.
_DDP = {"broadcast_buffers": False, "find_unused_parameters": False, "fp16_compression": False}


def _set_train(settings: Settings, value: dict[Any, Any]) -> None:
    for name, entry in _flat(value):
        path = f"train.{name}"
        if name == "init_checkpoint" and isinstance(entry, str):
            checkpoint, question, options = entry.partition("?")
            if question and options != _MATCHING:
                settings.note(path, f"?{show(options)} is left out")
                entry = checkpoint
            settings.set("MODEL.WEIGHTS", entry, path)
        elif name in _TRAIN and _TRAIN[name][1](entry):
            settings.set(_TRAIN[name][0], entry, path)
        elif name.startswith("ddp.") and _DDP.get(name.removeprefix("ddp."), not entry) == entry:
            continue
        else:
            settings.note(path, f"{show(entry)} has no counterpart in training")


def _flat(value: dict[Any, Any]) -> list[tuple[str, Any]]:
    """The keys of train, with those of its sections after a dot."""
    found: list[tuple[str, Any]] = []
    for name, entry in value.items():
        if name in ("amp", "checkpointer", "ddp") and isinstance(entry, dict):
            found += [(f"{name}.{show(key)}", below) for key, below in entry.items()]
        else:
            found.append((show(name), entry))
    return found
