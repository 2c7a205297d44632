"""How detections are compared with recorded ones; used by the tests and by parity_report.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from pycocotools import mask as mask_codec


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of float64 [N, 4] with [M, 4] boxes: [N, M]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.maximum(high - low, 0).prod(2)
    area = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return inter / np.maximum(area[0][:, None] + area[1][None] - inter, 1e-12)


@dataclass
class Differences:
    """What was found over all images that were compared."""

    expected: int = 0
    matched: int = 0
    extra: int = 0
    score: float = 0.0  # largest difference of the scores of a pair
    box: float = 0.0  # largest difference of a coordinate, in pixels of the original image
    mask_ious: list[float] = field(default_factory=list)
    mask_pixels: int = 0  # most pixels in which the masks of a pair differ
    keypoints: list[float] = field(default_factory=list)  # distances, in pixels
    unmatched: list[str] = field(default_factory=list)


def compare(
    found: Sequence[Mapping[str, Any]],
    recorded: Sequence[Mapping[str, Any]],
    *,
    iou: float,
    score: float,
    least_score: float = 0.051,
) -> Differences:
    """Match the records of each image: one of the same class, at an IoU and score this close.

    Args:
        found, recorded: records as predict.py --json writes them, in the same order; a recorded
            mask of None is not compared.
        iou: the least overlap of a pair.
        score: the largest difference of scores of a pair.
        least_score: recorded detections from here on must be found, and found ones from here on
            must have been recorded. (A little above the model's own threshold, so that none is
            lost for lying on the other side of it.)
    """
    total = Differences()
    for image, expected in zip(found, recorded, strict=True):
        assert image["file_name"] == expected["file_name"]
        assert (image["height"], image["width"]) == (expected["height"], expected["width"])
        _compare_image(total, image, expected, iou, score, least_score)
    return total


def _compare_image(
    total: Differences,
    found: Mapping[str, Any],
    recorded: Mapping[str, Any],
    iou: float,
    score: float,
    least_score: float,
) -> None:
    boxes = [np.array(r["pred_boxes"], np.float64).reshape(-1, 4) for r in (found, recorded)]
    scores = [np.array(r["scores"], np.float64) for r in (found, recorded)]
    classes = [np.array(r["pred_classes"]) for r in (found, recorded)]
    close = (
        (pairwise_iou(*boxes) > iou)
        & (classes[0][:, None] == classes[1][None])
        & (np.abs(scores[0][:, None] - scores[1][None]) <= score)
    )
    free = np.ones(len(scores[0]), bool)
    for index in range(len(scores[1])):
        wanted = scores[1][index] > least_score
        total.expected += int(wanted)
        candidates = np.flatnonzero(close[:, index] & free)
        if not len(candidates):
            if wanted:
                total.unmatched.append(
                    f"{recorded['file_name']}: class {classes[1][index]} {scores[1][index]:.5f} "
                    f"{boxes[1][index].tolist()}"
                )
            continue
        partner = candidates[np.argmin(np.abs(scores[0][candidates] - scores[1][index]))]
        free[partner] = False
        if not wanted:
            continue
        total.matched += 1
        total.score = max(total.score, abs(scores[0][partner] - scores[1][index]))
        total.box = max(total.box, np.abs(boxes[0][partner] - boxes[1][index]).max())
        if "pred_masks" in recorded and recorded["pred_masks"][index] is not None:
            pair = [r["pred_masks"][i] for r, i in ((found, partner), (recorded, index))]
            total.mask_ious.append(_mask_iou(*pair))
            total.mask_pixels = max(total.mask_pixels, _different_pixels(*pair))
        if "pred_keypoints" in recorded:
            points = [
                np.array(r["pred_keypoints"][i])[:, :2]
                for r, i in ((found, partner), (recorded, index))
            ]
            total.keypoints += np.linalg.norm(points[0] - points[1], axis=1).tolist()
    total.extra += int((free & (scores[0] > least_score)).sum())


def _encoded(*masks: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(mask, counts=mask["counts"].encode()) for mask in masks]


def _different_pixels(a: Mapping[str, Any], b: Mapping[str, Any]) -> int:
    first, second = _encoded(a, b)
    both = mask_codec.merge([first, second], intersect=True)
    areas = [int(mask_codec.area(mask)) for mask in (first, second, both)]
    return areas[0] + areas[1] - 2 * areas[2]


def _mask_iou(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    a, b = _encoded(a, b)
    if mask_codec.area(a) == mask_codec.area(b) == 0:
        return 1.0
    return float(mask_codec.iou([a], [b], [0])[0, 0])


def transposed_types(graph: tf.Graph) -> set[tf.DType]:
    """The types of what `tf.transpose` is applied to in a graph and the functions that it calls."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    return {tf.as_dtype(node.attr["T"].type) for node in nodes if node.op == "Transpose"}
