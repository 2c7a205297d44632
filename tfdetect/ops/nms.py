"""Non-maximum suppression within groups, and a top-k that orders as PyTorch's does."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.boxes import all_finite, corners_of, iou_of_corners
from tfdetect.ops.fixed.nms import pick_greedily
from tfdetect.ops.fixed.top_k import top_k_by_index
from tfdetect.ops.rotated_boxes import BOX_DIM as ROTATED
from tfdetect.ops.rotated_iou import iou_of_shapes, shapes_of
from tfdetect.ops.shared_function import shared_function

# Candidates looked at together in the portable form. The IoU matrix of a step has this many rows
# and as many columns as what is left of the group.
_BLOCK = 256


def batched_nms(
    boxes: tf.Tensor, scores: tf.Tensor, group_ids: tf.Tensor, iou_threshold: float
) -> tf.Tensor:
    """Greedy NMS within each group (image and class, or image and FPN level).

    A box is suppressed if its IoU with an earlier kept box of its group is strictly greater than
    the threshold; the IoU is float32, the threshold float64, as in torchvision. Boxes are ordered
    by descending score, equal scores by index. The semantics are those of the loop form of
    torchvision's `batched_nms`; its other form, which offsets the boxes of each group and thereby
    rounds the coordinates, is not reproduced.

    Args:
        boxes: float32 [N, 4].
        scores: float32 [N].
        group_ids: int32 [N]; a negative id marks boxes that are not candidates.
        iou_threshold: between 0 and 1.

    Returns:
        bool [N], True for kept boxes. Never True for a negative group id, for a score that is
        NaN or for a box with a NaN or infinite coordinate.
    """
    boxes = tf.convert_to_tensor(boxes)
    if current_backend().native:
        return kernels.library().tfdetect_nms(
            boxes=boxes, scores=scores, group_ids=group_ids, iou_threshold=iou_threshold
        )
    return _portable_nms(boxes, scores, group_ids, _float32_threshold(iou_threshold))


def batched_nms_rotated(
    boxes: tf.Tensor, scores: tf.Tensor, group_ids: tf.Tensor, iou_threshold: float
) -> tf.Tensor:
    """`batched_nms` of rotated boxes: Detectron2's function of this name, on the CPU.

    An earlier box suppresses one whose IoU with it is as large as the threshold, or larger.
    (Detectron2's CUDA version, like every NMS of horizontal boxes, has "larger" only.) The angle
    does not matter beyond the region that it gives. Boxes of all groups are moved apart before
    their IoU is computed, see `separate_groups`.

    Args:
        boxes: float32 [N, 5] of one image.
        scores, group_ids, iou_threshold: see `batched_nms`.

    Returns:
        As `batched_nms`.
    """
    candidate = _candidates(boxes, scores, group_ids)
    separate = separate_groups(boxes[None], group_ids[None], candidate[None])[0]
    return _nms_rotated(separate, scores, group_ids, iou_threshold)


def separate_groups(boxes: tf.Tensor, group_ids: tf.Tensor, usable: tf.Tensor) -> tf.Tensor:
    """Rotated boxes, those of each group moved beyond those of the one before.

    Groups are told apart by their ids here; but Detectron2's rotated NMS has only this, and the
    moved coordinates are rounded, to 1/16 pixel at 1e6. So that boxes are kept where it keeps them.

    Args:
        boxes: float32 [B, N, 5].
        group_ids: int32 [B, N].
        usable: bool [B, N], which boxes there are.

    Returns:
        float32 [B, N, 5]; boxes that are not usable are anything.
    """
    half = tf.reduce_max(boxes[..., 2:4], -1) / 2.0
    high = tf.where(usable, tf.reduce_max(boxes[..., :2], -1) + half, -float("inf"))
    low = tf.where(usable, tf.reduce_min(boxes[..., :2], -1) - half, float("inf"))
    reach = tf.reduce_max(high, 1, keepdims=True) - tf.reduce_min(low, 1, keepdims=True)
    offsets = tf.cast(group_ids, tf.float32) * (reach + 1.0)
    return tf.concat([boxes[..., :2] + offsets[..., None], boxes[..., 2:]], -1)


def _nms_rotated(
    boxes: tf.Tensor, scores: tf.Tensor, group_ids: tf.Tensor, iou_threshold: float
) -> tf.Tensor:
    if current_backend().native:
        return kernels.library().tfdetect_nms_rotated(
            boxes=boxes, scores=scores, group_ids=group_ids, iou_threshold=iou_threshold
        )
    return _portable_nms(boxes, scores, group_ids, _float32_below(iou_threshold))


def _candidates(boxes: tf.Tensor, scores: tf.Tensor, group_ids: tf.Tensor) -> tf.Tensor:
    return (group_ids >= 0) & all_finite(boxes) & ~tf.math.is_nan(scores)


def _portable_nms(
    boxes: tf.Tensor, scores: tf.Tensor, group_ids: tf.Tensor, threshold: np.float32
) -> tf.Tensor:
    boxes, scores, group_ids = (tf.convert_to_tensor(t) for t in (boxes, scores, group_ids))
    nms = _portable_function(boxes.shape[-1])
    kept = nms(boxes, scores, tf.cast(group_ids, tf.int32), tf.constant(threshold))
    kept.set_shape(scores.shape)
    return kept


@functools.cache
def _portable_function(box_dim: int) -> Callable[..., tf.Tensor]:
    """`_nms_by_blocks` of boxes of so many numbers."""
    signature = [
        tf.TensorSpec([None, box_dim]),
        tf.TensorSpec([None]),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([]),
    ]
    return shared_function(_nms_by_blocks, signature)


def _nms_by_blocks(
    boxes: tf.Tensor, scores: tf.Tensor, group_ids: tf.Tensor, threshold: tf.Tensor
) -> tf.Tensor:
    # Candidates only, by group and within it by descending score: two stable sorts.
    order = tf.cast(tf.where(_candidates(boxes, scores, group_ids))[:, 0], tf.int32)
    by_score = tf.argsort(-tf.gather(scores, order), stable=True)
    order = tf.gather(order, by_score)
    order = tf.gather(order, tf.argsort(tf.gather(group_ids, order), stable=True))
    kept = _suppress_sorted(tf.gather(boxes, order), tf.gather(group_ids, order), threshold)
    kept_indices = tf.boolean_mask(order, kept)
    return tf.scatter_nd(
        kept_indices[:, None], tf.ones_like(kept_indices, tf.bool), tf.shape(scores)
    )


def _suppress_sorted(boxes: tf.Tensor, groups: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """NMS of boxes that are sorted by group and within it by score: a mask of the kept ones."""
    count = tf.shape(boxes)[0]
    is_rotated = boxes.shape[-1] == ROTATED
    shapes = shapes_of(boxes) if is_rotated else corners_of(boxes)
    iou: Callable[..., tf.Tensor] = iou_of_shapes if is_rotated else iou_of_corners

    def step(start: tf.Tensor, alive: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        stop = tf.minimum(start + _BLOCK, count)
        # The block can suppress within itself and to the end of the last group that it touches.
        end = tf.searchsorted(groups, groups[stop - 1 : stop], side="right")[0]
        block = type(shapes)(*(values[start:stop, None] for values in shapes))
        others = type(shapes)(*(values[None, start:end] for values in shapes))
        index = tf.range(end - start)
        suppresses = (
            (iou(block, others) > threshold)  # 0 / 0 is NaN, and NaN suppresses nothing
            & (groups[start:stop, None] == groups[None, start:end])
            & (index[: stop - start, None] < index[None, :])
        )
        within = suppresses[:, : stop - start]
        candidates = alive[start:stop]

        # Greedy suppression is the fixed point of "kept unless a kept earlier one suppresses me";
        # the first t boxes are right after t rounds, and most blocks settle in a few.
        def refine(keep: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            new = candidates & ~tf.reduce_any(within & keep[:, None], 0)
            return new, tf.reduce_any(new != keep)

        keep, _ = tf.while_loop(lambda _, changed: changed, refine, [candidates, tf.constant(True)])
        hit = tf.reduce_any(suppresses[:, stop - start :] & keep[:, None], 0)
        alive = tf.concat([alive[:start], keep, alive[stop:end] & ~hit, alive[end:]], 0)
        return stop, alive

    _, alive = tf.while_loop(
        lambda start, _: start < count,
        step,
        [tf.constant(0), tf.ones([count], tf.bool)],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
    )
    return alive


def _float32_threshold(iou_threshold: float) -> np.float32:
    """The greatest float32 up to the threshold: what a float32 exceeds if it exceeds that."""
    threshold = np.float32(iou_threshold)
    if float(threshold) > iou_threshold:
        threshold = np.nextafter(threshold, np.float32(-1))
    return threshold


def _float32_below(iou_threshold: float) -> np.float32:
    """The greatest float32 below the threshold: what a float32 exceeds that is at least that."""
    threshold = np.float32(iou_threshold)
    if float(threshold) >= iou_threshold:
        threshold = np.nextafter(threshold, np.float32(-1))
    return threshold


def best_after_nms(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    group_ids: tf.Tensor,
    iou_threshold: float,
    k: int | tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The best k of each image that NMS keeps, by descending score, equal scores by index.

    Args:
        boxes: float32 [B, N, 4], for `batched_nms`, or [B, N, 5], for `batched_nms_rotated`.
        scores: float32 [B, N]; negative infinity marks boxes that are not candidates.
        group_ids: int32 [B, N], not negative; only boxes of a group suppress each other.
        iou_threshold: see `batched_nms`.
        k: how many; may exceed N. A number where shapes are to be known.

    Returns:
        Their indices int32 [B, k], 0 where there are fewer, and how many there are, int32 [B].
    """
    lowest = tf.constant(float("-inf"))
    usable = all_finite(boxes) & ~tf.math.is_nan(scores)
    scores = tf.where(usable, scores, lowest)
    is_rotated = boxes.shape[-1] == ROTATED
    if is_rotated:
        boxes = separate_groups(boxes, group_ids, scores > lowest)
    if current_backend().fixed_shapes:
        below = (_float32_below if is_rotated else _float32_threshold)(iou_threshold)
        indices = pick_greedily(boxes, scores, group_ids, float(below), k)
        used = indices >= 0
    else:
        batch, count = tf.unstack(tf.shape(scores))
        group_ids += tf.range(batch)[:, None] * (tf.reduce_max(group_ids) + 1)
        keep = (_nms_rotated if is_rotated else batched_nms)(
            tf.reshape(boxes, [-1, boxes.shape[-1]]),
            tf.reshape(scores, [-1]),
            tf.reshape(tf.where(scores > lowest, group_ids, -1), [-1]),
            iou_threshold,
        )
        ranked = tf.where(tf.reshape(keep, [batch, count]), scores, lowest)
        padding = tf.maximum(k - count, 0)
        ranked = tf.pad(ranked, [[0, 0], [0, padding]], constant_values=lowest)
        values, indices = tf.math.top_k(ranked, k)
        used = values > lowest
    return tf.where(used, indices, 0), tf.reduce_sum(tf.cast(used, tf.int32), 1)


def top_k(values: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
    """The k largest values along the last axis, sorted; NaN counts as largest, as in `torch.topk`.

    PyTorch does not say in which order equal values come; here it is by index.

    Args:
        values: float32 [..., N], or [B, N] with `Backend.fixed_shapes`; k may exceed N, then all
            N are given.

    Returns:
        values [..., min(k, N)], NaN where they were, and their int32 indices.
    """
    key = tf.where(tf.math.is_nan(values), tf.constant(float("inf"), values.dtype), values)
    if current_backend().fixed_shapes:
        _, indices = top_k_by_index(key, min(k, values.shape[-1]))
    else:
        _, indices = tf.math.top_k(key, tf.minimum(k, tf.shape(values)[-1]))
    return tf.gather(values, indices, batch_dims=len(values.shape) - 1), indices
