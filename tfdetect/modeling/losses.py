"""Box regression losses, not normalised; that is left to the caller."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import tensorflow as tf

from tfdetect.modeling.registries import BOX_LOSSES
from tfdetect.ops.boxes import apply_deltas, get_deltas

Reduction = Literal["none", "sum"]

# Below it, smooth L1 is L1: its quadratic part would be narrower than float32 can tell.
_SMALLEST_BETA = 1e-5


def smooth_l1_loss(
    predictions: tf.Tensor, targets: tf.Tensor, beta: float, reduction: Reduction = "none"
) -> tf.Tensor:
    """Smooth L1 (Fast R-CNN, equation 3): quadratic below `beta`, linear with slope 1 above.

    Args:
        predictions, targets: float32 of one shape; box deltas.
        beta: where the two parts meet; below 1e-5 the loss is exactly L1, with gradient 0 at 0.
        reduction: "none" gives a loss per element, "sum" their sum.

    fvcore's `smooth_l1_loss`, as Detectron2 uses it.
    """
    distance = tf.abs(predictions - targets)
    if beta < _SMALLEST_BETA:
        return _reduce(distance, reduction)
    quadratic = 0.5 * distance**2 / beta
    return _reduce(tf.where(distance < beta, quadratic, distance - 0.5 * beta), reduction)


def giou_loss(
    predictions: tf.Tensor, targets: tf.Tensor, reduction: Reduction = "none", eps: float = 1e-7
) -> tf.Tensor:
    """1 - generalised IoU (Rezatofighi et al., 2019) of each predicted box and its target.

    Args:
        predictions, targets: float32 [..., 4] XYXY, in one frame; x1 <= x2 and y1 <= y2.
        reduction: "none" gives a loss per pair [...], in [0, 2]; "sum" their sum.
        eps: added to the divisors, so that boxes without area give finite losses and gradients.

    fvcore's `giou_loss`, as Detectron2 uses it.
    """
    overlap, union = _overlap_and_union(predictions, targets)
    hull = _area(*_hull(predictions, targets))
    giou = overlap / (union + eps) - (hull - union) / (hull + eps)
    return _reduce(1.0 - giou, reduction)


def diou_loss(
    predictions: tf.Tensor, targets: tf.Tensor, reduction: Reduction = "none", eps: float = 1e-7
) -> tf.Tensor:
    """1 - IoU + squared distance of the centres by that of the hull's corners (Zheng et al., 2020).

    Args:
        predictions, targets: float32 [..., 4] XYXY, in one frame; x1 <= x2 and y1 <= y2.
        reduction: "none" gives a loss per pair [...], in [0, 2]; "sum" their sum.
        eps: added to the divisors, so that boxes without area give finite losses.

    Detectron2: `diou_loss`.
    """
    overlap, union = _overlap_and_union(predictions, targets)
    loss = 1.0 - overlap / (union + eps) + _center_distance(predictions, targets, eps)
    return _reduce(loss, reduction)


def ciou_loss(
    predictions: tf.Tensor, targets: tf.Tensor, reduction: Reduction = "none", eps: float = 1e-7
) -> tf.Tensor:
    """`diou_loss` and a term for the difference of the aspect ratios (Zheng et al., 2020).

    The weight of that term depends on the boxes, but no gradient goes through it.

    Args:
        predictions, targets, reduction, eps: see `diou_loss`. A box of height 0 has no finite
            gradient, as in Detectron2.

    Detectron2: `ciou_loss`.
    """
    overlap, union = _overlap_and_union(predictions, targets)
    iou = overlap / (union + eps)
    angles = []
    for boxes in (predictions, targets):
        sides = boxes[..., 2:] - boxes[..., :2]
        angles.append(tf.atan(tf.divide(sides[..., 0], sides[..., 1])))
    aspect = 4.0 / math.pi**2 * (angles[1] - angles[0]) ** 2
    weight = tf.stop_gradient(aspect / (1.0 - iou + aspect + eps))
    loss = 1.0 - iou + _center_distance(predictions, targets, eps) + weight * aspect
    return _reduce(loss, reduction)


@BOX_LOSSES.register("smooth_l1")
def _smooth_l1(
    deltas: tf.Tensor,
    boxes: tf.Tensor,
    gt_boxes: tf.Tensor,
    weights: Sequence[float],
    beta: float,
) -> tf.Tensor:
    return smooth_l1_loss(deltas, get_deltas(boxes, gt_boxes, weights), beta, "sum")


def _register_loss_of_boxes(name: str, loss: Callable[..., tf.Tensor]) -> None:
    """Have `loss`, which compares boxes, compare those that the deltas give."""

    @BOX_LOSSES.register(name)
    def compare(
        deltas: tf.Tensor,
        boxes: tf.Tensor,
        gt_boxes: tf.Tensor,
        weights: Sequence[float],
        beta: float,
    ) -> tf.Tensor:
        del beta  # of smooth L1
        return loss(apply_deltas(deltas, boxes, weights), gt_boxes, "sum")


_register_loss_of_boxes("giou", giou_loss)
_register_loss_of_boxes("diou", diou_loss)
_register_loss_of_boxes("ciou", ciou_loss)


class BoxRegressionLoss:
    """The box regression loss, summed over boxes.

    Args:
        key: the configuration node that BBOX_REG_LOSS_TYPE is in, for errors.
        loss_type: "smooth_l1" compares deltas; "giou", "diou" and "ciou" the boxes that they give;
            or another one of `BOX_LOSSES`, called with (deltas, boxes, gt_boxes, weights, beta).
        beta: of smooth L1.
        weights: of the deltas, see `apply_deltas`.

    Detectron2: `_dense_box_regression_loss`.
    """

    def __init__(self, key: str, loss_type: str, beta: float, weights: Sequence[float]):
        self._key = key
        self._type = loss_type
        self._beta = beta
        self._weights = weights

    def __call__(self, deltas: tf.Tensor, boxes: tf.Tensor, gt_boxes: tf.Tensor) -> tf.Tensor:
        """The loss of float32 [N, 4] deltas, which refer to `boxes`, against `gt_boxes`.

        Raises:
            InputError: the type of loss is not supported. Only training needs one.
        """
        loss = BOX_LOSSES.get(f"{self._key}.BBOX_REG_LOSS_TYPE", self._type)
        return loss(deltas, boxes, gt_boxes, self._weights, self._beta)


def _overlap_and_union(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The areas [...] that boxes [..., 4] have in common and cover together."""
    overlap = _area(_maximum(a[..., :2], b[..., :2]), _minimum(a[..., 2:], b[..., 2:]))
    return overlap, _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - overlap


