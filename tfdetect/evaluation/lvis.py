"""LVIS's average precision (Gupta et al., 2019), with the numbers of Detectron2's LVISEvaluator.

The package `lvis` that Detectron2 uses calls `numpy.float`, which NumPy has no more since 1.24, and
installs a second OpenCV over this project's, so its definition is computed here, with pycocotools'
overlaps. tests/evaluation compares with what the package gives.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as mask_codec

from tfdetect.data.lvis import FREQUENCIES, LvisDataset, LvisImage
from tfdetect.errors import InputError
from tfdetect.evaluation.table import format_metrics, percent

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
"""Over IoUs from 0.5 to 0.95; by the object's area; of rare, common and frequent categories."""

MAX_DETECTIONS = 300
"""Of an image; those of lower scores do not count."""

_IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALL_THRESHOLDS = np.linspace(0, 1, 101)
# All, small, medium, large; in pixels of area, both bounds included.
_AREA_RANGES = [(0, 1e5**2), (0, 32**2), (32**2, 96**2), (96**2, 1e5**2)]


def evaluate(
    dataset: LvisDataset, results: Sequence[Mapping[str, Any]], tasks: Collection[str]
) -> dict[str, dict[str, float]]:
    """The metrics of Detectron2's `LVISEvaluator`.

    A detection counts only in images where its category was annotated or known to be absent; where
    a category is not annotated exhaustively, an unmatched detection is not a false positive.

    Args:
        dataset: what `tfdetect.data.lvis.read_lvis` read.
        results: the records of `tfdetect.evaluation.coco.to_results`, of all images.
        tasks: of "bbox" and "segm".

    Returns:
        By task, sorted, each of `METRICS` in percent; NaN where there is no ground truth or no
        result at all.

    Raises:
        InputError: as `check`; a result's image is not in the data set; LVIS has no such task.
    """
    check(dataset)
    if not set(tasks) <= {"bbox", "segm"}:
        raise InputError(f"{dataset.path}: LVIS evaluates boxes and masks, not {', '.join(tasks)}")
    images = {image.id: image for image in dataset.images}
    unknown = next((r["image_id"] for r in results if r["image_id"] not in images), None)
    if unknown is not None:
        raise InputError(f"{dataset.path}: has no image with id {unknown}, give its annotations")
    if not results:
        return {task: dict.fromkeys(METRICS, math.nan) for task in sorted(tasks)}
    limited = _limit(results)
    return {task: _evaluate_task(dataset, images, limited, task) for task in sorted(tasks)}


def check(dataset: LvisDataset) -> None:
    """Check that `evaluate` will be able to compute its metrics, before there are any results.

    Raises:
        InputError: the data set has no annotations, or no frequencies of categories.
    """
    if dataset.annotations is None:
        raise InputError(f"{dataset.path}: has no 'annotations', give a file with the ground truth")
    if dataset.frequencies is None:
        raise InputError(f"{dataset.path}: a category has no 'frequency', which APr, APc, APf need")


def format_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """What `evaluate` returned, as a table in plain text."""
    return format_metrics(metrics, METRICS, "AP")


@dataclass(frozen=True, eq=False)
class _Matches:
    """D detections of one image and category, best first, and G objects, by area range.

    Attributes:
        scores: [D].
        hits: bool [A, T, D], whether the detection found an object at the IoU threshold.
        ignored: bool [A, T, D], whether it counts neither for nor against.
        num_objects: [A], the objects that count.
    """

    scores: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    num_objects: np.ndarray


