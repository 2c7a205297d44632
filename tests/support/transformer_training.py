"""Training steps of narrow transformers through the trainer, to compare with Detectron2's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tests.support.paths import DEMO
from tfdetect.data.registry import register_coco_dataset
from tfdetect.data.training.augmentation import build_augmentation, draw_transforms
from tfdetect.data.training.batching import collate
from tfdetect.data.training.mapper import TrainingMapper
from tfdetect.data.training.records import training_records
from tfdetect.training.trainable import trainable_variables
from tfdetect.training.trainer import Trainer

IMAGES = ("000002.jpg", "000003.jpg")
"""Of the demo's."""
_DATASET = "transformer_steps"


def training_options() -> dict[str, Any]:
    """By key: the images as they are, and AdamW at a constant learning rate."""
    register_coco_dataset(_DATASET, DEMO / "annotations.json", DEMO / "images")
    return {
        "INPUT.MIN_SIZE_TRAIN": (224,),
        "INPUT.MAX_SIZE_TRAIN": 320,
        "INPUT.MAX_SIZE_TEST": 320,
        "INPUT.RANDOM_FLIP": "none",
        "DATASETS.TRAIN": (_DATASET,),
        "SOLVER.IMS_PER_BATCH": len(IMAGES),
        "SOLVER.OPTIMIZER": "AdamW",
        "SOLVER.BASE_LR": 1e-4,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.STEPS": (),
    }


def batch_of(cfg: CfgNode) -> dict[str, np.ndarray]:
    """IMAGES with their objects, as `training_dataset` gives them."""
    mapper = TrainingMapper("RGB", "polygon", False, None)
    augmentors = build_augmentation(cfg)
    records = {Path(record.file_name).name: record for record in training_records(cfg)}
    examples = []
    for name in IMAGES:
        size = records[name].height, records[name].width
        transforms = draw_transforms(augmentors, size, np.random.RandomState(0))
        examples.append(mapper(records[name], transforms))
    return collate(examples, [0, 1], (1, 1), 0)


def trainer_of(cfg: CfgNode, model: tf.Module) -> Trainer:
    """Of batches like that of `batch_of`."""
    spec = {
        name: tf.TensorSpec([len(a), *[None] * (a.ndim - 1)], a.dtype)
        for name, a in batch_of(cfg).items()
    }
    spec["image"] = tf.TensorSpec([*spec["image"].shape[:3], 3], tf.uint8)
    spec["gt_boxes"] = tf.TensorSpec([*spec["gt_boxes"].shape[:2], 4])
    parameters = [named.variable for named in trainable_variables(model, cfg)]
    return Trainer(cfg, model, parameters, spec, seed=0)


class Step(NamedTuple):
    """A step of training.

    Attributes:
        losses: before it, by name.
        gradients: by the parameters' names.
        changes: of the parameters since the first step began, by their names.
    """

    losses: dict[str, float]
    gradients: dict[str, np.ndarray]
    changes: dict[str, np.ndarray]


def take_steps(cfg: CfgNode, model: tf.Module, count: int) -> Sequence[Step]:
    """Train a model on the batch of `batch_of`, as often."""
    named = trainable_variables(model, cfg)
    trainer, batch = trainer_of(cfg, model), batch_of(cfg)
    seen = [tf.Variable(tf.zeros_like(each.variable)) for each in named]
    apply = trainer.optimizer.apply_gradients

    def see(gradients: Sequence[tf.Tensor], *arguments: Any) -> None:
        for variable, gradient in zip(seen, gradients, strict=True):
            variable.assign(gradient)
        apply(gradients, *arguments)

    trainer.optimizer.apply_gradients = see
    start = [each.variable.numpy() for each in named]
    steps = []
    for iteration in range(count):
        losses = trainer(batch, iteration)
        gradients = {each.name: of.numpy() for each, of in zip(named, seen, strict=True)}
        changes = {
            each.name: each.variable.numpy() - before
            for each, before in zip(named, start, strict=True)
        }
        steps.append(Step(losses, gradients, changes))
    return steps
