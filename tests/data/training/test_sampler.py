"""Streams of indices: complete epochs, shuffled, from a seed alone."""

from __future__ import annotations

import itertools

import numpy as np

from tfdetect.data.training.sampler import (
    RepeatFactorTrainingSampler,
    TrainingSampler,
    random_state,
)


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
