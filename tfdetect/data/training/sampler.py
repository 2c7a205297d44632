"""Samplers: infinite streams of image indices that depend only on a seed.

A stream is epochs one after another. Every epoch has its own random numbers, made from the seed
and the epoch's number, so that a stream can be entered anywhere. They come from NumPy's
RandomState, whose numbers are the same in every version of NumPy.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np


def random_state(*entropy: int) -> np.random.RandomState:
    """A generator of random numbers that depend on these integers, not negative, and no others."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(entropy)))


class Sampler(ABC):
    """An infinite stream of indices into the records."""

    @abstractmethod
    def epoch(self, number: int) -> np.ndarray:
        """int64 [M], the indices of epoch 0, 1, ..., in order."""

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            yield from self.epoch(number).tolist()


class TrainingSampler(Sampler):
    """Every image once in an epoch, shuffled (Detectron2: `TrainingSampler`).

    Args:
        size: the number of images, at least 1.
        seed: not negative.
    """

    def __init__(self, size: int, seed: int):
        self._size = size
        self._seed = seed

    def epoch(self, number: int) -> np.ndarray:
        return random_state(self._seed, number).permutation(self._size)


class RandomSubsetTrainingSampler(Sampler):
    """The same part of the images in every epoch, shuffled (Detectron2's class of this name).

    Args:
        size: the number of images, at least 1.
        ratio: the share of them, in (0, 1]; int(size * ratio), which must not be 0, are chosen at
            random.
        seed: not negative; the choice depends on it, too.
    """

    def __init__(self, size: int, ratio: float, seed: int):
        # No epoch and no image draws from this stream: theirs have two or three numbers.
        chosen = random_state(seed, 0, 0, 1).permutation(size)
        self._chosen = chosen[: int(size * ratio)]
        self._seed = seed

    def epoch(self, number: int) -> np.ndarray:
        return random_state(self._seed, number).permutation(self._chosen)


class RepeatFactorTrainingSampler(Sampler):
    """Every image as often as its factor says, shuffled (Detectron2's class of this name).

    The fractional part of a factor is the probability of one more repetition.

    Args:
        factors: float32 [N], of `tfdetect.data.training.repeat_factors`; not all of them 0.
        seed: not negative.
    """

    def __init__(self, factors: np.ndarray, seed: int):
        self._whole = np.trunc(factors)
        self._fraction = factors - self._whole
        self._seed = seed

    def epoch(self, number: int) -> np.ndarray:
        random = random_state(self._seed, number)
        more = random.random_sample(len(self._fraction)) < self._fraction
        times = (self._whole + more).astype(np.int64)
        return random.permutation(np.repeat(np.arange(len(times)), times))
