"""COCO's average precision with the intersection over union of rotated boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from tfdetect.data.rotated import rotated_of_horizontal


class RotatedCOCOeval(COCOeval):
    """COCOeval of boxes (x centre, y centre, width, height, angle), for the task "bbox".

    Boxes of four numbers are COCO's (left, top, width, height). Meaning: Detectron2's class of
    this name; it rejects crowds, for which this has COCO's definition: what a detection shares with
    a crowd counts relative to the detection's area.
    """

    def computeIoU(self, imgId: int, catId: int) -> Any:
        # Not before it is needed: it imports TensorFlow, which takes seconds.
        from tfdetect.ops.rotated_iou import pairwise_iou_rotated

        params = self.params
        if params.useCats:
            truth, found = self._gts[imgId, catId], self._dts[imgId, catId]
        else:
            truth = [entry for each in params.catIds for entry in self._gts[imgId, each]]
            found = [entry for each in params.catIds for entry in self._dts[imgId, each]]
        if not truth and not found:
            return []
        order = np.argsort([-entry["score"] for entry in found], kind="mergesort")
        found = [found[index] for index in order[: params.maxDets[-1]]]
        detected, expected = _boxes(found), _boxes(truth)
        ious = pairwise_iou_rotated(detected, expected).numpy().astype(np.float64)
        crowds = np.array([bool(entry.get("iscrowd", 0)) for entry in truth], bool)
        if crowds.any():
            areas = (detected[:, 2] * detected[:, 3]).astype(np.float64)[:, None]
            others = (expected[:, 2] * expected[:, 3]).astype(np.float64)[None]
            shared = ious * (areas + others) / (1.0 + ious)
            relative = np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0)
            ious[:, crowds] = relative[:, crowds]
        return ious


def _boxes(entries: list[dict[str, Any]]) -> np.ndarray:
    """float32 [N, 5] of COCO entries, of which each has four or five numbers."""
    boxes = [
        entry["bbox"] if len(entry["bbox"]) == 5 else rotated_of_horizontal(entry["bbox"])
        for entry in entries
    ]
    return np.array(boxes, np.float32).reshape(-1, 5)
