"""Keys of a converted model's configuration that may be changed for inference."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.config.loader import load_config
from tfdetect.errors import InputError

# No variable depends on these.
_FREE = (
    "INPUT.*_SIZE_TEST",
    "INPUT.FORMAT",
    "MODEL.PIXEL_*",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE",
    "MODEL.ANCHOR_GENERATOR.OFFSET",
    "MODEL.FCOS.OFFSET",
    "MODEL.RPN.*_TOPK_TEST",
    "MODEL.*.NMS_THRESH",
    "MODEL.*.NMS_THRESH_TEST",
    "MODEL.*.SCORE_THRESH_TEST",
    "MODEL.*.TOPK_CANDIDATES_TEST",
    "MODEL.*.POOLER_SAMPLING_RATIO",
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION",
    "MODEL.PANOPTIC_FPN.COMBINE.*_*",
    "MODEL.POINT_HEAD.SUBDIVISION_*",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST",
    "FLOAT32_PRECISION",
    "TEST.DETECTIONS_PER_IMAGE",
    "TEST.KEYPOINT_OKS_SIGMAS",
    "TEST.AUG.*",
)
# Nor on these in a model without PointRend, whose fully connected layers are for one resolution.
_FREE_OF_CONVOLUTIONS = ("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION",)
# These may be set False: a model without the head is then made of the same weights.
_HEADS = ("MODEL.MASK_ON", "MODEL.KEYPOINT_ON")
_TTA = "TEST.AUG.ENABLED"
_INSTEAD = {"MODEL.WEIGHTS": "--model", "MODEL.DEVICE": "--device"}
# Prediction does not read these.
_UNUSED = (
    *("VERSION", "OUTPUT_DIR", "SEED", "CUDNN_BENCHMARK", "VIS_PERIOD"),
    *("SOLVER.*", "DATALOADER.*", "DATASETS.*", "INPUT.*", "TEST.*", "GLOBAL.*"),
    "TRACKER_HEADS.*",
    *("*TRAIN*", "*LOSS*", "*.IOU_*", "*.IOUS", "*.BATCH_SIZE_PER_IMAGE", "*.POSITIVE_FRACTION"),
    *("*.BOUNDARY_THRESH", "*.SMOOTH_L1_BETA", "*.FREEZE_AT", "*.PROPOSAL_APPEND_GT"),
    *("*.PRIOR_PROB", "*.MIN_KEYPOINTS_PER_IMAGE", "*.IGNORE_VALUE", "*.LOAD_PROPOSALS"),
    *("*.COMBINE.ENABLED", "*.ANGLES", "*.CENTER_SAMPLING_RADIUS", "*.OVERSAMPLE_RATIO"),
    *("*.IMPORTANCE_SAMPLE_RATIO", "*.PARAMS_L2_REGULARIZER"),
)


def load_prediction_config(
    path: str | os.PathLike[str], opts: Sequence[Any], source: str = "opts"
) -> CfgNode:
    """The configuration of a model directory, with changes that affect inference only.

    Args:
        path: its config.yaml.
        opts: KEY VALUE KEY VALUE ..., as of `load_config`.
        source: what messages call the place that `opts` are from.

    Raises:
        InputError: as `load_config`; or a key does not match the weights, or has no effect on
            inference.
    """
    if not isinstance(opts, (list, tuple)):
        raise InputError(f"{source}: is {type(opts).__name__}; give a list [KEY, VALUE, ...]")
    before = load_config(path)
    if not opts:
        return before
    cfg = load_config(path, opts, source)
    free = _FREE if capabilities(cfg).has_points else (*_FREE, *_FREE_OF_CONVOLUTIONS)
    for key, value in _changed(before, cfg, ""):
        if key.startswith("TEST.AUG.") and key != _TTA and not cfg.TEST.AUG.ENABLED:
            raise InputError(
                f"{source}: {key}: has no effect without {_TTA} True; add that, or leave it out"
            )
        if _is_one_of(key, free) or (key in _HEADS and value is False):
            continue
        if key in _INSTEAD:
            raise InputError(
                f"{source}: {key}: is not part of the model; give {_INSTEAD[key]} instead"
            )
        if key in _HEADS:
            raise InputError(
                f"{source}: {key}: the model has no such head; it can only be set to False"
            )
        if _is_one_of(key, _UNUSED):
            raise InputError(f"{source}: {key}: has no effect on inference; leave it out")
        raise InputError(
            f"{source}: {key}: the weights were trained with a different value; convert or train a "
            "model with this one"
        )
    return cfg


def _changed(before: CfgNode, after: CfgNode, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in after.items():
        if isinstance(value, CfgNode):
            yield from _changed(before[name], value, f"{prefix}{name}.")
        elif value != before[name]:
            yield f"{prefix}{name}", value


def _is_one_of(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)
