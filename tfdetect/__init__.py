"""Detectron2's detectors in TensorFlow 2, with its numerics: the public API.

Importing this imports no TensorFlow and changes nothing in the process; what needs TensorFlow
imports it on first use. docs/extending.md says how to add parts to models, data and training.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfdetect.checkpoint.model_dir import load_model
    from tfdetect.config.extend import add_config
    from tfdetect.config.loader import load_config
    from tfdetect.data.registry import (
        DATASETS,
        register_coco_dataset,
        register_panoptic_dataset,
        register_sem_seg_dataset,
        register_separated_dataset,
    )
    from tfdetect.data.training.augmentation import AUGMENTATIONS
    from tfdetect.detections import Detections
    from tfdetect.errors import InputError
    from tfdetect.evaluation.evaluate import evaluate
    from tfdetect.evaluation.registry import EVALUATORS
    from tfdetect.export.saved_model import export_savedmodel
    from tfdetect.inference.optimization import optimize
    from tfdetect.inference.predictor import Predictor
    from tfdetect.inference.slices import Slices
    from tfdetect.modeling.build import build_model
    from tfdetect.modeling.registries import (
        BACKBONES,
        BOX_HEADS,
        BOX_LOSSES,
        KEYPOINT_HEADS,
        MASK_HEADS,
        META_ARCHITECTURES,
        POINT_HEADS,
        PROPOSAL_GENERATORS,
        ROI_HEADS,
        SEM_SEG_HEADS,
    )
    from tfdetect.ops.backend import Backend
    from tfdetect.tracking.registry import TRACKER_HEADS, build_tracker_head
    from tfdetect.tracking.tracks import Tracks
    from tfdetect.training import HOOKS, Hook, train

_MODULES = {
    "tfdetect.checkpoint.model_dir": ("load_model",),
    "tfdetect.config.extend": ("add_config",),
    "tfdetect.config.loader": ("load_config",),
    "tfdetect.data.registry": (
        "DATASETS",
        "register_coco_dataset",
        "register_panoptic_dataset",
        "register_sem_seg_dataset",
        "register_separated_dataset",
    ),
    "tfdetect.data.training.augmentation": ("AUGMENTATIONS",),
    "tfdetect.detections": ("Detections",),
    "tfdetect.errors": ("InputError",),
    "tfdetect.evaluation.evaluate": ("evaluate",),
    "tfdetect.evaluation.registry": ("EVALUATORS",),
    "tfdetect.export.saved_model": ("export_savedmodel",),
    "tfdetect.inference.optimization": ("optimize",),
    "tfdetect.inference.predictor": ("Predictor",),
    "tfdetect.inference.slices": ("Slices",),
    "tfdetect.modeling.build": ("build_model",),
    "tfdetect.modeling.registries": (
        "BACKBONES",
        "BOX_HEADS",
        "BOX_LOSSES",
        "KEYPOINT_HEADS",
        "MASK_HEADS",
        "META_ARCHITECTURES",
        "POINT_HEADS",
        "PROPOSAL_GENERATORS",
        "ROI_HEADS",
        "SEM_SEG_HEADS",
    ),
    "tfdetect.ops.backend": ("Backend",),
    "tfdetect.tracking.registry": ("TRACKER_HEADS", "build_tracker_head"),
    "tfdetect.tracking.tracks": ("Tracks",),
    "tfdetect.training": ("HOOKS", "Hook", "train"),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AUGMENTATIONS",
    "BACKBONES",
    "BOX_HEADS",
    "BOX_LOSSES",
    "DATASETS",
    "EVALUATORS",
    "HOOKS",
    "KEYPOINT_HEADS",
    "MASK_HEADS",
    "META_ARCHITECTURES",
    "POINT_HEADS",
    "PROPOSAL_GENERATORS",
    "ROI_HEADS",
    "SEM_SEG_HEADS",
    "TRACKER_HEADS",
    "Backend",
    "Detections",
    "Hook",
    "InputError",
    "Predictor",
    "Slices",
    "Tracks",
    "add_config",
    "build_model",
    "build_tracker_head",
    "evaluate",
    "export_savedmodel",
    "load_config",
    "load_model",
    "optimize",
    "register_coco_dataset",
    "register_panoptic_dataset",
    "register_sem_seg_dataset",
    "register_separated_dataset",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'tfdetect' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
