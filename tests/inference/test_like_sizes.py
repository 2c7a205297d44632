"""Batches of images of many sizes."""

from __future__ import annotations

import numpy as np
import pytest

from tfdetect.inference.like_sizes import groups_of_like_sizes


def padded(sizes: np.ndarray, group: list[int]) -> int:
    return len(group) * int(sizes[group].astype(np.int64).max(0).prod())


@pytest.mark.parametrize("seed", range(20))
def test_little_of_a_group_is_padding(seed):
    rng = np.random.default_rng(seed)
    sizes = 32 * rng.integers(1, 43, [rng.integers(1, 33), 2]).astype(np.int32)
    groups = groups_of_like_sizes(sizes)
    assert sorted(index for group in groups for index in group) == list(range(len(sizes)))
    for group in groups:
        assert group == sorted(group)
        assert 0.9 * padded(sizes, group) <= sizes[group].astype(np.int64).prod(1).sum()


def test_like_ones_stay_together():
    lying, standing = [800, 1216], [1216, 800]
    assert groups_of_like_sizes(np.array([lying] * 4, np.int32)) == [[0, 1, 2, 3]]
    mixed = np.array([lying, standing, [800, 1088], lying, standing], np.int32)
    assert groups_of_like_sizes(mixed) == [[0, 2, 3], [1, 4]]
    # Areas beyond int32.
    huge = np.array([[2**17, 2**15], [2**15, 2**17]], np.int32)
    assert groups_of_like_sizes(huge) == [[1], [0]]
