"""The narrow model of rotated boxes of Detectron2's records."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model
from tests.support.intermediates import by_name, call_with_intermediates
from tests.support.paths import DEMO
from tests.support.rotated import FOLDER
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.modeling.preprocess import Preprocessor

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
