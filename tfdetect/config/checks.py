"""Rejects invalid values before a model is built or training starts.

Detectron2 checks few of them: most lead to an assertion there, or to a meaningless result. Special
values that it accepts (None, 0, -1, an empty list) are accepted here too; see the comments. As in
Detectron2, only keys of the parts that a model has are checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from yacs.config import CfgNode

from tfdetect.config.capabilities import Parts, capabilities, trainable_architectures
from tfdetect.config.rotated import check_rotated, check_rotated_training
from tfdetect.errors import InputError


class Rule(NamedTuple):
    """A condition on a value, and the end of a message that begins "give"."""

    holds: Callable[[Any], bool]
    expected: str


def _at_least(least: float) -> Rule:
    return Rule(lambda value: least <= value < math.inf, f"{least:g} or more")


def _between(least: float, most: float) -> Rule:
    return Rule(lambda value: least <= value <= most, f"a number from {least:g} to {most:g}")


def _numbers(count: int, rule: Rule | None = None) -> Rule:
    def holds(value: Any) -> bool:
        numbers = isinstance(value, (list, tuple)) and all(_is_number(entry) for entry in value)
        return numbers and len(value) == count and (rule is None or all(map(rule.holds, value)))

    return Rule(holds, f"{count} numbers" + (f", each {rule.expected}" if rule else ""))


def _each(rule: Rule) -> Rule:
    return Rule(lambda value: all(map(rule.holds, value)), f"only {rule.expected}")


def _differ(values: Sequence[Any]) -> bool:
    return len({repr(value) for value in values}) == len(values)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


_NOT_ZERO = Rule(lambda value: _is_number(value) and value != 0, "not 0")
_POSITIVE = Rule(lambda value: 0 < value < math.inf, "more than 0")
_FINITE = Rule(_is_number, "a finite number")
_NO_NAN = Rule(lambda value: not math.isnan(value), "a number")
SAMPLERS = (
    "TrainingSampler",
    "RandomSubsetTrainingSampler",
    "RepeatFactorTrainingSampler",
    "WeightedTrainingSampler",
    "WeightedCategoryTrainingSampler",
)
# -1 in a list of channels: as many as come in.
_CHANNELS = Rule(
    lambda value: value == -1 or value > 0, "more than 0, or -1 for those of the input"
)
_OFFSET = Rule(lambda value: 0 <= value < 1, "a number from 0 to below 1")
_DENSE = {
    "NUM_CLASSES": _at_least(1),
    "NUM_CONVS": _at_least(1),
    "PRIOR_PROB": Rule(lambda value: 0 < value < 1, "a number between 0 and 1"),
    "SCORE_THRESH_TEST": _NO_NAN,
    "NMS_THRESH_TEST": _NO_NAN,
    "TOPK_CANDIDATES_TEST": _at_least(0),
}
_POOLED = {
    # 0 or less: adaptive number of samples; any integer is valid.
    "POOLER_RESOLUTION": _at_least(1),
}

# Of every use of a model. A key that is missing here may be any value of its type but null.
_MODEL: dict[str, Rule] = {
    "FLOAT32_PRECISION": Rule(
        lambda value: value in ("", "highest", "high", "medium"),
        "'' or 'highest' for exact float32, 'high' or 'medium' for TF32 on a GPU",
    ),
    "MODEL.PIXEL_MEAN": _numbers(3),
    "MODEL.PIXEL_STD": _numbers(3, _NOT_ZERO),
    # 0: the image's own size.
    "INPUT.MIN_SIZE_TEST": _at_least(0),
    "INPUT.MAX_SIZE_TEST": _at_least(1),
}
_SECTIONS: dict[str, dict[str, Rule]] = {
    "RESNETS": {
        "NUM_GROUPS": _at_least(1),
        "WIDTH_PER_GROUP": _at_least(1),
        "RES2_OUT_CHANNELS": _at_least(1),
        "STEM_OUT_CHANNELS": _at_least(1),
        "DEFORM_NUM_GROUPS": _at_least(1),
    },
    "FPN": {"OUT_CHANNELS": _at_least(1)},
    # PROPOSAL_GENERATOR.MIN_SIZE, negative: not even a box without area is dropped.
    "ANCHOR_GENERATOR": {"OFFSET": _OFFSET},
    "RPN": {
        "PRE_NMS_TOPK_TEST": _at_least(0),
        "POST_NMS_TOPK_TEST": _at_least(0),
        # Above 1 every box is kept, below 0 the best one only.
        "NMS_THRESH": _NO_NAN,
        "BBOX_REG_WEIGHTS": _numbers(4, _NOT_ZERO),
        # Empty: no convolution.
        "CONV_DIMS": _each(_CHANNELS),
    },
    "ROI_HEADS": {
        "NUM_CLASSES": _at_least(1),
        "SCORE_THRESH_TEST": _NO_NAN,
        "NMS_THRESH_TEST": _NO_NAN,
    },
    "ROI_BOX_HEAD": _POOLED
    | {
        "NUM_CONV": _at_least(0),
        "NUM_FC": _at_least(0),
        "CONV_DIM": _at_least(1),
        "FC_DIM": _at_least(1),
        "BBOX_REG_WEIGHTS": _numbers(4, _NOT_ZERO),
    },
    "ROI_BOX_CASCADE_HEAD": {
        "BBOX_REG_WEIGHTS": Rule(
            lambda value: len(value) > 0 and all(map(_numbers(4, _NOT_ZERO).holds, value)),
            "4 numbers for each stage, not 0",
        ),
    },
    "ROI_MASK_HEAD": _POOLED
    | {
        "NUM_CONV": _at_least(0),
        "CONV_DIM": _at_least(1),
        "FC_DIM": _at_least(1),
        "NUM_FC": _at_least(1),
        "OUTPUT_SIDE_RESOLUTION": _at_least(1),
    },
    "POINT_HEAD": {
        "NUM_CLASSES": _at_least(1),
        "FC_DIM": _at_least(1),
        "NUM_FC": _at_least(0),
        # 0: the first mask is the last.
        "SUBDIVISION_STEPS": _between(0, 10),
        "SUBDIVISION_NUM_POINTS": _at_least(1),
    },
    # CONV_DIMS, empty: no convolution.
    "ROI_KEYPOINT_HEAD": _POOLED
    | {"NUM_KEYPOINTS": _at_least(1), "CONV_DIMS": _each(_at_least(1))},
    "SEM_SEG_HEAD": {
        "NUM_CLASSES": _at_least(1),
        "CONVS_DIM": _at_least(1),
        "COMMON_STRIDE": _at_least(1),
    },
    "RETINANET": _DENSE | {"BBOX_REG_WEIGHTS": _numbers(4, _NOT_ZERO)},
    "FCOS": _DENSE | {"OFFSET": _OFFSET},
}

# Of models of rotated boxes, in place of the above.
_ROTATED: dict[str, dict[str, Rule]] = {
    "RPN": {"BBOX_REG_WEIGHTS": _numbers(5, _NOT_ZERO)},
    "ROI_BOX_HEAD": {"BBOX_REG_WEIGHTS": _numbers(5, _NOT_ZERO)},
}

_LABELS = Rule(lambda value: all(label in (-1, 0, 1) for label in value), "only -1, 0 and 1")
_THRESHOLDS = Rule(
    lambda value: len(value) > 0 and value[0] > 0 and list(value) == sorted(value),
    "increasing numbers above 0",
)
_MATCHED = {"IOU_THRESHOLDS": _THRESHOLDS, "IOU_LABELS": _LABELS}
_SAMPLED = _MATCHED | {
    "BATCH_SIZE_PER_IMAGE": _at_least(1),
    "POSITIVE_FRACTION": _between(0, 1),
}
# FOCAL_LOSS_ALPHA, negative: what is true and what is false weigh the same.
_FOCAL = {"FOCAL_LOSS_ALPHA": _FINITE, "FOCAL_LOSS_GAMMA": _at_least(0)}
_MODE = Rule(lambda value: value in ("max", "min"), "max or min: which value of METRIC is better")
_NAMES = Rule(
    lambda value: all(isinstance(name, str) and name for name in value) and _differ(value),
    "names of hooks, each once",
)
# Of training alone.
_TRAINING_SECTIONS: dict[str, dict[str, Rule]] = {
    "RPN": _SAMPLED
    | {
        "PRE_NMS_TOPK_TRAIN": _at_least(0),
        "POST_NMS_TOPK_TRAIN": _at_least(0),
        # BOUNDARY_THRESH, negative: anchors beyond the image stay.
        # SMOOTH_L1_BETA, below 1e-5 and so also negative: the L1 loss.
        "LOSS_WEIGHT": _FINITE,
        "BBOX_REG_LOSS_WEIGHT": _FINITE,
    },
    "ROI_HEADS": _SAMPLED,
    "ROI_BOX_HEAD": {"BBOX_REG_LOSS_WEIGHT": _FINITE},
    "ROI_BOX_CASCADE_HEAD": {"IOUS": _THRESHOLDS},
    "POINT_HEAD": {
        "TRAIN_NUM_POINTS": _at_least(1),
        "OVERSAMPLE_RATIO": _at_least(1),
        "IMPORTANCE_SAMPLE_RATIO": _between(0, 1),
    },
    "IMPLICIT_POINTREND": {"PARAMS_L2_REGULARIZER": _FINITE},
    "RETINANET": _MATCHED | _FOCAL,
    # CENTER_SAMPLING_RADIUS, infinite: everywhere in a box.
    "FCOS": _FOCAL | {"CENTER_SAMPLING_RADIUS": Rule(lambda value: value > 0, "a number above 0")},
    # MIN_KEYPOINTS_PER_IMAGE, 0 or less: every image is trained on.
    "ROI_KEYPOINT_HEAD": {"LOSS_WEIGHT": _FINITE},
    # IGNORE_VALUE: any integer, one that no pixel has too.
    "SEM_SEG_HEAD": {"LOSS_WEIGHT": _FINITE},
    "PANOPTIC_FPN": {"INSTANCE_LOSS_WEIGHT": _FINITE},
}
_TRAINING: dict[str, Rule] = {
    "SOLVER.MAX_ITER": _at_least(1),
    # 0, with which nothing is learned, is Detectron2's to take as well.
    "SOLVER.BASE_LR": _at_least(0),
    "SOLVER.BASE_LR_END": _at_least(0),
    "SOLVER.MOMENTUM": _at_least(0),
    "SOLVER.WEIGHT_DECAY": _at_least(0),
    "SOLVER.WEIGHT_DECAY_NORM": _at_least(0),
    "SOLVER.WEIGHT_DECAY_BIAS": _at_least(0),
    "SOLVER.BIAS_LR_FACTOR": _at_least(0),
    "SOLVER.GAMMA": _at_least(0),
    # Empty: the learning rate stays.
    "SOLVER.STEPS": Rule(
        lambda value: all(low < high for low, high in zip((0, *value), value, strict=False)),
        "increasing iterations, each more than 0",
    ),
    "SOLVER.WARMUP_FACTOR": _at_least(0),
    # 0: no warm-up.
    "SOLVER.WARMUP_ITERS": _at_least(0),
    # 0: at the end alone. (Detectron2 divides by it.)
    "SOLVER.CHECKPOINT_PERIOD": _at_least(0),
    "SOLVER.CHECKPOINTS_KEPT": _at_least(0),
    "SOLVER.LOG_PERIOD": _at_least(1),
    "SOLVER.IMS_PER_BATCH": _at_least(1),
    "SOLVER.ACCUMULATION_STEPS": _at_least(1),
    # 0: the schedule is for any number.
    "SOLVER.REFERENCE_WORLD_SIZE": _at_least(0),
    "DATALOADER.NUM_WORKERS": _at_least(0),
    "DATALOADER.REPEAT_THRESHOLD": _at_least(0),
    "DATALOADER.SAMPLER_TRAIN": Rule(
        lambda value: value in SAMPLERS, f"one of {', '.join(SAMPLERS)}"
    ),
    "DATALOADER.RANDOM_SUBSET_RATIO": Rule(
        lambda value: 0 < value <= 1, "a share above 0, up to 1"
    ),
    # 0 would leave a data set out, and by it weights of categories would be divided.
    "DATASETS.TRAIN_REPEAT_FACTOR": Rule(
        lambda value: all(
            isinstance(pair, (list, tuple))
            and len(pair) == 2
            and isinstance(pair[0], str)
            and _is_number(pair[1])
            and pair[1] > 0
            for pair in value
        ),
        "pairs of a data set and a factor above 0, such as [['my_data', 2.0]]",
    ),
    # 0: no more than the ground truth.
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": _at_least(0),
    "TRAIN.HOOKS": _NAMES,
    "TRAIN.WRITERS": Rule(
        lambda value: all(name in ("wandb", "mlflow") for name in value) and _differ(value),
        "names of wandb and mlflow, each once",
    ),
    # EVAL_PERIOD and VIS_PERIOD, 0 or less: never. SEED, negative: another in every run.
}
# Of hooks, where they are asked for. METRIC may be null: no such hook.
_EVALUATED_HOOKS: dict[str, dict[str, Rule]] = {
    "TRAIN.BEST": {"MODE": _MODE},
    "TRAIN.EARLY_STOP": {"MODE": _MODE, "PATIENCE": _at_least(1)},
}
# 0: the average is the weights. 1 would never leave the initial ones.
_EMA = {"TRAIN.EMA.DECAY": Rule(lambda value: 0 <= value < 1, "a number from 0 to below 1")}
# None is a value of these: WEIGHT_DECAY's and a factor of 1, no file, COCO's sigmas. (And of NORM:
# none.)
_NULLABLE = (
    "SOLVER.WEIGHT_DECAY_NORM",
    "SOLVER.WEIGHT_DECAY_BIAS",
    "SOLVER.BIAS_LR_FACTOR",
    "MODEL.WEIGHTS",
    "TEST.KEYPOINT_OKS_SIGMAS",
)
# The channels that the norm of a section has, which GN divides by 32.
_NORMALIZED = {
    "RESNETS": ("RESNETS", "RES2_OUT_CHANNELS"),
    "FPN": ("FPN", "OUT_CHANNELS"),
    "RETINANET": ("FPN", "OUT_CHANNELS"),
    "FCOS": ("FPN", "OUT_CHANNELS"),
    "ROI_BOX_HEAD": ("ROI_BOX_HEAD", "CONV_DIM"),
    "ROI_MASK_HEAD": ("ROI_MASK_HEAD", "CONV_DIM"),
    "SEM_SEG_HEAD": ("SEM_SEG_HEAD", "CONVS_DIM"),
}
_GROUPS = 32


def check_model(cfg: CfgNode) -> None:
    """Raise InputError for values that are invalid for the model or for inference."""
    check_rotated(cfg)
    sections, rotated = list(model_sections(cfg)), capabilities(cfg).rotated
    for name, node in cfg.MODEL.items():
        if not isinstance(node, CfgNode):
            _require_value(f"MODEL.{name}", node)
    _check(cfg, _MODEL)
    for section in sections:
        _require_values(f"MODEL.{section}", cfg.MODEL[section])
        rules = _SECTIONS.get(section, {})
        if rotated:
            rules = rules | _ROTATED.get(section, {})
        _check(cfg, {f"MODEL.{section}.{name}": rule for name, rule in rules.items()})
        place, width = _NORMALIZED.get(section, ("", ""))
        # The features of a dense head may be of another backbone than an FPN.
        if place not in sections or cfg.MODEL[section].NORM != "GN":
            continue
        if cfg.MODEL[place][width] % _GROUPS:
            raise InputError(
                f"MODEL.{place}.{width}: is {cfg.MODEL[place][width]}, which is not "
                f"divisible by the {_GROUPS} "
                f"groups of MODEL.{section}.NORM GN; give a multiple of {_GROUPS}"
            )
    if cfg.TEST.DETECTIONS_PER_IMAGE is None:
        raise InputError("TEST.DETECTIONS_PER_IMAGE: is null; give a number")
    if capabilities(cfg).parts.dense_head and cfg.TEST.DETECTIONS_PER_IMAGE < 0:
        raise InputError(
            f"TEST.DETECTIONS_PER_IMAGE: is {cfg.TEST.DETECTIONS_PER_IMAGE}, which "
            f"{cfg.MODEL.META_ARCHITECTURE} has no meaning for; give 0 or more"
        )


def check_training(cfg: CfgNode) -> None:
    """Raise InputError for values that are invalid for training.

    The model itself is checked by `check_model`; data sets and devices are checked later.
    """
    require_trainable(cfg)
    for section in ("SOLVER", "DATALOADER", "INPUT", "DATASETS", "TEST"):
        _require_values(section, cfg[section])
    for name in ("SEED", "VIS_PERIOD"):
        _require_value(name, cfg[name])
    _check(cfg, _TRAINING)
    for section in model_sections(cfg):
        rules = _TRAINING_SECTIONS.get(section, {})
        _check(cfg, {f"MODEL.{section}.{name}": rule for name, rule in rules.items()})
        node = cfg.MODEL[section]
        if "IOU_LABELS" in rules and len(node.IOU_LABELS) != len(node.IOU_THRESHOLDS) + 1:
            raise InputError(
                f"MODEL.{section}.IOU_LABELS: has {len(node.IOU_LABELS)} entries, but "
                f"IOU_THRESHOLDS {len(node.IOU_THRESHOLDS)}; give one label more than thresholds"
            )
    _check_combinations(cfg)
    check_rotated_training(cfg)
    _check_hooks(cfg)


def check_output(cfg: CfgNode) -> None:
    """Raise InputError unless OUTPUT_DIR names a local folder."""
    folder = cfg.OUTPUT_DIR
    if folder is None or not folder.strip() or "://" in folder:
        raise InputError(f"OUTPUT_DIR: {folder!r} is not a local folder; give one")


def _check_combinations(cfg: CfgNode) -> None:
    """Check combinations of values."""
    solver, head = cfg.SOLVER, cfg.MODEL.ROI_BOX_HEAD
    if solver.NESTEROV and solver.MOMENTUM == 0:
        raise InputError("SOLVER.NESTEROV: needs a SOLVER.MOMENTUM of more than 0; set one")
    if solver.IMS_PER_BATCH % solver.ACCUMULATION_STEPS:
        raise InputError(
            f"SOLVER.IMS_PER_BATCH: {solver.IMS_PER_BATCH} images cannot be divided into "
            f"SOLVER.ACCUMULATION_STEPS {solver.ACCUMULATION_STEPS}; give a multiple"
        )
    for name, _ in cfg.DATASETS.TRAIN_REPEAT_FACTOR:
        if name not in cfg.DATASETS.TRAIN:
            raise InputError(
                f"DATASETS.TRAIN_REPEAT_FACTOR: {name} is not one of DATASETS.TRAIN; correct it"
            )
    if capabilities(cfg).takes_proposals and not cfg.MODEL.LOAD_PROPOSALS:
        raise InputError(
            "MODEL.LOAD_PROPOSALS: is False, but MODEL.PROPOSAL_GENERATOR.NAME "
            "PrecomputedProposals needs proposals; set it to True"
        )
    if head.USE_FED_LOSS and not head.USE_SIGMOID_CE and "ROI_BOX_HEAD" in model_sections(cfg):
        raise InputError(
            "MODEL.ROI_BOX_HEAD.USE_FED_LOSS: needs USE_SIGMOID_CE; set both or neither"
        )
    if capabilities(cfg).has_point_masks and cfg.INPUT.MASK_FORMAT != "bitmask":
        raise InputError(
            f"INPUT.MASK_FORMAT: is {cfg.INPUT.MASK_FORMAT!r}, but PointRend is trained at points "
            "of bitmasks; set it to bitmask"
        )
    if cfg.TEST.EXPECTED_RESULTS and not cfg.DATASETS.TEST:
        raise InputError(
            "TEST.EXPECTED_RESULTS: nothing is evaluated without DATASETS.TEST; add a data set "
            "there, or remove the expected results"
        )


def _check_hooks(cfg: CfgNode) -> None:
    _require_value("TRAIN.EMA.ENABLED", cfg.TRAIN.EMA.ENABLED)
    if cfg.TRAIN.EMA.ENABLED:
        _check(cfg, _EMA)
    for section, rules in _EVALUATED_HOOKS.items():
        if not cfg.TRAIN[section.rpartition(".")[2]].METRIC:
            continue
        _check(cfg, {f"{section}.{name}": rule for name, rule in rules.items()})
        if not cfg.DATASETS.TEST:
            raise InputError(
                f"{section}.METRIC: nothing is evaluated without DATASETS.TEST; add a data set "
                "there, or set it to ''"
            )
        if cfg.TEST.EVAL_PERIOD <= 0:
            raise InputError(
                f"{section}.METRIC: needs evaluations on the way; set TEST.EVAL_PERIOD"
            )


def require_trainable(cfg: CfgNode) -> None:
    """Raise InputError if the configured model cannot be trained."""
    able = capabilities(cfg)
    if able.parts == Parts():
        raise InputError(
            f"MODEL.META_ARCHITECTURE: {cfg.MODEL.META_ARCHITECTURE} is not known; use "
            f"{' or '.join(trainable_architectures())}, or --import the file that registers it"
        )
    if not able.trainable:
        raise InputError(
            f"MODEL.META_ARCHITECTURE: {cfg.MODEL.META_ARCHITECTURE} supports inference "
            f"only; to train, use {' or '.join(trainable_architectures())}"
        )


def model_sections(cfg: CfgNode) -> Iterator[str]:
    """The sections of MODEL that the configured model uses."""
    model = cfg.MODEL
    able, backbone = capabilities(cfg), str(model.BACKBONE.NAME)
    yield "BACKBONE"
    yield "REGNETS" if "regnet" in backbone else "RESNETS"
    if "fpn" in backbone:
        yield "FPN"
    if able.parts.dense_head:
        yield able.parts.dense_head
        if able.parts.dense_head == "RETINANET":
            yield "ANCHOR_GENERATOR"
    if able.has_semantic:
        yield "SEM_SEG_HEAD"
    if able.has_panoptic:
        yield "PANOPTIC_FPN"
    if able.has_points:
        yield from ("POINT_HEAD", "IMPLICIT_POINTREND")
    if able.parts.proposal_generator:
        yield "PROPOSAL_GENERATOR"
        if not able.takes_proposals:
            yield from ("ANCHOR_GENERATOR", "RPN")
    if not able.parts.roi_heads:
        return
    yield from ("ROI_HEADS", "ROI_BOX_HEAD")
    if able.cascade:
        yield "ROI_BOX_CASCADE_HEAD"
    if able.has_masks:
        yield "ROI_MASK_HEAD"
    if able.has_keypoints:
        yield "ROI_KEYPOINT_HEAD"


def _check(cfg: CfgNode, rules: dict[str, Rule]) -> None:
    for key, rule in rules.items():
        value = cfg
        for part in key.split("."):
            value = value[part]
        if value is None:
            _require_value(key, value)
        elif not rule.holds(value):
            raise InputError(f"{key}: is {value}; give {rule.expected}")


def _require_values(section: str, node: CfgNode) -> None:
    for name, value in node.items():
        if not isinstance(value, CfgNode):
            _require_value(f"{section}.{name}", value)
        elif value.get("ENABLED", True) is not False:
            _require_values(f"{section}.{name}", value)


def _require_value(key: str, value: Any) -> None:
    if value is None and key not in _NULLABLE and not key.endswith(".NORM"):
        raise InputError(f"{key}: is null, which has no meaning there; give a value")