def _limit(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The best `MAX_DETECTIONS` of each image."""
    by_image = defaultdict(list)
    for result in results:
        by_image[result["image_id"]].append(result)
    return [
        result
        for group in by_image.values()
        for result in sorted(group, key=lambda result: -result["score"])[:MAX_DETECTIONS]
    ]


def _evaluate_task(
    dataset: LvisDataset,
    images: Mapping[int, LvisImage],
    results: Sequence[Mapping[str, Any]],
    task: str,
) -> dict[str, float]:
    # By category, then image; both sorted, so that equal scores keep the package's order.
    objects: dict[int, dict[int, list]] = defaultdict(lambda: defaultdict(list))
    found: dict[int, dict[int, list]] = defaultdict(lambda: defaultdict(list))
    for entry in dataset.annotations or ():
        # The package leaves out what has no area, of objects and of detections.
        if entry["area"] > 0 and entry["image_id"] in images:
            region = entry["bbox"] if task == "bbox" else _rle(entry, images[entry["image_id"]])
            objects[entry["category_id"]][entry["image_id"]].append((region, entry["area"]))
    for result in results:
        category, image = result["category_id"], result["image_id"]
        known = category in images[image].neg_category_ids or image in objects.get(category, ())
        region = result["bbox"] if task == "bbox" else result["segmentation"]
        area = region[2] * region[3] if task == "bbox" else mask_codec.area(region)
        if known and area > 0:
            found[category][image].append((region, area, result["score"]))
    shape = (len(_IOU_THRESHOLDS), len(_RECALL_THRESHOLDS), len(dataset.category_ids))
    precision = np.full((*shape, len(_AREA_RANGES)), -1.0)
    for index, category in enumerate(dataset.category_ids):
        matches = [
            _match(
                found[category].get(image, []),
                objects[category].get(image, []),
                category not in images[image].not_exhaustive_category_ids,
            )
            for image in sorted({*objects[category], *found[category]})
        ]
        for area in range(len(_AREA_RANGES)):
            curve = _precision_curve(matches, area)
            if curve is not None:
                precision[:, :, index, area] = curve
    by_frequency = [np.array(dataset.frequencies) == frequency for frequency in FREQUENCIES]
    parts = [
        precision[..., 0],
        precision[0, ..., 0],
        precision[5, ..., 0],
        *(precision[..., area] for area in (1, 2, 3)),
        *(precision[:, :, chosen, 0] for chosen in by_frequency),
    ]
    return {name: _mean(part) for name, part in zip(METRICS, parts, strict=True)}


def _rle(entry: Mapping[str, Any], image: LvisImage) -> dict[str, Any]:
    segmentation = entry["segmentation"]
    rle = segmentation
    if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
        rle = mask_codec.frPyObjects(segmentation, image.height, image.width)
    return mask_codec.merge(rle) if isinstance(rle, list) else rle


def _match(found: list, objects: list, exhaustive: bool) -> _Matches:
    """Match each detection, best first, to the unmatched object that it overlaps most.

    Args:
        found: (region, area, score) of each detection.
        objects: (region, area) of each object.
        exhaustive: whether all objects of the category are marked in the image.
    """
    found = sorted(found, key=lambda item: -item[2])
    areas = np.array([item[1] for item in found])
    object_areas = np.array([item[1] for item in objects])
    shape = (len(_AREA_RANGES), len(_IOU_THRESHOLDS), len(found))
    hits, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    num_objects = np.zeros(len(_AREA_RANGES), np.int64)
    overlaps = np.zeros((len(found), len(objects)))
    if found and objects:
        regions = [item[0] for item in found], [item[0] for item in objects]
        overlaps = mask_codec.iou(*regions, [0] * len(objects))
    for index, (low, high) in enumerate(_AREA_RANGES):
        outside = (object_areas < low) | (object_areas > high)
        num_objects[index] = np.count_nonzero(~outside)
        if objects:
            hits[index], ignored[index] = _assign(overlaps, outside)
        excused = (areas < low) | (areas > high) if exhaustive else np.ones(len(found), bool)
        ignored[index] |= ~hits[index] & excused
    return _Matches(np.array([item[2] for item in found]), hits, ignored, num_objects)


def _assign(overlaps: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bool [T, D] twice: whether a detection found an object, and whether one of `outside`."""
    shape = (len(_IOU_THRESHOLDS), len(overlaps))
    hits, to_outside = np.zeros(shape, bool), np.zeros(shape, bool)
    free = np.ones((len(_IOU_THRESHOLDS), len(outside)), bool)
    rows = np.arange(len(_IOU_THRESHOLDS))
    for index, overlap in enumerate(overlaps):
        candidates = free & (overlap >= _IOU_THRESHOLDS[:, None])
        counting = candidates & ~outside
        # An object that does not count is taken only where no other is left.
        candidates = np.where(counting.any(axis=1, keepdims=True), counting, candidates)
        # The last of equals, as the package has it.
        best = len(outside) - 1 - np.argmax(np.where(candidates, overlap, -1)[:, ::-1], axis=1)
        hit = candidates.any(axis=1)
        hits[:, index] = hit
        to_outside[:, index] = hit & outside[best]
        free[rows[hit], best[hit]] = False
    return hits, to_outside


def _precision_curve(matches: Sequence[_Matches], area: int) -> np.ndarray | None:
    """Precision [T, R] at each recall, or None where no object counts."""
    num_objects = sum(int(match.num_objects[area]) for match in matches)
    if num_objects == 0:
        return None
    order = np.argsort(-np.concatenate([match.scores for match in matches]), kind="stable")
    hits = np.concatenate([match.hits[area] for match in matches], axis=1)[:, order]
    counts = ~np.concatenate([match.ignored[area] for match in matches], axis=1)[:, order]
    right = np.cumsum(hits & counts, axis=1, dtype=np.float64)
    wrong = np.cumsum(~hits & counts, axis=1, dtype=np.float64)
    precision = right / (right + wrong + np.spacing(1))
    # Falling: at each recall the best precision at that recall or higher.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.pad(precision, ((0, 0), (0, 1)))
    return np.stack(
        [
            row[np.searchsorted(recall, _RECALL_THRESHOLDS)]
            for row, recall in zip(precision, right / num_objects, strict=True)
        ]
    )


def _mean(precision: np.ndarray) -> float:
    reached = precision[precision > -1]
    return percent(np.mean(reached) if reached.size else -1)
