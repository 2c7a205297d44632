"""Rejects invalid values before training starts, as `checks` does for the model."""

from __future__ import annotations

from yacs.config import CfgNode

from tfdetect.config.capabilities import Parts, capabilities, trainable_architectures
from tfdetect.config.checks import model_sections
from tfdetect.config.choices import RESNETS, check_training_choices
from tfdetect.config.rotated import check_rotated_training
from tfdetect.config.rules import (
    FINITE,
    Rule,
    at_least,
    between,
    check_rules,
    differ,
    is_number,
    numbers,
    require_value,
    require_values,
)
from tfdetect.errors import InputError

SAMPLERS = (
    "TrainingSampler",
    "RandomSubsetTrainingSampler",
    "RepeatFactorTrainingSampler",
    "WeightedTrainingSampler",
    "WeightedCategoryTrainingSampler",
)
# The built-in backbones that SOLVER.LAYER_DECAY has no layers of. Those of users tell by having
# `layer_of`, once they are built.
WITHOUT_LAYERS = (
    *RESNETS,
    "build_regnet_fpn_backbone",
    "build_swin_backbone",
    "build_swin_fpn_backbone",
    "build_mvit_backbone",
    "build_mvit_fpn_backbone",
)
_LABELS = Rule(lambda value: all(label in (-1, 0, 1) for label in value), "only -1, 0 and 1")
_THRESHOLDS = Rule(
    lambda value: len(value) > 0 and value[0] > 0 and list(value) == sorted(value),
    "increasing numbers above 0",
)
# Or infinite.
_POSITIVE = Rule(lambda value: value > 0, "a number above 0")
_MATCHED = {"IOU_THRESHOLDS": _THRESHOLDS, "IOU_LABELS": _LABELS}
_SAMPLED = _MATCHED | {
    "BATCH_SIZE_PER_IMAGE": at_least(1),
    "POSITIVE_FRACTION": between(0, 1),
}
# FOCAL_LOSS_ALPHA, negative: what is true and what is false weigh the same.
_FOCAL = {"FOCAL_LOSS_ALPHA": FINITE, "FOCAL_LOSS_GAMMA": at_least(0)}
_MODE = Rule(lambda value: value in ("max", "min"), "max or min: which value of METRIC is better")
_NAMES = Rule(
    lambda value: all(isinstance(name, str) and name for name in value) and differ(value),
    "names of hooks, each once",
)
# Of training alone.
_TRAINING_SECTIONS: dict[str, dict[str, Rule]] = {
    "RPN": _SAMPLED
    | {
        "PRE_NMS_TOPK_TRAIN": at_least(0),
        "POST_NMS_TOPK_TRAIN": at_least(0),
        # BOUNDARY_THRESH, negative: anchors beyond the image stay.
        # SMOOTH_L1_BETA, below 1e-5 and so also negative: the L1 loss.
        "LOSS_WEIGHT": FINITE,
        "BBOX_REG_LOSS_WEIGHT": FINITE,
    },
    "ROI_HEADS": _SAMPLED,
    "ROI_BOX_HEAD": {"BBOX_REG_LOSS_WEIGHT": FINITE},
    "ROI_BOX_CASCADE_HEAD": {"IOUS": _THRESHOLDS},
    "POINT_HEAD": {
        "TRAIN_NUM_POINTS": at_least(1),
        "OVERSAMPLE_RATIO": at_least(1),
        "IMPORTANCE_SAMPLE_RATIO": between(0, 1),
    },
    "IMPLICIT_POINTREND": {"PARAMS_L2_REGULARIZER": FINITE},
    "RETINANET": _MATCHED | _FOCAL,
    # CENTER_SAMPLING_RADIUS, infinite: everywhere in a box.
    "FCOS": _FOCAL | {"CENTER_SAMPLING_RADIUS": _POSITIVE},
    # MIN_KEYPOINTS_PER_IMAGE, 0 or less: every image is trained on.
    "ROI_KEYPOINT_HEAD": {"LOSS_WEIGHT": FINITE},
    # IGNORE_VALUE: any integer, one that no pixel has too.
    "SEM_SEG_HEAD": {"LOSS_WEIGHT": FINITE},
    "PANOPTIC_FPN": {"INSTANCE_LOSS_WEIGHT": FINITE},
}
_TRAINING: dict[str, Rule] = {
    "SOLVER.MAX_ITER": at_least(1),
    # 0, with which nothing is learned, is Detectron2's to take as well.
    "SOLVER.BASE_LR": at_least(0),
    "SOLVER.BASE_LR_END": at_least(0),
    "SOLVER.OPTIMIZER": Rule(lambda value: value in ("SGD", "AdamW"), "SGD or AdamW"),
    "SOLVER.BETAS": numbers(2, Rule(lambda value: 0 <= value < 1, "from 0 to below 1")),
    "SOLVER.LAYER_DECAY": Rule(lambda value: 0 < value <= 1, "a number above 0, up to 1"),
    "SOLVER.WEIGHT_DECAY_OVERRIDES": Rule(
        lambda value: (
            all(
                isinstance(pair, (list, tuple))
                and len(pair) == 2
                and isinstance(pair[0], str)
                and pair[0] != ""
                and "." not in pair[0]
                and is_number(pair[1])
                and pair[1] >= 0
                for pair in value
            )
            and differ([name for name, _ in value])
        ),
        "pairs of a name's last component and a weight decay, each name once, such as "
        "[['pos_embed', 0.0]]",
    ),
    "SOLVER.MOMENTUM": at_least(0),
    "SOLVER.WEIGHT_DECAY": at_least(0),
    "SOLVER.WEIGHT_DECAY_NORM": at_least(0),
    "SOLVER.WEIGHT_DECAY_BIAS": at_least(0),
    "SOLVER.BIAS_LR_FACTOR": at_least(0),
    "SOLVER.GAMMA": at_least(0),
    # Empty: the learning rate stays.
    "SOLVER.STEPS": Rule(
        lambda value: all(low < high for low, high in zip((0, *value), value, strict=False)),
        "increasing iterations, each more than 0",
    ),
    "SOLVER.WARMUP_FACTOR": at_least(0),
    # 0: no warm-up.
    "SOLVER.WARMUP_ITERS": at_least(0),
    # 0: at the end alone. (Detectron2 divides by it.)
    "SOLVER.CHECKPOINT_PERIOD": at_least(0),
    "SOLVER.CHECKPOINTS_KEPT": at_least(0),
    "SOLVER.LOG_PERIOD": at_least(1),
    "SOLVER.IMS_PER_BATCH": at_least(1),
    "SOLVER.ACCUMULATION_STEPS": at_least(1),
    # 0: the schedule is for any number.
    "SOLVER.REFERENCE_WORLD_SIZE": at_least(0),
    "DATALOADER.NUM_WORKERS": at_least(0),
    "DATALOADER.REPEAT_THRESHOLD": at_least(0),
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
            and is_number(pair[1])
            and pair[1] > 0
            for pair in value
        ),
        "pairs of a data set and a factor above 0, such as [['my_data', 2.0]]",
    ),
    # 0: no more than the ground truth.
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": at_least(0),
    "TRAIN.HOOKS": _NAMES,
    "TRAIN.WRITERS": Rule(
        lambda value: all(name in ("wandb", "mlflow") for name in value) and differ(value),
        "names of wandb and mlflow, each once",
    ),
    # EVAL_PERIOD and VIS_PERIOD, 0 or less: never. SEED, negative: another in every run.
}
# Where it is enabled. NORM_TYPE, infinite: of the largest element.
_CLIPPING = {
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": _POSITIVE,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": _POSITIVE,
}
# Of hooks, where they are asked for. METRIC may be null: no such hook.
_EVALUATED_HOOKS: dict[str, dict[str, Rule]] = {
    "TRAIN.BEST": {"MODE": _MODE},
    "TRAIN.EARLY_STOP": {"MODE": _MODE, "PATIENCE": at_least(1)},
}
# 0: the average is the weights. 1 would never leave the initial ones.
_EMA = {"TRAIN.EMA.DECAY": Rule(lambda value: 0 <= value < 1, "a number from 0 to below 1")}


