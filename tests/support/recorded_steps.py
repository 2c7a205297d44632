"""Steps of training on the images of a record of Detectron2's, to be compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.support.paths import DEMO
from tfdetect.checkpoint.names import NamedVariable
from tfdetect.config import load_config
from tfdetect.data.registry import register_coco_dataset
from tfdetect.data.training.augmentation import build_augmentation, draw_transforms
from tfdetect.data.training.batching import collate
from tfdetect.data.training.mapper import TrainingMapper
from tfdetect.data.training.records import flip_indices, training_metadata, training_records
from tfdetect.layers.intermediates import collect_intermediates
from tfdetect.modeling.preprocess import normalize_batch
from tfdetect.modeling.structures import Targets
from tfdetect.training.optimizer import build_optimizer, gradient_clipping
from tfdetect.training.optimizer_base import Optimizer
from tfdetect.training.trainable import trainable_variables


def load_recorded_config(path, record, options=()):
    """The configuration in a file, for the demo's annotations and the sizes of a record."""
    register_coco_dataset("recorded_steps", DEMO / "annotations.json", DEMO / "images")
    options = [*options, "DATASETS.TRAIN", ("recorded_steps",), "INPUT.RANDOM_FLIP", "none"]
    options += ["INPUT.MIN_SIZE_TRAIN", (record["short_edge"],)]
    options += ["INPUT.MAX_SIZE_TRAIN", record["max_size"]]
    return load_config(path, options)


def batch_of(cfg, model, names):
    """Images of the demo and their objects as the model takes them: images, sizes, targets."""
    keypoints = flip_indices(training_metadata(cfg)) if cfg.MODEL.KEYPOINT_ON else None
    mask_format = cfg.INPUT.MASK_FORMAT if cfg.MODEL.MASK_ON else None
    mapper = TrainingMapper(cfg.INPUT.FORMAT, mask_format, False, keypoints)
    augmentors = build_augmentation(cfg)
    examples = []
    records = {Path(record.file_name).name: record for record in training_records(cfg)}
    for name in names:
        size = records[name].height, records[name].width
        transforms = draw_transforms(augmentors, size, np.random.RandomState(0))
        examples.append(mapper(records[name], transforms))
    sizes = np.array([example.image.shape[:2] for example in examples], np.int32)
    batch = collate(examples, [0, 1], sizes.max(0), 0)
    images = normalize_batch(
        tf.constant(batch["image"]),
        sizes,
        cfg.MODEL.PIXEL_MEAN,
        cfg.MODEL.PIXEL_STD,
        model.size_divisibility,
    )
    targets = Targets(
        **{name: tf.constant(a) for name, a in batch.items() if name in Targets._fields}
    )
    return images, tf.constant(sizes), targets


@dataclass
class Steps:
    """What was seen of some steps.

    Attributes:
        named: the variables that were trained.
        optimizer: that of the configuration.
        losses: of each step by name.
        first_gradients: of `named` in the first step, before they are clipped.
        intermediates: of the first step, those that were asked for.
    """

    named: list[NamedVariable]
    optimizer: Optimizer
    losses: list[dict[str, float]]
    first_gradients: dict[str, np.ndarray]
    intermediates: dict[str, np.ndarray]


def take_steps(cfg, model, names, count, intermediates: Sequence[str] = ()) -> Steps:
    """Steps of a configuration on images of the demo, at a constant learning rate."""
    return take_steps_on(cfg, model, *batch_of(cfg, model, names), count, intermediates)


def take_steps_on(
    cfg, model, images, sizes, targets, count, intermediates: Sequence[str] = ()
) -> Steps:
    """Steps on a batch, as the model takes it, at a constant learning rate."""
    named = trainable_variables(model, cfg)
    parameters = [n.variable for n in named]
    optimizer = build_optimizer(cfg, model, parameters)
    clip = gradient_clipping(cfg)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape, collect_intermediates() as found:
            losses = model.losses(images, sizes, targets, tf.constant([0, 0]))
            total = tf.add_n(list(losses.values()))
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(total, parameters)]
        optimizer.apply_gradients(clip(gradients), cfg.SOLVER.BASE_LR)
        return losses, gradients, {name: found[name] for name in intermediates}

    taken = [step() for _ in range(count)]
    losses = [{name: float(loss) for name, loss in found.items()} for found, *_ in taken]
    gradients = {n.name: g.numpy() for n, g in zip(named, taken[0][1], strict=True)}
    seen = {name: tensor.numpy() for name, tensor in taken[0][2].items()}
    return Steps(named, optimizer, losses, gradients, seen)


def relative_differences(found, recorded, smallest=0.0):
    """Of two dictionaries of numbers, each relative to the recorded one or to `smallest`."""
    assert found.keys() == recorded.keys()
    return {
        name: abs(found[name] - value) / max(abs(value), smallest)
        for name, value in recorded.items()
    }