def _hull(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The corners [..., 2] of the smallest box around both."""
    return _minimum(a[..., :2], b[..., :2]), _maximum(a[..., 2:], b[..., 2:])


def _center_distance(a: tf.Tensor, b: tf.Tensor, eps: float) -> tf.Tensor:
    """Squared, as part of the squared diagonal of the hull; [...]."""
    top_left, bottom_right = _hull(a, b)
    between = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    diagonal = tf.reduce_sum((bottom_right - top_left) ** 2, -1)
    return tf.reduce_sum(between**2, -1) / (diagonal + eps)


def _area(top_left: tf.Tensor, bottom_right: tf.Tensor) -> tf.Tensor:
    """Areas [...] between corners [..., 2]; 0, and of gradient 0, where a side is not positive."""
    sides = bottom_right - top_left
    sides = tf.where(tf.reduce_all(sides > 0, axis=-1, keepdims=True), sides, 0.0)
    return sides[..., 0] * sides[..., 1]


# Where a coordinate of a prediction equals its target's (ground truth is among the proposals),
# PyTorch gives half of the gradient to each side, TensorFlow all of it to the first argument.
def _maximum(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return 0.5 * (tf.maximum(a, b) + tf.maximum(b, a))


def _minimum(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return 0.5 * (tf.minimum(a, b) + tf.minimum(b, a))


def _reduce(losses: tf.Tensor, reduction: Reduction) -> tf.Tensor:
    return tf.reduce_sum(losses) if reduction == "sum" else losses
