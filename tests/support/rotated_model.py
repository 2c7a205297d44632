"""The narrow model of rotated boxes of Detectron2's records."""

from __future__ import annotations

import gzip
import json

import numpy as np
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model
from tests.support.intermediates import by_name, call_with_intermediates
from tests.support.paths import DEMO
from tests.support.recorded_steps import take_steps_on
from tests.support.rotated import FOLDER
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.modeling.preprocess import Preprocessor
from tfdetect.modeling.structures import Targets

NARROW = FOLDER / "narrow.yaml"


def narrow_model(opts=()):
    """The configuration and the model with seeded weights."""
    cfg = load_config(NARROW, opts)
    return cfg, seeded_model(cfg)


def images_of(names):
    """Images of the demo in one padded batch, uint8, and their sizes."""
    images = [read_image(DEMO / "images" / name) for name in names]
    sizes = np.array([image.shape[:2] for image in images], np.int32)
    batch = np.zeros([len(images), *sizes.max(0), 3], np.uint8)
    for slot, image in zip(batch, images, strict=True):
        slot[: image.shape[0], : image.shape[1]] = image
    return batch, sizes


def run(cfg, model, images, sizes):
    """What the model gives for a batch, and its intermediates, traced once."""
    preprocess = Preprocessor.from_config(cfg, model.size_divisibility)

    @tf.function(autograph=False)
    def call(images, sizes):
        batch, resized = preprocess(images, sizes)
        predictions, found = call_with_intermediates(model, batch, resized)
        return by_name(predictions), found, batch, resized

    return call(tf.constant(images), tf.constant(sizes))


def take_recorded_steps():
    """The record of three training steps, the same `Steps` taken here, and the model after them."""
    with gzip.open(FOLDER / "training_steps.json.gz", "rt") as file:
        recorded = json.load(file)
    cfg = load_config(FOLDER / "narrow_training.yaml")
    model = seeded_model(cfg)
    truth = recorded["ground_truth"]
    batch, sizes = images_of([image["file_name"] for image in truth])
    images, resized = Preprocessor.from_config(cfg, model.size_divisibility)(
        tf.constant(batch), tf.constant(sizes)
    )
    np.testing.assert_array_equal(resized, [image["resized_hw"] for image in truth])
    most = max(len(image["gt_classes"]) for image in truth)
    boxes = np.zeros([len(truth), most, 5], np.float32)
    classes, valid = np.zeros([len(truth), most], np.int32), np.zeros([len(truth), most], bool)
    for index, image in enumerate(truth):
        count = len(image["gt_classes"])
        boxes[index, :count], classes[index, :count] = image["gt_boxes"], image["gt_classes"]
        valid[index, :count] = True
    targets = Targets(*map(tf.constant, (boxes, classes, valid)))
    return recorded, take_steps_on(cfg, model, images, resized, targets, 3), model
