"""Average recall of box proposals, with the numbers of Detectron2's COCOEvaluator for an RPN."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdetect.detections import Detections
from tfdetect.evaluation.table import format_metrics
from tfdetect.files import write_bytes_atomically

LIMITS = (100, 1000)
"""How many proposals of an image count, those of the highest objectness."""

# By suffix, in pixels of area, both bounds included.
_AREA_RANGES = {"": (0, 1e5**2), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e5**2)}

METRICS = tuple(f"AR{suffix}@{limit}" for limit in LIMITS for suffix in _AREA_RANGES)
"""Average recall at IoUs from 0.5 to 0.95: of all objects, of small, medium and large ones."""

_IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10).astype(np.float32)


def to_result(detections: Detections, image_id: int) -> dict[str, Any]:
    """One image's proposals.

    Args:
        detections: P proposals in the form of detections, whose scores are objectness logits.
        image_id: the image's id in the data set.

    Returns:
        image_id, boxes float32 [P, 4] (x1, y1, x2, y2) in pixels of the original image, and
        objectness_logits float32 [P].
    """
    return {
        "image_id": image_id,
        "boxes": detections.boxes,
        "objectness_logits": detections.scores,
    }


def ground_truth(
    annotations: Sequence[Mapping[str, Any]], image_ids: Sequence[int]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Of each image float32 [G, 4] boxes (x1, y1, x2, y2) and float32 [G] areas of its objects.

    Args:
        annotations: of COCO or LVIS, with image_id, bbox and area; crowds are left out.
        image_ids: the images.
    """
    by_image: dict[int, list[Mapping[str, Any]]] = {index: [] for index in image_ids}
    for entry in annotations:
        if entry["image_id"] in by_image and not entry.get("iscrowd", 0):
            by_image[entry["image_id"]].append(entry)
    truth = {}
    for index, found in by_image.items():
        boxes = np.array([entry["bbox"] for entry in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        truth[index] = boxes, np.array([entry["area"] for entry in found], np.float32)
    return truth


def evaluate(
    truth: Mapping[int, tuple[np.ndarray, np.ndarray]], results: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """Detectron2's `_evaluate_box_proposals`, at each limit and for each range of areas.

    Objects and proposals of an image are paired one to one, the pair of the highest IoU first; an
    object is recalled at a threshold that its pair's IoU reaches. As in Detectron2, the objects of
    an image without any proposal do not count.

    Args:
        truth: of `ground_truth`.
        results: of `to_result`, of each image.

    Returns:
        {"box_proposals": `METRICS`} in percent; NaN where there is no object.
    """
    metrics = {}
    for limit in LIMITS:
        for suffix, (low, high) in _AREA_RANGES.items():
            overlaps = [np.zeros(0, np.float32)]
            for result in results:
                boxes, areas = truth[result["image_id"]]
                proposals = np.asarray(result["boxes"], np.float32).reshape(-1, 4)
                logits = np.asarray(result["objectness_logits"], np.float32)
                best = np.argsort(-logits, kind="stable")[:limit]
                if len(best):
                    inside = (areas >= low) & (areas <= high)
                    overlaps.append(_paired_overlaps(proposals[best], boxes[inside]))
            found = np.concatenate(overlaps)
            recalls = [np.mean(found >= threshold) for threshold in _IOU_THRESHOLDS if len(found)]
            metrics[f"AR{suffix}@{limit}"] = 100 * float(np.mean(recalls)) if recalls else math.nan
    return {"box_proposals": metrics}


def format_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """What `evaluate` returned, as a table in plain text."""
    return format_metrics(metrics, METRICS, "AR")


def write_results(folder: Path, results: Sequence[Mapping[str, Any]]) -> Path:
    """Write Detectron2's `box_proposals.pkl`, which a model with PrecomputedProposals takes.

    Raises:
        InputError: the folder cannot be written.
    """
    content = {
        "ids": [result["image_id"] for result in results],
        "bbox_mode": 0,  # Detectron2's BoxMode.XYXY_ABS
    }
    for key in ("boxes", "objectness_logits"):
        content[key] = [np.asarray(result[key], np.float32) for result in results]
    write_bytes_atomically(folder / "box_proposals.pkl", pickle.dumps(content, protocol=4))
    return folder / "box_proposals.pkl"


def _paired_overlaps(proposals: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """float32 [G]: the IoU of each pair, 0 for objects that get no proposal; in any order."""
    overlaps = _iou(boxes, proposals)
    found = np.zeros(len(boxes), np.float32)
    for index in range(min(overlaps.shape)):
        # The first object of equals, then the first proposal.
        box, proposal = np.unravel_index(np.argmax(overlaps), overlaps.shape)
        found[index] = overlaps[box, proposal]
        overlaps[box, :] = -1
        overlaps[:, proposal] = -1
    return found


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float32 [G, P]: Detectron2's `pairwise_iou` of float32 [G, 4] and [P, 4]."""
    corners = (
        np.maximum(first[:, None, :2], second[:, :2]),
        np.minimum(first[:, None, 2:], second[:, 2:]),
    )
    intersection = np.prod(np.maximum(corners[1] - corners[0], 0), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1] - intersection
    return np.where(intersection > 0, intersection / np.where(union > 0, union, 1), 0)
