"""Images of a batch parted by size, so that little of what the network sees is padding."""

from __future__ import annotations

import numpy as np

# Of a group's pixels, this share of all may be padding: the features of 1 image in 10.
_MOST_PADDING = 0.1


def groups_of_like_sizes(sizes: np.ndarray) -> list[list[int]]:
    """Which images go through the network together.

    All of a batch are padded to the greatest height and the greatest width in it. Images that lie
    and images that stand would be half as much again together; in groups, a batch never takes more
    memory or time than its images do.

    Args:
        sizes: int [B, 2], (height, width) of each image in the network's input, alone.

    Returns:
        Indices of the images, each in one group; in every group they are in ascending order.
    """
    areas = sizes.astype(np.int64).prod(1)
    groups: list[list[int]] = []
    for index in np.lexsort((sizes[:, 1], sizes[:, 0] / sizes[:, 1])).tolist():
        if groups:
            together = [*groups[-1], index]
            padded = len(together) * int(sizes[together].astype(np.int64).max(0).prod())
            if padded * (1 - _MOST_PADDING) <= areas[together].sum():
                groups[-1].append(index)
                continue
        groups.append([index])
    return [sorted(group) for group in groups]
