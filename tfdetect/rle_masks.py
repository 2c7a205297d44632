"""Binary masks of one image, run-length encoded: what a mask costs is its outline, not the image.

COCO's RLE is the same runs, packed into a string. Drawing, merging and moving masks work on the
runs or on the part of the image that a mask covers, which neither needs to be unpacked for.
(supervision's CompactMask has runs within each mask's box, which are not COCO's.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_codec


class RLEMasks:
    """The masks of N objects.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        runs: of each mask int64 [2 R], where each of its runs starts and where it ends, as
            positions in the image column by column: pixel (y, x) is x * height + y. They rise, so
            that no two runs touch; R is 0 for a mask without pixels.

    Attributes:
        height: of the image.
        width: of the image.
        runs: as given.
    """

    def __init__(self, height: int, width: int, runs: Iterable[np.ndarray] = ()):
        self.height = height
        self.width = width
        self.runs = list(runs)

    @classmethod
    def encode(cls, masks: np.ndarray) -> RLEMasks:
        """Of bool [N, height, width]."""
        _, height, width = masks.shape
        return cls(height, width, [encode_part(mask, 0, 0, height) for mask in masks])

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the decoded array: (N, height, width)."""
        return len(self), self.height, self.width

    def select(self, keep: np.ndarray) -> RLEMasks:
        """The masks that `keep` names, in its order.

        Args:
            keep: bool [N], or int [M] of indices.
        """
        indices = np.arange(len(self))[keep].tolist()
        return RLEMasks(self.height, self.width, [self.runs[index] for index in indices])

    def part(self, index: int) -> tuple[int, int, np.ndarray]:
        """The smallest part of the image that holds a mask.

        Returns:
            Its top row and left column, and the mask there, bool [rows, columns]; of a mask without
            pixels 0, 0 and [0, 0].
        """
        runs, height = self.runs[index], self.height
        if len(runs) == 0:
            return 0, 0, np.zeros((0, 0), bool)
        # Of each run the first and the last pixel.
        pixels = runs - np.tile([0, 1], len(runs) // 2)
        starts, last = pixels[0::2], pixels[1::2]
        left, right = int(starts[0]) // height, int(last[-1]) // height + 1
        top, bottom = 0, height
        if (starts // height == last // height).all():
            top, bottom = int((starts % height).min()), int((last % height).max()) + 1
        # Positions within the part: runs that go from column to column cover all of its rows.
        rows = bottom - top
        inside = (pixels // height - left) * rows + pixels % height - top
        inside[1::2] += 1
        counts = np.diff(inside, prepend=0, append=rows * (right - left))
        values = np.arange(len(counts)) % 2 == 1
        return top, left, np.repeat(values, counts).reshape(right - left, rows).T

    def decode(self) -> np.ndarray:
        """Bool [N, height, width], which takes N * height * width bytes."""
        masks = np.zeros(self.shape, bool)
        for index, mask in enumerate(masks):
            top, left, part = self.part(index)
            mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        return masks

    def areas(self) -> np.ndarray:
        """int64 [N], in pixels."""
        return np.array([(runs[1::2] - runs[0::2]).sum() for runs in self.runs], np.int64)

    def to_coco(self) -> list[dict[str, Any]]:
        """COCO's compressed RLE of each: size, and counts as a string, as pycocotools encodes."""
        size = [self.height, self.width]
        result = []
        for runs in self.runs:
            counts = np.diff(runs, prepend=0, append=self.height * self.width).tolist()
            if counts[-1] == 0:
                del counts[-1]
            rle = mask_codec.frPyObjects({"size": size, "counts": counts}, *size)
            result.append({"size": list(size), "counts": rle["counts"].decode("ascii")})
        return result


def encode_part(part: np.ndarray, top: int, left: int, height: int) -> np.ndarray:
    """The runs of a mask that lies in one part of an image.

    Args:
        part: bool [rows, columns].
        top: its first row in the image.
        left: its first column in the image.
        height: of the image.

    Returns:
        int64 [2 R], as in `RLEMasks`.
    """
    rows, columns = part.shape
    # A row of zeros below ends the runs of each column.
    padded = np.zeros((columns, rows + 1), bool)
    padded[:, :rows] = part.T
    flat = padded.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:
        edges = np.concatenate([[0], edges])
    column, row = np.divmod(edges, rows + 1)
    return _join((left + column) * height + top + row)


def unite(masks: Sequence[np.ndarray]) -> np.ndarray:
    """The runs of the union of masks of one image, given by their runs."""
    edges = np.concatenate(masks)
    steps = np.tile([1, -1], len(edges) // 2)
    # Of a start and an end at one place the start comes first: the two runs are one.
    order = np.lexsort([-steps, edges])
    edges, depth = edges[order], np.cumsum(steps[order])
    outer = (depth == 0) | (np.concatenate([[0], depth[:-1]]) == 0)
    return edges[outer]


def concatenate(masks: Sequence[RLEMasks]) -> RLEMasks:
    """Those of all, in their order; at least one, all of images of one size."""
    first = masks[0]
    return RLEMasks(first.height, first.width, [runs for one in masks for runs in one.runs])


def _join(runs: np.ndarray) -> np.ndarray:
    """Without the ends at which the next run starts."""
    apart = np.ones(len(runs), bool)
    touching = runs[1:-1:2] == runs[2::2]
    apart[1:-1:2] = ~touching
    apart[2::2] = ~touching
    return runs[apart]
