"""Trackers that match all boxes of two frames at once."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np

from tfdetect.tracking.base_tracker import BaseTracker, difference, pairwise_iou
from tfdetect.tracking.registry import TRACKER_HEADS

_LARGE_COST = 100000
"""Of a pair whose IoU is below the threshold."""


class BaseHungarianTracker(BaseTracker):
    """Matches as many boxes as there are in the frame that has fewer, at the least total cost.

    As in Detectron2, a pair below the threshold is matched too if nothing better is left: a new
    object then inherits the id of one that has gone.

    Detectron2: `BaseHungarianTracker`.
    """

    @abc.abstractmethod
    def cost_matrix(self, boxes: np.ndarray, previous_boxes: np.ndarray) -> np.ndarray:
        """The cost of each pair, int64 [N, M].

        Args:
            boxes: float32 [N, 4] XYXY in pixels, of this frame.
            previous_boxes: float32 [M, 4], of the frame before.
        """

    def match(self, boxes: np.ndarray, previous_boxes: np.ndarray) -> list[tuple[int, int]]:
        """See `BaseTracker.match`. SciPy's algorithm decides between assignments of equal cost,
        which are common, as it does in Detectron2."""
        # It takes a fifth of a second to import.
        from scipy.optimize import linear_sum_assignment

        rows, columns = linear_sum_assignment(self.cost_matrix(boxes, previous_boxes))
        return list(zip(rows.tolist(), columns.tolist(), strict=True))

    def unmatched(self, count: int, matched: set[int]) -> Sequence[int]:
        """See `BaseTracker.unmatched`."""
        return difference(count, matched)


@TRACKER_HEADS.register()
class VanillaHungarianBBoxIOUTracker(BaseHungarianTracker):
    """Every pair whose IoU is at least `track_iou_threshold` costs the same.

    Detectron2: `VanillaHungarianBBoxIOUTracker`.
    """

    def cost_matrix(self, boxes: np.ndarray, previous_boxes: np.ndarray) -> np.ndarray:
        """-1 from the threshold on, else 100000. See `BaseHungarianTracker.cost_matrix`."""
        overlapping = pairwise_iou(boxes, previous_boxes) >= self._track_iou_threshold
        return np.where(overlapping, np.int64(-1), np.int64(_LARGE_COST))


@TRACKER_HEADS.register()
class IOUWeightedHungarianBBoxIOUTracker(BaseHungarianTracker):
    """A pair whose IoU is at least `track_iou_threshold` costs less if the boxes are equal.

    Detectron2 means the cost to be -IoU, but stores it as an integer, which truncates it; so does
    this, for the same ids.

    Detectron2: `IOUWeightedHungarianBBoxIOUTracker`.
    """

    def cost_matrix(self, boxes: np.ndarray, previous_boxes: np.ndarray) -> np.ndarray:
        """-1 for an IoU of 1, 0 from the threshold on, else 100000. See
        `BaseHungarianTracker.cost_matrix`."""
        iou = pairwise_iou(boxes, previous_boxes)
        truncated = (-iou).astype(np.int64)
        return np.where(iou >= self._track_iou_threshold, truncated, np.int64(_LARGE_COST))
