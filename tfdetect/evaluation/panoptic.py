"""Panoptic quality (Kirillov et al., 2019), with the numbers of COCO's panopticapi.

panopticapi is on no package index, so its definition is computed here;
tests/evaluation compares with what it gives.
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tfdetect.data.class_names import distinct_names
from tfdetect.data.panoptic import (
    PanopticDataset,
    PanopticImage,
    read_segment_ids,
    segment_colors,
    segment_ids,
)
from tfdetect.detections import PanopticSegmentation
from tfdetect.errors import InputError
from tfdetect.evaluation.table import format_metrics
from tfdetect.files import write_bytes_atomically, write_json

METRICS = ("PQ", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th", "PQ_st", "SQ_st", "RQ_st")
"""Panoptic, segmentation and recognition quality, of all classes, of things and of stuff."""

_VOID = 0


def to_result(
    found: PanopticSegmentation, dataset: PanopticDataset, image: PanopticImage
) -> dict[str, Any]:
    """One image's panoptic segmentation in COCO's form, as Detectron2's evaluator makes it.

    Args:
        found: of the original image's size, in the model's classes.
        dataset: what `tfdetect.data.panoptic.read_panoptic` read.
        image: the image that this is of.

    Returns:
        image_id, file_name, segments_info (id and the data set's category_id, of segments with
        a pixel), and the PNG as `png`, bytes.

    Raises:
        InputError: a class has no category id, so the data set does not match the model.
    """
    present = set(np.unique(found.ids).tolist())
    segments = []
    for segment in found.segments:
        categories = dataset.thing_ids if segment.isthing else dataset.stuff_ids
        if segment.category_id >= len(categories):
            raise InputError(
                f"{dataset.path}: has {len(categories)} categories of"
                f" {'things' if segment.isthing else 'stuff'}, the model more: give annotations"
                " with the classes that the model was trained on"
            )
        if segment.id in present:
            segments.append({"id": segment.id, "category_id": categories[segment.category_id]})
    # OpenCV has the channels the other way round.
    _, png = cv2.imencode(".png", segment_colors(found.ids)[:, :, ::-1])
    return {
        "image_id": image.id,
        "file_name": Path(image.file_name).with_suffix(".png").name,
        "segments_info": segments,
        "png": png.tobytes(),
    }


def write_results(folder: Path, results: Sequence[Mapping[str, Any]]) -> Path:
    """Write COCO's result files: `panoptic.json` and the PNGs in `panoptic/`. Returns the former.

    Raises:
        InputError: the folder cannot be written.
    """
    for result in results:
        write_bytes_atomically(folder / "panoptic" / result["file_name"], result["png"])
    records = [{key: result[key] for key in result if key != "png"} for result in results]
    write_json(folder / "panoptic.json", {"annotations": records})
    return folder / "panoptic.json"


def evaluate(
    dataset: PanopticDataset, results: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """Panoptic quality, of each category and its mean.

    A predicted segment is right if it overlaps one of the ground truth's, of its category, by an
    IoU above 0.5, unlabelled pixels aside. An unmatched segment is not a false positive if more
    than half of it is unlabelled or belongs to a crowd of its category.

    Args:
        dataset: what `tfdetect.data.panoptic.read_panoptic` read.
        results: of `to_result`, one per image; an image without one counts as one where nothing
            was found.

    Returns:
        {"panoptic_seg": `METRICS`, and `PQ-NAME` of each category}, in percent. A category that is
        neither present nor predicted is NaN and not part of the means.

    Raises:
        InputError: a PNG of the ground truth cannot be used; a result's image is not in the data
            set.
    """
    found = {result["image_id"]: result for result in results}
    unknown = set(found) - {image.id for image in dataset.images}
    if unknown:
        raise InputError(
            f"{dataset.path}: has no image with id {min(unknown)}, give its annotations"
        )
    counts: dict[int, _Counts] = defaultdict(_Counts)
    for image in dataset.images:
        _count(image, found.get(image.id), counts)
    qualities = {
        category: counts[category].qualities() for category in sorted(dataset.category_names)
    }
    metrics = {}
    groups = {"": list(qualities), "_th": dataset.thing_ids, "_st": dataset.stuff_ids[1:]}
    for suffix, group in groups.items():
        known = [qualities[category] for category in group]
        known = [quality for quality in known if not math.isnan(quality[0])]
        means = np.mean(known, axis=0) if known else [math.nan] * 3
        for name, value in zip(("PQ", "SQ", "RQ"), means, strict=True):
            metrics[f"{name}{suffix}"] = 100 * float(value)
    names = distinct_names([dataset.category_names[index] for index in qualities], list(qualities))
    for name, (quality, _, _) in zip(names, qualities.values(), strict=True):
        metrics[f"PQ-{name}"] = 100 * quality
    return {"panoptic_seg": metrics}


def format_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """What `evaluate` returned, as two tables in plain text."""
    return format_metrics(metrics, METRICS, "PQ")


@dataclass
class _Counts:
    """Of one category: matches, the sum of their IoUs, false positives and false negatives."""

    matched: int = 0
    iou: float = 0.0
    wrong: int = 0
    missed: int = 0

    def qualities(self) -> tuple[float, float, float]:
        """Panoptic, segmentation and recognition quality in [0, 1]."""
        total = self.matched + 0.5 * self.wrong + 0.5 * self.missed
        if total == 0:
            return math.nan, math.nan, math.nan
        return self.iou / total, self.iou / max(self.matched, 1), self.matched / total


def _count(
    image: PanopticImage, result: Mapping[str, Any] | None, counts: dict[int, _Counts]
) -> None:
    """Add one image to the categories' counts."""
    truth = read_segment_ids(image)
    predicted = np.zeros_like(truth)
    categories: dict[int, int] = {}
    if result is not None:
        predicted = segment_ids(np.asarray(Image.open(io.BytesIO(result["png"]))))
        categories = {entry["id"]: entry["category_id"] for entry in result["segments_info"]}
    areas = dict(zip(*np.unique(predicted, return_counts=True), strict=True))
    pairs, sizes = np.unique(truth * 256**3 + predicted, return_counts=True)
    overlaps = {divmod(int(pair), 256**3): int(n) for pair, n in zip(pairs, sizes, strict=True)}
    segments = {segment.id: segment for segment in image.segments}
    matched_truth, matched = set(), set()
    for (true_id, found_id), overlap in overlaps.items():
        segment = segments.get(true_id)
        if segment is None or segment.iscrowd or categories.get(found_id) != segment.category_id:
            continue
        unlabelled = overlaps.get((_VOID, found_id), 0)
        iou = overlap / (int(areas[found_id]) + segment.area - overlap - unlabelled)
        if iou > 0.5:
            counts[segment.category_id].matched += 1
            counts[segment.category_id].iou += iou
            matched_truth.add(true_id)
            matched.add(found_id)
    # Of two crowds of a category only the last counts, as in panopticapi.
    crowds = {segment.category_id: segment.id for segment in image.segments if segment.iscrowd}
    for segment in image.segments:
        if not segment.iscrowd and segment.id not in matched_truth:
            counts[segment.category_id].missed += 1
    for found_id, category in categories.items():
        if found_id in matched:
            continue
        excused = overlaps.get((_VOID, found_id), 0)
        if category in crowds:
            excused += overlaps.get((crowds[category], found_id), 0)
        if excused / int(areas[found_id]) <= 0.5:
            counts[category].wrong += 1
