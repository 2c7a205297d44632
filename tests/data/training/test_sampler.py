"""Streams of indices: complete epochs, shuffled, from a seed alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.support.training_data import cfg_of
from tfdetect.config.training_checks import SAMPLERS
from tfdetect.data.training.record import Annotation, Record
from tfdetect.data.training.repeat_factors import (
    build_sampler,
    dataset_factors,
    weighted_category_factors,
)
from tfdetect.data.training.sampler import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
    random_state,
)
from tfdetect.errors import InputError


def take(sampler, count):
    return list(itertools.islice(sampler, count))


def test_epochs_are_permutations():
    stream = np.reshape(take(TrainingSampler(50, seed=3), 200), (4, 50))
    np.testing.assert_array_equal(np.sort(stream, axis=1), np.tile(np.arange(50), (4, 1)))
    assert len({tuple(epoch) for epoch in stream}) == 4


def test_the_seed_decides():
    assert take(TrainingSampler(50, seed=3), 120) == take(TrainingSampler(50, seed=3), 120)
    assert take(TrainingSampler(50, seed=3), 50) != take(TrainingSampler(50, seed=4), 50)
    # These numbers must not change with a version of anything: runs are resumed on them.
    assert take(TrainingSampler(10, seed=0), 10) == [6, 1, 0, 5, 3, 8, 7, 9, 2, 4]
    assert random_state(1, 2).randint(1 << 30, size=2).tolist() == [68922201, 371015106]


def test_repeat_factors_of_one_are_no_repeats():
    epoch = RepeatFactorTrainingSampler(np.ones(20, np.float32), seed=1).epoch(0)
    assert sorted(epoch) == list(range(20))


def test_repeat_factors_hold_on_average():
    factors = np.array([1, 1.25, 2, 3.5], np.float32)
    sampler = RepeatFactorTrainingSampler(factors, seed=1)
    counts = np.stack([np.bincount(sampler.epoch(n), minlength=4) for n in range(2000)])
    assert (counts >= np.floor(factors)).all()
    assert (counts <= np.ceil(factors)).all()
    # The standard deviation of such a mean is below 0.5 / sqrt(2000) = 0.012.
    np.testing.assert_allclose(counts.mean(axis=0), factors, atol=0.05)
    assert sampler.epoch(7).tolist() == sampler.epoch(7).tolist()


def test_a_subset_is_the_same_in_every_epoch():
    sampler = RandomSubsetTrainingSampler(50, 0.31, seed=3)
    epochs = [sampler.epoch(number) for number in range(4)]
    assert [len(epoch) for epoch in epochs] == [15] * 4
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1
    assert len(set(epochs[0])) == 15
    assert len({tuple(epoch) for epoch in epochs}) == 4
    again, other = (RandomSubsetTrainingSampler(50, 0.31, seed=seed) for seed in (3, 4))
    assert take(again, 45) == take(sampler, 45)
    assert set(other.epoch(0)) != set(epochs[0])
    # Every image has the same chance, which is 0.3: 400 draws are within 4.4 deviations.
    counts = sum(
        np.bincount(RandomSubsetTrainingSampler(20, 0.3, seed).epoch(0), minlength=20)
        for seed in range(400)
    )
    assert np.abs(counts / 400 - 0.3).max() < 0.1


def record(dataset, *classes):
    box = np.zeros(4)
    found = tuple(Annotation(box, c, False, None, None, None) for c in classes)
    return Record("x.png", 4, 4, 1, found, dataset=dataset)


# Class 0 is in all images of a data set but one, 1 in a quarter of a's and half of b's.
RECORDS = [record("a", 0), record("a", 0), record("a", 0, 1), record("a"), record("b", 0)]
RECORDS.append(record("b", 0, 1))


def test_weights_of_data_sets():
    """By hand, after Detectron2's `_build_weighted_sampler`."""
    factors = dataset_factors(RECORDS, {"b": 2.5})
    np.testing.assert_array_equal(factors, np.float32([1, 1, 1, 1, 2.5, 2.5]))
    # Within a, class 1 is in 1 / 4 of the images: sqrt(0.9 / 0.25); class 0 in 3 / 4.
    found = weighted_category_factors(RECORDS, {"a": 3.0, "b": 2.0}, 0.9, sqrt=True)
    a0, a1, b1 = (0.9 / 0.75) ** 0.5, (0.9 / 0.25) ** 0.5, (0.9 / 0.5) ** 0.5
    expected = np.array([3 * a0, 3 * a0, 3 * a1, 3, 2, 2 * b1]) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_configuration_chooses(name):
    cfg = cfg_of(
        "a",
        DATALOADER__SAMPLER_TRAIN=name,
        DATALOADER__RANDOM_SUBSET_RATIO=0.5,
        DATALOADER__REPEAT_THRESHOLD=0.9,
        DATASETS__TRAIN_REPEAT_FACTOR=[["b", 3.0]],
    )
    counts = np.bincount(take(build_sampler(cfg, RECORDS, 1), 6000), minlength=6) / 6000
    expected = {
        "TrainingSampler": [1] * 6,
        "RandomSubsetTrainingSampler": 2 * (counts > 0),
        "RepeatFactorTrainingSampler": [1.039, 1.039, 1.643, 1, 1.039, 1.643],
        "WeightedTrainingSampler": [1, 1, 1, 1, 3, 3],
        "WeightedCategoryTrainingSampler": [1.095, 1.095, 1.897, 1, 3, 4.025],
    }[name]
    assert (counts > 0).sum() == (3 if "Subset" in name else 6)
    # Of 500 epochs or more, whose length varies by a few.
    np.testing.assert_allclose(counts, expected / np.sum(expected), atol=0.006)


def test_a_subset_of_none():
    cfg = cfg_of(
        "a",
        DATALOADER__SAMPLER_TRAIN="RandomSubsetTrainingSampler",
        DATALOADER__RANDOM_SUBSET_RATIO=0.1,
    )
    with pytest.raises(InputError, match=r"^DATALOADER.RANDOM_SUBSET_RATIO: 0.1 of 6 images is no"):
        build_sampler(cfg, RECORDS, 1)