def check_training(cfg: CfgNode) -> None:
    """Raise InputError for values that are invalid for training.

    The model itself is checked by `check_model`; data sets and devices are checked later.
    """
    require_trainable(cfg)
    for section in ("SOLVER", "DATALOADER", "INPUT", "DATASETS", "TEST"):
        require_values(section, cfg[section])
    for name in ("SEED", "VIS_PERIOD"):
        require_value(name, cfg[name])
    check_rules(cfg, _TRAINING)
    check_training_choices(cfg)
    for section in model_sections(cfg):
        rules = _TRAINING_SECTIONS.get(section, {})
        check_rules(cfg, {f"MODEL.{section}.{name}": rule for name, rule in rules.items()})
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
    if solver.LAYER_DECAY != 1 and cfg.MODEL.BACKBONE.NAME in WITHOUT_LAYERS:
        raise InputError(
            f"SOLVER.LAYER_DECAY: is {solver.LAYER_DECAY}, but MODEL.BACKBONE.NAME "
            f"{cfg.MODEL.BACKBONE.NAME} has no layers that it is for, unlike a ViT's; set it to 1.0"
        )
    if solver.CLIP_GRADIENTS.ENABLED:
        check_rules(cfg, _CLIPPING)
    if solver.OPTIMIZER == "SGD" and solver.NESTEROV and solver.MOMENTUM == 0:
        raise InputError("SOLVER.NESTEROV: needs a SOLVER.MOMENTUM of more than 0; set one")
    of_biases = solver.BIAS_LR_FACTOR not in (None, 1.0) or solver.WEIGHT_DECAY_BIAS is not None
    if of_biases and "bias" in dict(solver.WEIGHT_DECAY_OVERRIDES):
        raise InputError(
            "SOLVER.WEIGHT_DECAY_OVERRIDES: names 'bias', which SOLVER.BIAS_LR_FACTOR and "
            "WEIGHT_DECAY_BIAS are for; set either"
        )
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
    side, sizes = cfg.MODEL.BACKBONE.SQUARE_PAD, cfg.INPUT
    jitter = sizes.LARGE_SCALE_JITTER.ENABLED
    key = "INPUT.LARGE_SCALE_JITTER.SIZE" if jitter else "INPUT.MAX_SIZE_TRAIN"
    largest = sizes.LARGE_SCALE_JITTER.SIZE if jitter else sizes.MAX_SIZE_TRAIN
    # What other augmentations make longer is padded to the next multiple of the side.
    if 0 < side < largest and not sizes.AUGMENTATIONS:
        raise InputError(
            f"{key}: is {largest}, but MODEL.BACKBONE.SQUARE_PAD pads images to squares of {side}; "
            f"set it to at most {side}"
        )
    if cfg.TEST.EXPECTED_RESULTS and not cfg.DATASETS.TEST:
        raise InputError(
            "TEST.EXPECTED_RESULTS: nothing is evaluated without DATASETS.TEST; add a data set "
            "there, or remove the expected results"
        )


def _check_hooks(cfg: CfgNode) -> None:
    require_value("TRAIN.EMA.ENABLED", cfg.TRAIN.EMA.ENABLED)
    if cfg.TRAIN.EMA.ENABLED:
        check_rules(cfg, _EMA)
    for section, rules in _EVALUATED_HOOKS.items():
        if not cfg.TRAIN[section.rpartition(".")[2]].METRIC:
            continue
        check_rules(cfg, {f"{section}.{name}": rule for name, rule in rules.items()})
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


def weights_file(cfg: CfgNode) -> str:
    """MODEL.WEIGHTS without Detectron2's request to match names by their endings, which is how
    names are always matched here."""
    return str(cfg.MODEL.WEIGHTS).removesuffix("?matching_heuristics=True")
