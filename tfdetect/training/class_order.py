"""Reorders a model's class outputs to the order of another data set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

_BOX_CLASSES = re.compile(r"roi_heads\.box_predictor(\.\d+)?\.cls_score\.(weight|bias)")
_BOX_DELTAS = re.compile(r"roi_heads\.box_predictor(\.\d+)?\.bbox_pred\.(weight|bias)")
_MASKS = re.compile(r"roi_heads\.mask_head\.predictor\.(weight|bias)")
_STUFF = re.compile(r"sem_seg_head\.predictor\.(weight|bias)")
_RETINANET_CLASSES = re.compile(r"head\.cls_score\.(weight|bias)")


def reorder_classes(
    arrays: Mapping[str, np.ndarray], order: Sequence[int]
) -> dict[str, np.ndarray]:
    """The arrays of an R-CNN or a RetinaNet for classes in another order.

    Args:
        arrays: by Detectron2's names, in this project's layout: outputs are the last axis.
        order: of each of the K classes which one of the arrays' K classes it is.

    Returns:
        The arrays; those that do not depend on the class are as they were.
    """
    return {name: _reorder(name, array, np.asarray(order)) for name, array in arrays.items()}


def reorder_stuff(arrays: Mapping[str, np.ndarray], order: Sequence[int]) -> dict[str, np.ndarray]:
    """As `reorder_classes`, for the classes of a semantic head."""
    return {
        name: array[..., np.asarray(order)] if _STUFF.fullmatch(name) else array
        for name, array in arrays.items()
    }


def _reorder(name: str, array: np.ndarray, order: np.ndarray) -> np.ndarray:
    count, size = len(order), array.shape[-1] if array.ndim else 0
    if _BOX_CLASSES.fullmatch(name) and size == count + 1:  # the background comes last
        return array[..., [*order, count]]
    if _BOX_DELTAS.fullmatch(name) and size in (4 * count, 5 * count):  # of each class
        return array.reshape(*array.shape[:-1], count, -1)[..., order, :].reshape(array.shape)
    if _MASKS.fullmatch(name) and size == count:
        return array[..., order]
    if _RETINANET_CLASSES.fullmatch(name) and size % count == 0:  # of each anchor
        return array.reshape(*array.shape[:-1], -1, count)[..., order].reshape(array.shape)
    return array
