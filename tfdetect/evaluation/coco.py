"""COCO's average precision of detections, with the semantics of Detectron2's COCOEvaluator."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tfdetect.data.class_names import distinct_names
from tfdetect.data.coco import CocoDataset, ground_truth
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.rotated import RotatedCOCOeval
from tfdetect.evaluation.table import format_metrics, percent

METRICS = {
    "bbox": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "keypoints": ("AP", "AP50", "AP75", "APm", "APl"),
    "segm": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
}
"""Each task's metrics, in the order of COCOeval's stats."""


def to_results(
    detections: Detections, image_id: int | str, category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """COCO result records, as made by Detectron2's `instances_to_coco_json` and evaluator.

    Args:
        detections: N detections of one image, in pixels of the original image.
        image_id: the image's id in the data set.
        category_ids: the data set's category id of each class of the model, None for a class that
            the data set does not have.

    Returns:
        A record of each detection whose class has a category id: image_id, category_id, bbox (x,
        y, width, height; of rotated boxes the five numbers of `Detections`), score, and where
        there are any, segmentation (RLE, `counts` a string) and keypoints (x, y, score of each,
        flat; COCO counts in pixel indices, so x and y are `keypoint_offset` less). Nothing is
        rounded.

    Raises:
        InputError: a class has no category id, so the data set does not match the model.
    """
    largest = int(detections.classes.max(initial=-1))
    if largest >= len(category_ids):
        raise InputError(
            f"the model predicts class {largest} but the annotations have {len(category_ids)}"
            " categories: give annotations with the classes that the model was trained on"
        )
    boxes = detections.boxes
    if not detections.rotated:
        extent = boxes[:, 2:] - boxes[:, :2] + detections.box_extent
        boxes = np.concatenate([boxes[:, :2], extent], axis=1)
    scores = detections.scores.tolist()
    classes = detections.classes.tolist()
    results: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "category_id": category_ids[index],
            "bbox": box,
            "score": score,
        }
        for index, box, score in zip(classes, boxes.tolist(), scores, strict=True)
    ]
    masks = detections.rle_masks
    if masks is not None:
        for result, rle in zip(results, masks.to_coco(), strict=True):
            result["segmentation"] = rle
    if detections.keypoints is not None:
        offset = detections.keypoint_offset
        shift = np.array([offset, offset, 0.0], np.float32)
        for result, keypoints in zip(results, detections.keypoints, strict=True):
            result["keypoints"] = (keypoints - shift).ravel().tolist()
    return [result for result in results if result["category_id"] is not None]


def evaluate(
    dataset: CocoDataset,
    results: Sequence[Mapping[str, Any]],
    tasks: Collection[str],
    keypoint_oks_sigmas: Sequence[float] = (),
    *,
    rotated: bool = False,
) -> dict[str, dict[str, float]]:
    """The metrics that Detectron2's `COCOEvaluator` gives, by pycocotools.

    At most 100 detections of an image and class count (20 for keypoints), over all images of
    the data set, those without a result included. Small and large are determined by the box for
    bbox and keypoints, and by the mask for segm.

    Args:
        dataset: what `tfdetect.data.coco.read_coco` read.
        results: the records of `to_results`, of all images.
        tasks: of "bbox", "segm" and "keypoints".
        keypoint_oks_sigmas: one per keypoint, the config's TEST.KEYPOINT_OKS_SIGMAS; where empty,
            those of COCO's 17.
        rotated: whether boxes are rotated (Detectron2's `RotatedCOCOEvaluator`).

    Returns:
        By task, sorted, each metric in percent (NaN where there is no ground truth or no result
        at all): `METRICS`, then `AP-NAME` of each category where there are two or more, of equal
        names `AP-NAME (id ID)`.

    Raises:
        InputError: as `check`; a result's image is not in the data set.
    """
    known = {image.id for image in dataset.images}
    unknown = next((r["image_id"] for r in results if r["image_id"] not in known), None)
    if unknown is not None:
        raise InputError(f"{dataset.path}: has no image with id {unknown}, give its annotations")
    expected = len(keypoint_oks_sigmas) or 17
    annotations = check(dataset, tasks, expected, _num_keypoints(results), rotated=rotated)
    if not results:
        return {task: dict.fromkeys(METRICS[task], math.nan) for task in sorted(tasks)}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _ground_truth(dataset, annotations)
        return {
            task: _evaluate_task(dataset, truth, results, task, keypoint_oks_sigmas, rotated)
            for task in sorted(tasks)
        }


def missing_ground_truth(dataset: CocoDataset, tasks: Collection[str]) -> dict[str, str]:
    """The tasks for which no annotation has what they need, and the name of that field."""
    annotations = dataset.annotations
    if not annotations:
        return {}
    fields = {"segm": "segmentation", "keypoints": "keypoints"}
    return {
        task: field
        for task, field in fields.items()
        if task in tasks and not any(entry.get(field) for entry in annotations)
    }


def check_oks_sigmas(sigmas: Sequence[float]) -> None:
    """Raise an InputError unless all of TEST.KEYPOINT_OKS_SIGMAS can be divided by."""
    for sigma in sigmas:
        # NaN fails the comparison.
        if isinstance(sigma, bool) or not isinstance(sigma, (int, float)) or not 0 < sigma < 1e6:
            raise InputError(
                f"TEST.KEYPOINT_OKS_SIGMAS: {sigma!r} is not a number above 0; give one per"
                " keypoint, such as 0.05"
            )


def check(
    dataset: CocoDataset,
    tasks: Collection[str],
    num_keypoints: int,
    num_predicted: int | None = None,
    report: Callable[[InputError], None] | None = None,
    *,
    rotated: bool = False,
) -> list[dict[str, Any]]:
    """Check that `evaluate` will be able to compute its metrics, before there are any results.

    Args:
        dataset: what `tfdetect.data.coco.read_coco` read.
        tasks: of "bbox", "segm", "keypoints" and "box_proposals".
        num_keypoints: for how many there are OKS sigmas.
        num_predicted: how many keypoints the model predicts; None where that is not known.
        report, rotated: of `tfdetect.data.coco.ground_truth`.

    Returns:
        `ground_truth`'s.

    Raises:
        InputError: the data set has no annotations, or lacks what a task needs; the numbers of
            keypoints disagree.
    """
    if dataset.annotations is None:
        raise InputError(f"{dataset.path}: has no 'annotations', give a file with the ground truth")
    if "keypoints" in tasks and num_predicted not in (None, num_keypoints):
        raise InputError(
            f"TEST.KEYPOINT_OKS_SIGMAS: is for {num_keypoints} keypoints, but the model predicts"
            f" {num_predicted}; give a number for each"
        )
    if rotated and "box_proposals" in tasks:
        raise InputError(
            f"{dataset.path}: the recall of rotated proposals is not measured; evaluate a model"
            " with RROIHeads"
        )
    return ground_truth(dataset, tasks, num_keypoints, report, rotated=rotated)


def _num_keypoints(results: Sequence[Mapping[str, Any]]) -> int | None:
    return len(results[0]["keypoints"]) // 3 if results and "keypoints" in results[0] else None


def _ground_truth(dataset: CocoDataset, annotations: list[dict[str, Any]]) -> COCO:
    truth = COCO()
    truth.dataset = {
        "images": [vars(image) for image in dataset.images],
        "categories": [
            {"id": index, "name": name}
            for index, name in zip(dataset.category_ids, dataset.category_names, strict=True)
        ],
        "annotations": annotations,
    }
    truth.createIndex()
    return truth


def _evaluate_task(
    dataset: CocoDataset,
    truth: COCO,
    results: Sequence[Mapping[str, Any]],
    task: str,
    keypoint_oks_sigmas: Sequence[float],
    rotated: bool,
) -> dict[str, float]:
    # Where a result has a box, pycocotools takes the box's area for the mask's.
    unused = {"bbox"} if task == "segm" else set()
    predicted = truth.loadRes(
        [{key: result[key] for key in result if key not in unused} for result in results]
    )
    evaluation = (RotatedCOCOeval if rotated else COCOeval)(truth, predicted, task)
    if task == "keypoints" and keypoint_oks_sigmas:
        evaluation.params.kpt_oks_sigmas = np.array(keypoint_oks_sigmas)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metrics = {
        name: percent(value) for name, value in zip(METRICS[task], evaluation.stats, strict=False)
    }
    if len(dataset.category_names) > 1:
        # [IoU, recall, category, area range (the first is all), limit of detections]
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        names = distinct_names(dataset.category_names, dataset.category_ids)
        for index, name in enumerate(names):
            reached = precision[:, :, index]
            reached = reached[reached > -1]
            metrics[f"AP-{name}"] = percent(np.mean(reached) if reached.size else -1)
    return metrics


def format_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """What `evaluate` returned, as two tables in plain text: by task, and by category.

    A dash marks a metric that a task does not have, or that cannot be computed.
    """
    return format_metrics(metrics, METRICS["bbox"], "AP")
