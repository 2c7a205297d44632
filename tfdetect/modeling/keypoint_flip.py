"""Which keypoints change places in a mirror image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


def keypoint_flip(metadata: Mapping[str, Any]) -> list[int] | None:
    """The index of the keypoint that takes each one's place in a mirror image.

    Args:
        metadata: of a model directory.

    Returns:
        None where names or pairs are not known.

    Raises:
        InputError: a flip pair names something else.
    """
    names, pairs = metadata.get("keypoint_names"), metadata.get("keypoint_flip_map")
    if names is None or pairs is None:
        return None
    return keypoint_flip_indices(names, dict(pairs)).tolist()
