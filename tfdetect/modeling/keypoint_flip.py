"""Which keypoints change places in a mirror image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfdetect.errors import InputError


def keypoint_flip_indices(names: Sequence[str], flip_pairs: Mapping[str, str]) -> np.ndarray:
    """The keypoint that takes each one's place in a flipped image.

    Args:
        names: the K names of the keypoints, in order.
        flip_pairs: left name to right name (or the reverse); a name in no pair stays.

    Returns:
        int64 [K]; mirrored keypoints are `keypoints[indices]`.

    Raises:
        InputError: for a pair that names no keypoint.
    """
    opposite = {**flip_pairs, **{right: left for left, right in flip_pairs.items()}}
    position = {name: index for index, name in enumerate(names)}
    for name in opposite:
        if name not in position:
            raise InputError(
                f"the keypoint flip pairs name {name!r}, which is not a keypoint: {list(names)}"
            )
    return np.array([position[opposite.get(name, name)] for name in names], dtype=np.int64)
