"""Reorders a model's class outputs to the order of another data set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from yacs.config import CfgNode

_BOX_CLASSES = re.compile(r"roi_heads\.box_predictor(\.\d+)?\.cls_score\.(weight|bias)")
_BOX_DELTAS = re.compile(r"roi_heads\.box_predictor(\.\d+)?\.bbox_pred\.(weight|bias)")
_MASKS = re.compile(r"roi_heads\.mask_head\.predictor\.(weight|bias)")
_COARSE_MASKS = re.compile(r"roi_heads\.mask_head\.coarse_head\.prediction\.(weight|bias)")
_POINT_HEAD = re.compile(r"roi_heads\.mask_head\.point_head\.(fc\d+|predictor)\.(weight|bias)")
_POINT_PARAMETERS = re.compile(r"roi_heads\.mask_head\.parameter_head\.prediction\.(weight|bias)")
_STUFF = re.compile(r"sem_seg_head\.(?:coarse_sem_seg_head\.)?predictor\.(weight|bias)")
_STUFF_POINT_HEAD = re.compile(r"sem_seg_head\.point_head\.(fc\d+|predictor)\.(weight|bias)")
_RETINANET_CLASSES = re.compile(r"head\.cls_score\.(weight|bias)")


def reorder_classes(
    arrays: Mapping[str, np.ndarray], order: Sequence[int], cfg: CfgNode
) -> dict[str, np.ndarray]:
    """The arrays of an R-CNN or a RetinaNet for classes in another order.

    Args:
        arrays: by Detectron2's names, in this project's layout: outputs are the last axis.
        order: of each of the K classes which one of the arrays' K classes it is.
        cfg: the configuration of the model that they are of.

    Returns:
        The arrays; those that do not depend on the class are as they were.
    """
    return {name: _reorder(name, array, np.asarray(order), cfg) for name, array in arrays.items()}


def reorder_stuff(
    arrays: Mapping[str, np.ndarray], order: Sequence[int], cfg: CfgNode
) -> dict[str, np.ndarray]:
    """As `reorder_classes`, for the classes of a semantic head."""

    def reordered(name: str, array: np.ndarray) -> np.ndarray:
        if _STUFF.fullmatch(name):
            return array[..., np.asarray(order)]
        match = _STUFF_POINT_HEAD.fullmatch(name)
        if match is None:
            return array
        return _reorder_point_layer(array, np.asarray(order), cfg, *match.groups())

    return {name: reordered(name, array) for name, array in arrays.items()}


def _reorder(name: str, array: np.ndarray, order: np.ndarray, cfg: CfgNode) -> np.ndarray:
    count, size = len(order), array.shape[-1] if array.ndim else 0
    if _BOX_CLASSES.fullmatch(name) and size == count + 1:  # the background comes last
        return array[..., [*order, count]]
    if _BOX_DELTAS.fullmatch(name) and size in (4 * count, 5 * count):  # of each class
        return array.reshape(*array.shape[:-1], count, -1)[..., order, :].reshape(array.shape)
    if _MASKS.fullmatch(name) and size == count:
        return array[..., order]
    if _COARSE_MASKS.fullmatch(name) and size % count == 0:  # a mask of each class
        return array.reshape(*array.shape[:-1], count, -1)[..., order, :].reshape(array.shape)
    if match := _POINT_HEAD.fullmatch(name):
        return _reorder_point_layer(array, order, cfg, *match.groups())
    if _POINT_PARAMETERS.fullmatch(name):
        return _reorder_point_parameters(array, order, cfg)
    if _RETINANET_CLASSES.fullmatch(name) and size % count == 0:  # of each anchor
        return array.reshape(*array.shape[:-1], -1, count)[..., order].reshape(array.shape)
    return array


def _reorder_point_layer(
    array: np.ndarray, order: np.ndarray, cfg: CfgNode, layer: str, parameter: str
) -> np.ndarray:
    """A layer of a `StandardPointHead`: coarse predictions come in last, logits come out."""
    array = array.copy()
    is_given_coarse = layer == "fc1" or cfg.MODEL.POINT_HEAD.COARSE_PRED_EACH_LAYER
    if parameter == "weight" and is_given_coarse:
        array[:, -len(order) :] = array[:, -len(order) :][:, order]
    if layer == "predictor" and not cfg.MODEL.POINT_HEAD.CLS_AGNOSTIC_MASK:
        array = array[..., order]
    return array


def _reorder_point_parameters(array: np.ndarray, order: np.ndarray, cfg: CfgNode) -> np.ndarray:
    """What predicts the parameters of an `ImplicitPointHead`, see there for their order."""
    head, count = cfg.MODEL.POINT_HEAD, len(order)
    if head.CLS_AGNOSTIC_MASK:
        return array
    array = array.copy()
    biases = head.FC_DIM * head.NUM_FC + count
    weights = array[..., -biases - count * head.FC_DIM : -biases]  # of the last layer
    shape = (*array.shape[:-1], count, head.FC_DIM)
    weights[...] = weights.reshape(shape)[..., order, :].reshape(weights.shape)
    array[..., -count:] = array[..., -count:][..., order]
    return array
