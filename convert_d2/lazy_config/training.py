"""The training parts of a LazyConfig: optimizer, schedule, data and the options of the loop.

What has no counterpart is noted, not refused: prediction does not need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from convert_d2.lazy_config.arguments import (
    Arguments,
    Contradiction,
    Settings,
    aliases,
    convert,
    converts,
    is_integer,
    is_number,
    show,
    target_name,
)
from convert_d2.lazy_config.augmentation import set_test_sizes, set_training_augmentation
from tfdetect.errors import InputError

_OPTIMIZER, _SCHEDULE, _SCHEDULER = "an optimizer", "a schedule", "a scheduler of fvcore"
_TRAIN_LOADER, _TEST_LOADER, _MAPPER = "a training loader", "a test loader", "a dataset mapper"
_DATASET, _SAMPLER, _FACTORS, _PARAMS = "a data set", "a sampler", "repeat factors", "parameters"
_SOLVER, _DATA = "detectron2.solver", "detectron2.data"
# Added by fvcore before a share of the training is turned into iterations.
_EPSILON = 1e-6
# What evaluation here finds out from the annotations.
_EVALUATORS = {
    alias
    for name in (
        "coco_evaluation.COCOEvaluator",
        "lvis_evaluation.LVISEvaluator",
        "sem_seg_evaluation.SemSegEvaluator",
        "panoptic_evaluation.COCOPanopticEvaluator",
        "pascal_voc_evaluation.PascalVOCDetectionEvaluator",
        "rotated_coco_evaluation.RotatedCOCOEvaluator",
    )
    for alias in aliases(f"detectron2.evaluation.{name}")
}
_SECTIONS = ("optimizer", "lr_multiplier", "dataloader", "train")


def set_training(settings: Settings, root: dict[Any, Any]) -> None:
    """Everything of a file but its model."""
    _section(settings, root, "train", _set_train)
    _section(settings, root, "optimizer", _set_optimizer)
    _section(settings, root, "lr_multiplier", _set_schedule)
    _section(settings, root, "dataloader", _set_data)
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


def _optional(settings: Settings, path: str, value: Any, role: str, **context: Any) -> None:
    """Convert a call, or note why it cannot be and set nothing of it."""
    known = dict(settings.values)
    try:
        convert(settings, path, value, role, **context)
    except Contradiction:
        raise
    except InputError as error:
        settings.values = known
        where, _, why = str(error).removeprefix(f"{settings.source}: ").partition(": ")
        settings.note(where, f"{why} (only training needs it, which would take the defaults)")


def _optional_part(args: Arguments, name: str, role: str, **context: Any) -> None:
    _optional(args.settings, args.where(name), args.take(name), role, **context)


def _set_optimizer(settings: Settings, value: dict[Any, Any]) -> None:
    _optional(settings, "optimizer", value, _OPTIMIZER)


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
    _optional_part(args, "params", _PARAMS, rate=rate, decay=decay)


@converts(f"{_SOLVER}.build.get_default_optimizer_params", _PARAMS)
def _params(args: Arguments, rate: float, decay: float) -> None:
    args.take("model", None)
    for name, of_optimizer in (("base_lr", rate), ("weight_decay", decay)):
        if args.take(name, None) not in (None, of_optimizer):
            args.note(name, f"differs from the optimizer's, {of_optimizer}, which is used")

    def optional(name: str, default: Any) -> Any:
        return args.of_type(
            name, default, lambda value: value is None or is_number(value), "a number or null"
        )

    args.set("SOLVER.WEIGHT_DECAY_NORM", "weight_decay_norm", optional("weight_decay_norm", None))
    args.set("SOLVER.WEIGHT_DECAY_BIAS", "weight_decay_bias", optional("weight_decay_bias", None))
    args.set("SOLVER.BIAS_LR_FACTOR", "bias_lr_factor", optional("bias_lr_factor", 1.0))
    for name in ("lr_factor_func", "overrides"):
        if args.take(name, None) is not None:
            args.note(name, "has no counterpart in training")


def _set_schedule(settings: Settings, value: dict[Any, Any]) -> None:
    _optional(settings, "lr_multiplier", value, _SCHEDULE)


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
    _optional_part(args, "scheduler", _SCHEDULER, max_iter=max_iter)


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


def _set_data(settings: Settings, value: dict[Any, Any]) -> None:
    """The loaders and the evaluators."""
    for name, role in (("train", _TRAIN_LOADER), ("test", _TEST_LOADER)):
        path = f"dataloader.{name}"
        if name in value:
            _optional(settings, path, value[name], role)
        else:
            settings.note(path, "is missing; INPUT and DATASETS have their defaults")
    evaluators = value.get("evaluator", [])
    path = "dataloader.evaluator"
    for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
        _set_evaluator(settings, path, evaluator)
    for name in value:
        if name not in ("train", "test", "evaluator"):
            settings.note(f"dataloader.{show(name)}", "is not used")


def _set_evaluator(settings: Settings, path: str, value: Any) -> None:
    if not isinstance(value, dict) or target_name(value) not in _EVALUATORS:
        settings.note(path, f"{show(value)} has no counterpart; evaluation follows the annotations")
        return
    sigmas = value.get("kpt_oks_sigmas")
    if isinstance(sigmas, list) and sigmas and all(map(is_number, sigmas)):
        settings.set("TEST.KEYPOINT_OKS_SIGMAS", sigmas, f"{path}.kpt_oks_sigmas")
    known = {
        "_target_",
        "dataset_name",
        "kpt_oks_sigmas",
        "distributed",
        "output_dir",
        "num_classes",
    }
    known |= {"use_fast_impl", "max_dets_per_image", "tasks", "ignore_label", "sem_seg_loading_fn"}
    for name in value:
        if name not in known:
            settings.note(f"{path}.{show(name)}", "has no counterpart in evaluation")


@converts(f"{_DATA}.build.build_detection_train_loader", _TRAIN_LOADER)
def _train_loader(args: Arguments) -> None:
    _optional_part(args, "dataset", _DATASET, training=True)
    _optional_part(args, "mapper", _MAPPER, training=True)
    args.set("SOLVER.IMS_PER_BATCH", "total_batch_size", args.integer("total_batch_size"))
    args.set(
        "DATALOADER.ASPECT_RATIO_GROUPING",
        "aspect_ratio_grouping",
        args.flag("aspect_ratio_grouping", True),
    )
    args.set("DATALOADER.NUM_WORKERS", "num_workers", args.integer("num_workers", 0))
    if args.given("sampler") is None:
        args.take("sampler", None)
    else:
        _optional_part(args, "sampler", _SAMPLER)
    for name in args.rest():
        args.note(name, "has no counterpart in training")


@converts(f"{_DATA}.build.build_detection_test_loader", _TEST_LOADER)
def _test_loader(args: Arguments) -> None:
    _optional_part(args, "dataset", _DATASET, training=False)
    _optional_part(args, "mapper", _MAPPER, training=False)
    args.rest()


@converts(f"{_DATA}.build.get_detection_dataset_dicts", _DATASET)
def _dataset(args: Arguments, training: bool) -> None:
    names = args.take("names")
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise args.error("names", f"is {show(names)}; give the names of data sets")
    kind = "TRAIN" if training else "TEST"
    args.set(f"DATASETS.{kind}", "names", names)
    files = args.take("proposal_files", None)
    if files is not None:
        files = [files] if isinstance(files, str) else files
        args.set(f"DATASETS.PROPOSAL_FILES_{kind}", "proposal_files", files)
    filters = args.flag("filter_empty", True)
    least = args.integer("min_keypoints", 0)
    args.take("check_consistency", True)
    if training:
        args.set("DATALOADER.FILTER_EMPTY_ANNOTATIONS", "filter_empty", filters)
        if args.settings.values.get("MODEL.KEYPOINT_ON", (False, ""))[0]:
            args.set("MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE", "min_keypoints", least)
        elif least:
            args.note("min_keypoints", "has no effect in training without a keypoint head")


@converts(f"{_DATA}.dataset_mapper.DatasetMapper", _MAPPER)
def _mapper(args: Arguments, training: bool) -> None:
    settings = args.settings
    image_format = args.text("image_format")
    args.take("is_train", None)
    augmentations = args.take("augmentations")
    where = args.where("augmentations")
    settings.set("INPUT.FORMAT", image_format, args.where("image_format"))
    if not training:
        set_test_sizes(settings, where, augmentations)
        args.rest()
        return
    set_training_augmentation(settings, where, augmentations)
    args.set(
        "INPUT.MASK_FORMAT", "instance_mask_format", args.text("instance_mask_format", "polygon")
    )
    kept = args.take("precomputed_proposal_topk", None)
    if kept is not None:
        args.set("DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN", "precomputed_proposal_topk", kept)
    for name, key in (
        ("use_instance_mask", "MODEL.MASK_ON"),
        ("use_keypoint", "MODEL.KEYPOINT_ON"),
    ):
        used = args.flag(name, False)
        if settings.values.get(key, (False, ""))[0] and not used:
            args.note(name, f"is false, but training loads what the model's heads need ({key})")
    # Training finds these out from the data set and the augmentation.
    for name in ("keypoint_hflip_indices", "recompute_boxes"):
        args.take(name, None)
    for name in args.rest():
        args.note(name, "has no counterpart in training")


@converts(f"{_DATA}.samplers.distributed_sampler.TrainingSampler", _SAMPLER)
def _training_sampler(args: Arguments) -> None:
    args.set("DATALOADER.SAMPLER_TRAIN", "_target_", "TrainingSampler")
    args.take("size", None)
    args.take("seed", None)
    args.expect("shuffle", True, "training always shuffles", default=True)


@converts(f"{_DATA}.samplers.distributed_sampler.RepeatFactorTrainingSampler", _SAMPLER)
def _repeat_sampler(args: Arguments) -> None:
    args.take("seed", None)
    args.expect("shuffle", True, "training always shuffles", default=True)
    args.part("repeat_factors", _FACTORS)
    args.set("DATALOADER.SAMPLER_TRAIN", "_target_", "RepeatFactorTrainingSampler")


@converts(
    f"{_DATA}.samplers.distributed_sampler.RepeatFactorTrainingSampler."
    "repeat_factors_from_category_frequency",
    _FACTORS,
)
def _repeat_factors(args: Arguments) -> None:
    args.take("dataset_dicts", None)
    args.set("DATALOADER.REPEAT_THRESHOLD", "repeat_thresh", args.number("repeat_thresh"))
    args.set("DATALOADER.REPEAT_SQRT", "sqrt", args.flag("sqrt", True))


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
            settings.set("MODEL.WEIGHTS", checkpoint, path)
            if question:
                settings.note(path, f"?{show(options)} is left out")
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
