"""Semantic segmentation's mean IoU, with the numbers of Detectron2's SemSegEvaluator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_codec

from tfdetect.data.class_names import distinct_names
from tfdetect.data.sem_seg import UNLABELLED
from tfdetect.errors import InputError
from tfdetect.evaluation.table import format_metrics
from tfdetect.masks.rle import encode_mask

METRICS = ("mIoU", "fwIoU", "mACC", "pACC")
"""Mean IoU, IoU weighted by how frequent a class is, mean accuracy of classes, of pixels."""


def to_results(
    sem_seg: np.ndarray, image_id: int | str, stuff_ids: Sequence[int], path: Any
) -> list[dict[str, Any]]:
    """One image's classes in COCO's stuff form, as Detectron2's `encode_json_sem_seg` makes them.

    Args:
        sem_seg: int [height, width], the class of each pixel of the original image.
        image_id: the image's id in the data set.
        stuff_ids: the data set's category id of each class.
        path: the annotations, for messages.

    Returns:
        For each class present: image_id, category_id and segmentation (RLE).

    Raises:
        InputError: a class has no category id, so the data set does not match the model.
    """
    classes = np.unique(sem_seg).tolist()
    if classes[-1] >= len(stuff_ids):
        raise InputError(
            f"{path}: has {len(stuff_ids)} classes of stuff, the model more: name annotations with"
            " the classes that the model was trained on"
        )
    return [
        {
            "image_id": image_id,
            "category_id": stuff_ids[index],
            "segmentation": encode_mask(sem_seg == index),
        }
        for index in classes
    ]


def evaluate(
    truth: Mapping[int | str, Callable[[], np.ndarray]],
    results: Sequence[Mapping[str, Any]],
    category_ids: Sequence[int],
    class_names: Sequence[str],
    ignore_value: int = UNLABELLED,
) -> dict[str, dict[str, float]]:
    """The metrics of `SemSegEvaluator` (those of boundaries aside).

    Args:
        truth: reads the classes [H, W] of an image's pixels, by its id.
        results: the records of `to_results`; images without any are left out.
        category_ids: of each class, as in the results.
        class_names: of each class.
        ignore_value: of pixels of the truth that do not count.

    Returns:
        {"sem_seg": `METRICS`, `IoU-NAME` and `ACC-NAME` of each class}, in percent; NaN for a class
        that the ground truth does not have.

    Raises:
        InputError: a PNG of the ground truth cannot be used.
    """
    num_classes = len(class_names)
    classes = {category: index for index, category in enumerate(category_ids)}
    by_image: dict[int | str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_image.setdefault(result["image_id"], []).append(result)
    confusion = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for index, read in truth.items():
        if index not in by_image:
            continue
        labels = read().astype(np.int32)
        labels[labels == ignore_value] = num_classes
        predicted = np.zeros_like(labels)
        for result in by_image[index]:
            mask = mask_codec.decode(result["segmentation"]).astype(bool)
            predicted[mask] = classes[result["category_id"]]
        confusion += confusion_matrix(predicted, labels, num_classes)
    names = distinct_names(class_names, category_ids)
    return {"sem_seg": metrics_of(confusion, names)}


def format_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """What `evaluate` returned, as two tables in plain text."""
    return format_metrics(metrics, METRICS, "IoU")


def confusion_matrix(predicted: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels by predicted (row) and true (column) class.

    Args:
        predicted: int [H, W], in [0, num_classes).
        truth: int [H, W], in [0, num_classes), or more where nothing is labelled.

    Returns:
        int64 [num_classes + 1, num_classes + 1]; the last column has the unlabelled pixels.
    """
    size = num_classes + 1
    pairs = predicted.astype(np.int64) * size + np.minimum(truth, num_classes)
    return np.bincount(pairs.ravel(), minlength=size**2).reshape(size, size)


def metrics_of(confusion: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """What `evaluate` gives, from the sum of `confusion_matrix` over all images.

    As in Detectron2, predictions on unlabelled pixels do not count.
    """
    labelled = confusion[:-1, :-1].astype(np.float64)
    correct, true, predicted = labelled.diagonal(), labelled.sum(axis=0), labelled.sum(axis=1)
    there = true > 0
    iou, accuracy = np.full((2, len(true)), math.nan)
    iou[there] = correct[there] / (true + predicted - correct)[there]
    accuracy[there] = correct[there] / true[there]
    values = dict.fromkeys(METRICS, math.nan)
    if there.any():
        values["mIoU"] = iou[there].mean()
        values["fwIoU"] = (iou[there] * true[there]).sum() / true.sum()
        values["mACC"] = accuracy[there].mean()
        values["pACC"] = correct.sum() / true.sum()
    values |= {f"IoU-{name}": value for name, value in zip(class_names, iou, strict=True)}
    values |= {f"ACC-{name}": value for name, value in zip(class_names, accuracy, strict=True)}
    return {name: 100 * float(value) for name, value in values.items()}
