"""Keys that are set but have no effect; each is reported in a line before the work starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from yacs.config import CfgNode

from tfdetect.config.capabilities import Parts, capabilities, trains_as_pointrend
from tfdetect.config.defaults import DEFAULTS

# Keys that nothing reads, here or in Detectron2's own models.
_NEVER = {
    "GLOBAL.HACK": "nothing reads it",
}
# Keys that only apply if another key has a certain value.
_ONLY_WITH: dict[str, tuple[str, Any]] = {
    "SOLVER.MOMENTUM": ("SOLVER.OPTIMIZER", "SGD"),
    "SOLVER.NESTEROV": ("SOLVER.OPTIMIZER", "SGD"),
    "SOLVER.BETAS": ("SOLVER.OPTIMIZER", "AdamW"),
    "SOLVER.BASE_LR_END": ("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"),
    "SOLVER.NUM_DECAYS": ("SOLVER.LR_SCHEDULER_NAME", "WarmupStepWithFixedGammaLR"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("SOLVER.CLIP_GRADIENTS.ENABLED", True),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": ("SOLVER.CLIP_GRADIENTS.ENABLED", True),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": ("SOLVER.CLIP_GRADIENTS.ENABLED", True),
    "SOLVER.AMP.DTYPE": ("SOLVER.AMP.ENABLED", True),
    "INPUT.CROP.TYPE": ("INPUT.CROP.ENABLED", True),
    "INPUT.CROP.SIZE": ("INPUT.CROP.ENABLED", True),
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": ("INPUT.CROP.ENABLED", True),
    "INPUT.CROP.ENABLED": ("INPUT.LARGE_SCALE_JITTER.ENABLED", False),
    "INPUT.LARGE_SCALE_JITTER.SCALE": ("INPUT.LARGE_SCALE_JITTER.ENABLED", True),
    "INPUT.LARGE_SCALE_JITTER.SIZE": ("INPUT.LARGE_SCALE_JITTER.ENABLED", True),
    "TEST.AUG.MIN_SIZES": ("TEST.AUG.ENABLED", True),
    "TEST.AUG.MAX_SIZE": ("TEST.AUG.ENABLED", True),
    "TEST.AUG.FLIP": ("TEST.AUG.ENABLED", True),
    "TEST.PRECISE_BN.NUM_ITER": ("TEST.PRECISE_BN.ENABLED", True),
    "TRAIN.EMA.DECAY": ("TRAIN.EMA.ENABLED", True),
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": ("MODEL.ROI_BOX_HEAD.USE_FED_LOSS", True),
    "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER": ("MODEL.ROI_BOX_HEAD.USE_FED_LOSS", True),
}


# Keys that only some values of DATALOADER.SAMPLER_TRAIN read.
_OF_SAMPLERS = {
    "DATALOADER.RANDOM_SUBSET_RATIO": ("RandomSubsetTrainingSampler",),
    "DATALOADER.REPEAT_THRESHOLD": (
        "RepeatFactorTrainingSampler",
        "WeightedCategoryTrainingSampler",
    ),
    "DATALOADER.REPEAT_SQRT": ("RepeatFactorTrainingSampler", "WeightedCategoryTrainingSampler"),
    "DATASETS.TRAIN_REPEAT_FACTOR": ("WeightedTrainingSampler", "WeightedCategoryTrainingSampler"),
}
_PROPOSAL_FILES_TEST = "DATASETS.PROPOSAL_FILES_TEST"
_OWN_PROPOSALS = "this model generates its own proposals"


def ignored_in_prediction(cfg: CfgNode) -> list[str]:
    """Settings without effect on the model or on inference; a line for each, with its key."""
    found = list(_prediction(cfg))
    if capabilities(cfg).takes_proposals and cfg.DATASETS.PROPOSAL_FILES_TEST:
        found.append((_PROPOSAL_FILES_TEST, "tfdetect predict takes the file by --proposals"))
    return [f"{key}: has no effect, {why}" for key, why in found]


def ignored_in_training(cfg: CfgNode) -> list[str]:
    """The same of everything that training reads, `ignored_in_prediction` included."""
    found = [*_prediction(cfg), *_training(cfg)]
    return [f"{key}: has no effect, {why}" for key, why in found]


def ignored_in_tracking(cfg: CfgNode) -> list[str]:
    """The same of TRACKER_HEADS, which only tracking reads."""
    heads, found = cfg.TRACKER_HEADS, []
    for key in heads:
        if key == "TRACKER_NAME" or not _is_set(cfg, f"TRACKER_HEADS.{key}"):
            continue
        if (key == "BYTETRACK") != (heads.TRACKER_NAME == "bytetrack"):
            why = f"{heads.TRACKER_NAME} does not read it"
        elif key == "MAX_NUM_INSTANCES":
            why = "Detectron2's trackers do not read it either"
        else:
            continue
        found.append(f"TRACKER_HEADS.{key}: has no effect, {why}")
    return found


def _prediction(cfg: CfgNode) -> Iterator[tuple[str, str]]:
    model, able = cfg.MODEL, capabilities(cfg)
    for key, why in _NEVER.items():
        if _is_set(cfg, key):
            yield key, why
    # An architecture of no known parts is an error, which the model's construction raises.
    if not able.parts.roi_heads and able.parts != Parts():
        for key in ("MASK_ON", "KEYPOINT_ON"):
            if model[key]:
                yield f"MODEL.{key}", f"{model.META_ARCHITECTURE} has no such head"
    if able.has_panoptic and not model.PANOPTIC_FPN.COMBINE.ENABLED:
        yield "MODEL.PANOPTIC_FPN.COMBINE.ENABLED", "Detectron2 no longer reads it either"
    if not able.takes_proposals:
        for key in ("MODEL.LOAD_PROPOSALS", _PROPOSAL_FILES_TEST):
            if _is_set(cfg, key):
                yield key, _OWN_PROPOSALS
    for section in ("ROI_BOX_HEAD", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD"):
        key = f"MODEL.{section}.POOLER_SAMPLING_RATIO"
        if able.parts.roi_heads and model[section].POOLER_TYPE == "ROIPool" and _is_set(cfg, key):
            yield key, f"MODEL.{section}.POOLER_TYPE ROIPool takes no samples"
    if _beyond(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST):
        yield "INPUT.MIN_SIZE_TEST", "it exceeds INPUT.MAX_SIZE_TEST, so only that applies"


def _training(cfg: CfgNode) -> Iterator[tuple[str, str]]:
    if cfg.CUDNN_BENCHMARK:
        yield "CUDNN_BENCHMARK", "TensorFlow chooses cuDNN's algorithms itself"
    for key, (other, value) in _ONLY_WITH.items():
        if _is_set(cfg, key) and _get(cfg, other) != value:
            yield key, f"it only applies with {other} {value}"
    for key in ("INPUT.COLOR_AUG_SSD", "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA"):
        if _is_set(cfg, key) and not trains_as_pointrend(cfg):
            yield key, "it only applies to a SemanticSegmentor"
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    for key, samplers in _OF_SAMPLERS.items():
        if _is_set(cfg, key) and sampler not in samplers:
            yield key, f"it only applies with DATALOADER.SAMPLER_TRAIN {' or '.join(samplers)}"
    if cfg.DATASETS.PROPOSAL_FILES_TRAIN and not capabilities(cfg).takes_proposals:
        yield "DATASETS.PROPOSAL_FILES_TRAIN", _OWN_PROPOSALS
    for key, asked in (
        ("TEST.EVAL_PERIOD", cfg.TEST.EVAL_PERIOD > 0),
        ("TEST.AUG.ENABLED", cfg.TEST.AUG.ENABLED),
    ):
        if asked and not cfg.DATASETS.TEST:
            yield key, "DATASETS.TEST names no data set to evaluate on"
    solver, sizes = cfg.SOLVER, cfg.INPUT
    late = [step for step in solver.STEPS if step >= solver.MAX_ITER]
    if late and solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        yield "SOLVER.STEPS", f"of {late}: SOLVER.MAX_ITER {solver.MAX_ITER} comes first"
    if not sizes.LARGE_SCALE_JITTER.ENABLED:
        lengths = [x for x in sizes.MIN_SIZE_TRAIN if _beyond(x, sizes.MAX_SIZE_TRAIN)]
        if lengths:
            yield (
                "INPUT.MIN_SIZE_TRAIN",
                f"of {lengths}: INPUT.MAX_SIZE_TRAIN {sizes.MAX_SIZE_TRAIN} is smaller, so only "
                "that applies",
            )


def _beyond(short_edge: float, max_size: float) -> bool:
    return short_edge > max_size


def _is_set(cfg: CfgNode, key: str) -> bool:
    """Whether a key differs from its default and is not null."""
    value, default = _get(cfg, key), _get(DEFAULTS, key)
    return value is not None and value != default


def _get(node: Any, key: str) -> Any:
    for part in key.split("."):
        node = node[part]
    return node
