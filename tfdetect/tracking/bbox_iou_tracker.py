"""The tracker that matches boxes one after the other."""

from __future__ import annotations

import numpy as np

from tfdetect.tracking.base_tracker import BaseTracker, pairwise_iou
from tfdetect.tracking.registry import TRACKER_HEADS


@TRACKER_HEADS.register()
class BBoxIOUTracker(BaseTracker):
    """Each detection gets the first instance of the frame before whose box overlaps enough.

    Detections are taken in their order, and so are the instances: not the largest IoU wins, but the
    first that is at least `track_iou_threshold`.

    Detectron2: `BBoxIOUTracker`.
    """

    def match(self, boxes: np.ndarray, previous_boxes: np.ndarray) -> list[tuple[int, int]]:
        """See `BaseTracker.match`."""
        overlapping = pairwise_iou(boxes, previous_boxes) >= self._track_iou_threshold
        matches: list[tuple[int, int]] = []
        matched, matched_before = set(), set()
        for index, before in np.argwhere(overlapping).tolist():
            if index not in matched and before not in matched_before:
                matches.append((index, before))
                matched.add(index)
                matched_before.add(before)
        return matches
