"""Pascal VOC's average precision, with the numbers of Detectron2's PascalVOCDetectionEvaluator."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfdetect.data.class_names import distinct_names
from tfdetect.data.voc import VocDataset
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.table import format_metrics

METRICS = ("AP", "AP50", "AP75")
"""VOC's own measure is AP50; AP is the mean over IoUs from 0.5 to 0.95 in steps of 0.05."""

_IOU_THRESHOLDS = np.arange(50, 100, 5) / 100


def to_results(detections: Detections, image_id: str) -> list[dict[str, Any]]:
    """One image's detections in the numbers of VOC's result files.

    Args:
        detections: N detections, in pixels of the original image.
        image_id: the image's name in the lists of the data set.

    Returns:
        N records of image_id, category_id (the class), score to 3 decimals, and bbox (xmin,
        ymin, xmax, ymax) to 1 decimal, where pixels count from 1 and the last is included.
    """
    boxes = detections.boxes + np.array([1, 1, 0, 0], np.float32)
    return [
        {
            "image_id": image_id,
            "category_id": index,
            "score": float(f"{score:.3f}"),
            "bbox": [float(f"{value:.1f}") for value in box],
        }
        for index, score, box in zip(
            detections.classes.tolist(), detections.scores.tolist(), boxes.tolist(), strict=True
        )
    ]


def evaluate(
    dataset: VocDataset, results: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """The development kit's average precision: of 11 points for VOC2007, of the area for others.

    Detectron2 sorts equal scores, of which there are many with 3 decimals, in an order that
    differs between machines; here the first stays first.

    Args:
        dataset: what `tfdetect.data.voc.read_voc` read.
        results: the records of `to_results`, of all images.

    Returns:
        {"bbox": `METRICS`, and `AP50-NAME` of each class}, in percent. A class with no object
        that counts is NaN and not part of the means (Detectron2 would count it as 0).

    Raises:
        InputError: a result's image or class is not in the data set.
    """
    known = {image.id for image in dataset.images}
    found: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        if result["image_id"] not in known:
            raise InputError(f"{dataset.path}: has no image {result['image_id']}, give its list")
        if result["category_id"] >= len(dataset.class_names):
            raise InputError(
                f"{dataset.path}: the model predicts class {result['category_id']} of"
                f" {len(dataset.class_names)}: give a data set with the model's classes"
            )
        found[result["category_id"]].append(result)
    precision = np.array(
        [
            _class_precision(dataset, index, found[index])
            for index in range(len(dataset.class_names))
        ]
    )
    counted = precision[~np.isnan(precision[:, 0])]
    means = counted.mean(axis=0) if len(counted) else np.full(len(_IOU_THRESHOLDS), math.nan)
    metrics = {"AP": means.mean(), "AP50": means[0], "AP75": means[5]}
    names = distinct_names(dataset.class_names, range(len(dataset.class_names)))
    for name, values in zip(names, precision, strict=True):
        metrics[f"AP50-{name}"] = values[0]
    return {"bbox": {name: 100 * float(value) for name, value in metrics.items()}}


def format_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """What `evaluate` returned, as two tables in plain text."""
    return format_metrics(metrics, METRICS, "AP50")


def average_precision(recall: np.ndarray, precision: np.ndarray, eleven_points: bool) -> float:
    """The two definitions of VOC's average precision, in [0, 1].

    Args:
        recall: [D], of the best 1..D detections.
        precision: [D].
        eleven_points: VOC2007's: the mean, over recalls 0, 0.1, ... 1, of the best precision that
            is reached there or beyond. Otherwise the area below the curve of that precision.
    """
    if eleven_points:
        return sum(
            precision[recall >= point].max(initial=0) / 11 for point in np.arange(0, 1.1, 0.1)
        )
    # At each recall the best precision that is reached there or beyond.
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * precision))


def _class_precision(
    dataset: VocDataset, index: int, found: Sequence[Mapping[str, Any]]
) -> list[float]:
    """The average precision of a class at each IoU; NaN where it has no object that counts."""
    boxes, difficult, first = _objects(dataset, index)
    num_objects = np.count_nonzero(~difficult)
    if num_objects == 0:
        return [math.nan] * len(_IOU_THRESHOLDS)
    order = np.argsort([-result["score"] for result in found], kind="stable")
    overlap = np.full(len(found), -1.0)
    match = np.full(len(found), -1)
    for position, source in enumerate(order):
        start, end = first[found[source]["image_id"]]
        if end > start:
            overlaps = _iou(np.array(found[source]["bbox"]), boxes[start:end])
            overlap[position] = overlaps.max()
            match[position] = start + np.argmax(overlaps)
    result = []
    for threshold in _IOU_THRESHOLDS:
        hit = overlap > threshold
        # Of several detections of the same object, the first is a true positive, the others are
        # false.
        _, winners = np.unique(np.where(hit, match, -1), return_index=True)
        right = np.zeros(len(found), bool)
        right[winners] = True
        excused = np.zeros(len(found), bool)
        excused[hit] = difficult[match[hit]]
        right &= hit & ~excused
        correct = np.cumsum(right)
        wrong = np.cumsum(~right & ~excused)
        precision = correct / np.maximum(correct + wrong, np.finfo(np.float64).eps)
        result.append(average_precision(correct / num_objects, precision, dataset.year == 2007))
    return result


def _objects(
    dataset: VocDataset, index: int
) -> tuple[np.ndarray, np.ndarray, dict[str, tuple[int, int]]]:
    """A class's boxes [G, 4] with pixels from 1, difficult [G], and each image's range of these."""
    boxes: list[tuple[float, ...]] = []
    difficult: list[bool] = []
    ranges = {}
    for image in dataset.images:
        start = len(boxes)
        for item in image.objects:
            if item.class_index == index:
                x1, y1, x2, y2 = item.box
                boxes.append((x1 + 1, y1 + 1, x2, y2))
                difficult.append(item.difficult)
        ranges[image.id] = (start, len(boxes))
    return np.array(boxes).reshape(-1, 4), np.array(difficult, bool), ranges


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU [G] of boxes that include their last pixel."""
    corners = np.concatenate(
        [np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])], 1
    )
    intersection = _area(np.maximum(corners[:, 2:] - corners[:, :2] + 1, 0))
    areas = _area(boxes[:, 2:] - boxes[:, :2] + 1)
    return intersection / (_area(box[None, 2:] - box[None, :2] + 1) + areas - intersection)


def _area(sizes: np.ndarray) -> np.ndarray:
    return sizes[:, 0] * sizes[:, 1]
