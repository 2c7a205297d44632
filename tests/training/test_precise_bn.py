"""TEST.PRECISE_BN against averages in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import toy
from tfdetect.errors import InputError
from tfdetect.modeling.preprocess import normalize_batch
from tfdetect.training.precise_bn import PreciseStatistics


def dataset(first):
    def generate():
        number = first
        while True:
            yield toy.batch(number)
            number += 1

    return tf.data.Dataset.from_generator(generate, output_signature=toy.SPEC)


def statistics(layer):
    return layer.running_mean.numpy(), layer.running_var.numpy()


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_population_of_what_training_would_see(parts):
    """All pixels of all batches together, whether they come by four, two, or one image."""
    cfg = toy.config(ACCUMULATION_STEPS=parts)
    cfg.TEST.PRECISE_BN.NUM_ITER = 3
    model = toy.WithBatchNorms()
    for layer in (model.seen, model.frozen, model.no_region):
        layer.running_mean.assign([5.0, 6.0, 7.0])
    trainer, _ = toy.trainer(cfg, model)
    weights = [variable.numpy() for variable in model.trainable_variables]
    PreciseStatistics(cfg, model, trainer, dataset)(iteration=4)
    pixels, variances = [], []
    for number in (4, 5, 6):
        batch = toy.batch(number)
        images = (
            normalize_batch(
                batch["image"], batch["image_size"], cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, 4
            )
            .numpy()
            .astype(np.float64)
        )
        columns = [part.reshape(-1, 3) for part in np.split(images, parts)]
        pixels += columns
        variances += [part.var(0, ddof=1) for part in columns]
    # Batches are of different sizes, and the larger ones count for more.
    assert len({len(columns) for columns in pixels}) > 1
    everything = np.concatenate(pixels)
    mean, variance = statistics(model.seen)
    np.testing.assert_allclose(mean, everything.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance, everything.var(0), rtol=1e-6)
    # What the mean of the batches' variances would be is far from it.
    assert np.abs(np.mean(variances, 0) / variance - 1).max() > 0.01
    for layer in (model.frozen, model.no_region):
        np.testing.assert_array_equal(statistics(layer), [[5, 6, 7], [1, 1, 1]])
    for before, variable in zip(weights, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(variable, before)


def test_batches_of_one_image_that_are_apart():
    """By the recurrence of fvcore's estimator, which corrects each variance for its batch."""
    cfg = toy.config(ACCUMULATION_STEPS=4)
    cfg.TEST.PRECISE_BN.NUM_ITER = 2
    model = toy.WithBatchNorms()
    trainer, _ = toy.trainer(cfg, model)

    def uniform_images(first):
        batches = [dict(toy.batch(number)) for number in (first, first + 1)]
        for batch in batches:
            levels = np.arange(10, 50, 10, np.uint8)[:, None, None, None]
            height, width = batch["image"].shape[1:3]
            batch["image"] = np.broadcast_to(levels, batch["image"].shape).copy()
            batch["image_size"] = np.full([4, 2], (height, width), np.int32)
        return batches

    PreciseStatistics(cfg, model, trainer, uniform_images)(iteration=0)
    total, pop_mean, pop_square = 0, np.zeros(3), np.zeros(3)
    for batch in uniform_images(0):
        images = (
            normalize_batch(
                batch["image"], batch["image_size"], cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, 4
            )
            .numpy()
            .astype(np.float64)
        )
        for image in images.reshape(4, -1, 3):
            size = len(image)
            total += size
            square = image.mean(0) ** 2 + image.var(0, ddof=1) * (size - 1) / size
            pop_mean += (image.mean(0) - pop_mean) * size / total
            pop_square += (square - pop_square) * size / total
    mean, variance = statistics(model.seen)
    np.testing.assert_allclose(mean, pop_mean, rtol=1e-6)
    np.testing.assert_allclose(variance, pop_square - pop_mean**2, rtol=1e-6)


def test_a_count_that_makes_no_sense():
    cfg = toy.config()
    cfg.TEST.PRECISE_BN.NUM_ITER = 0
    with pytest.raises(InputError, match=r"TEST\.PRECISE_BN\.NUM_ITER"):
        PreciseStatistics(cfg, *reversed(toy.trainer(cfg)), dataset)
