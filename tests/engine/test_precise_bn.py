"""TEST.PRECISE_BN against averages in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import toy

from tfdetect.engine.precise_bn import PreciseStatistics
from tfdetect.engine.trainer import normalize
from tfdetect.errors import InputError
from tfdetect.layers.norm import BatchNorm, batch_statistics


class WithBatchNorms(toy.Toy):
    """The toy with a batch norm that sees the pixels, one that is frozen and one of no region."""

    def __init__(self):
        super().__init__()
        self.seen = BatchNorm(3, "BN")
        self.frozen = BatchNorm(3)
        self.no_region = BatchNorm(3, "BN")

    def losses(self, images, image_sizes, targets, seed):
        with batch_statistics():
            images = self.frozen(self.seen(images)) + tf.reduce_sum(self.no_region(images[:0]))
        return super().losses(images, image_sizes, targets, seed)


def dataset(first):
    def generate():
        number = first
        while True:
            yield toy.batch(number)
            number += 1

    return tf.data.Dataset.from_generator(generate, output_signature=toy.SPEC)


def statistics(layer):
    return layer.running_mean.numpy(), layer.running_var.numpy()


@pytest.mark.parametrize("parts", [1, 2])
def test_averages_of_what_training_would_see(parts):
    cfg = toy.config(ACCUMULATION_STEPS=parts)
    cfg.TEST.PRECISE_BN.NUM_ITER = 3
    model = WithBatchNorms()
    for layer in (model.seen, model.frozen, model.no_region):
        layer.running_mean.assign([5.0, 6.0, 7.0])
    trainer, _ = toy.trainer(cfg, model)
    weights = [variable.numpy() for variable in model.trainable_variables]
    PreciseStatistics(cfg, model, trainer, dataset)(iteration=4)
    means, variances = [], []
    # Within a batch a running average of the parts, in which the last of two has 1 / 1.9.
    shares = {1: [1.0], 2: [0.9 / 1.9, 1 / 1.9]}[parts]
    for number in (4, 5, 6):
        batch = toy.batch(number)
        images = normalize(batch["image"], batch["image_size"], cfg, 4).numpy().astype(np.float64)
        columns = [part.reshape(-1, 3) for part in np.split(images, parts)]
        means.append(sum(s * c.mean(0) for s, c in zip(shares, columns, strict=True)))
        variances.append(sum(s * c.var(0, ddof=1) for s, c in zip(shares, columns, strict=True)))
    mean, variance = statistics(model.seen)
    # float32 sums of a few hundred values of the order of 100.
    np.testing.assert_allclose(mean, np.mean(means, 0), rtol=1e-4)
    np.testing.assert_allclose(variance, np.mean(variances, 0), rtol=1e-4)
    for layer in (model.frozen, model.no_region):
        np.testing.assert_array_equal(statistics(layer), [[5, 6, 7], [1, 1, 1]])
    for before, variable in zip(weights, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(variable, before)


def test_a_count_that_makes_no_sense():
    cfg = toy.config()
    cfg.TEST.PRECISE_BN.NUM_ITER = 0
    with pytest.raises(InputError, match=r"TEST\.PRECISE_BN\.NUM_ITER"):
        PreciseStatistics(cfg, *reversed(toy.trainer(cfg)), dataset)
