"""Non-maximum suppression within groups, and a top-k that orders as PyTorch's does."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.boxes import all_finite
from tfdetect.ops.fixed.nms import pick_greedily

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
    return _portable_nms(boxes, tf.convert_to_tensor(scores), group_ids, iou_threshold)


def _portable_nms(
    boxes: tf.Tensor, scores: tf.Tensor, group_ids: tf.Tensor, iou_threshold: float
) -> tf.Tensor:
    candidate = (
        (group_ids >= 0)
        & tf.reduce_all(tf.math.is_finite(boxes), 1)
        & tf.logical_not(tf.math.is_nan(scores))
    )
    # Candidates only, by group and within it by descending score: two stable sorts.
    order = tf.cast(tf.where(candidate)[:, 0], tf.int32)
    by_score = tf.argsort(-tf.gather(scores, order), stable=True)
    order = tf.gather(order, by_score)
    order = tf.gather(order, tf.argsort(tf.gather(group_ids, order), stable=True))
    kept = _suppress_sorted(tf.gather(boxes, order), tf.gather(group_ids, order), iou_threshold)
    kept_indices = tf.boolean_mask(order, kept)
    return tf.scatter_nd(
        kept_indices[:, None], tf.ones_like(kept_indices, tf.bool), tf.shape(scores)
    )


def _suppress_sorted(boxes: tf.Tensor, groups: tf.Tensor, iou_threshold: float) -> tf.Tensor:
    """NMS of boxes that are sorted by group and within it by score: a mask of the kept ones."""
    threshold = _float32_threshold(iou_threshold)
    count = tf.shape(boxes)[0]
    x1, y1, x2, y2 = tf.unstack(boxes, axis=1)
    area = (x2 - x1) * (y2 - y1)

    def step(start: tf.Tensor, alive: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        stop = tf.minimum(start + _BLOCK, count)
        # The block can suppress within itself and to the end of the last group that it touches.
        end = tf.searchsorted(groups, groups[stop - 1 : stop], side="right")[0]

        def overlap(coordinate_low: tf.Tensor, coordinate_high: tf.Tensor) -> tf.Tensor:
            low = tf.maximum(coordinate_low[start:stop, None], coordinate_low[None, start:end])
            high = tf.minimum(coordinate_high[start:stop, None], coordinate_high[None, start:end])
            return tf.maximum(high - low, 0.0)

        intersection = overlap(x1, x2) * overlap(y1, y2)
        union = area[start:stop, None] + area[None, start:end] - intersection
        index = tf.range(end - start)
        suppresses = (
            (intersection / union > threshold)  # 0 / 0 is NaN, and NaN suppresses nothing
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


def best_after_nms(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    group_ids: tf.Tensor,
    iou_threshold: float,
    k: int | tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The best k of each image that `batched_nms` keeps, by descending score, equal scores by
    index.

    Args:
        boxes: float32 [B, N, 4].
        scores: float32 [B, N]; negative infinity marks boxes that are not candidates.
        group_ids: int32 [B, N], not negative; only boxes of a group suppress each other.
        iou_threshold: see `batched_nms`.
        k: how many; may exceed N. A number where shapes are to be known.

    Returns:
        Their indices int32 [B, k], 0 where there are fewer, and how many there are, int32 [B].
    """
    lowest = tf.constant(float("-inf"))
    if current_backend().fixed_shapes:
        usable = all_finite(boxes) & ~tf.math.is_nan(scores)
        scores = tf.where(usable, scores, lowest)
        threshold = float(_float32_threshold(iou_threshold))
        indices = pick_greedily(boxes, scores, group_ids, threshold, k)
        used = indices >= 0
    else:
        batch, count = tf.unstack(tf.shape(scores))
        group_ids += tf.range(batch)[:, None] * (tf.reduce_max(group_ids) + 1)
        keep = batched_nms(
            tf.reshape(boxes, [-1, 4]),
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
        values: float32 [..., N]; k may exceed N, then all N are given.

    Returns:
        values [..., min(k, N)], NaN where they were, and their int32 indices.
    """
    k = tf.minimum(k, tf.shape(values)[-1])
    key = tf.where(tf.math.is_nan(values), tf.constant(float("inf"), values.dtype), values)
    _, indices = tf.math.top_k(key, k)
    return tf.gather(values, indices, batch_dims=len(values.shape) - 1), indices
