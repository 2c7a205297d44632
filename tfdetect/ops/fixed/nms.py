"""Non-maximum suppression by repeatedly picking the best box."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfdetect.ops.boxes import corners_of, iou_of_corners
from tfdetect.ops.fixed.top_k import top_k_by_index
from tfdetect.ops.rotated_boxes import BOX_DIM as ROTATED
from tfdetect.ops.rotated_iou import iou_of_shapes, shapes_of

# A number, not a tensor: tf2onnx 1.17 loses tensors that a loop's condition captures.
_LOWEST = float("-inf")
# So many of the best boxes for each pick are looked at before all are.
_BEST = 10


def pick_greedily(
    boxes: tf.Tensor, scores: tf.Tensor, group_ids: tf.Tensor, iou_threshold: float, k: int
) -> tf.Tensor:
    """`best_after_nms` with static shapes: each pick suppresses the overlapping boxes of its group.

    The first k picks over all groups are the k best survivors. Each pick looks at some of the best
    boxes, and at all only where those have fewer than k survivors.

    Args:
        boxes: float32 [B, N, 4], or [B, N, 5] of rotated ones.
        scores: float32 [B, N]; negative infinity marks boxes that are not candidates.
        group_ids: int32 [B, N].
        iou_threshold: what float32 IoUs are compared with, itself a float32.
        k: how many.

    Returns:
        int32 [B, k], -1 where there are fewer.
    """
    few = _BEST * k
    if boxes.shape[1] <= 2 * few:
        return _pick(boxes, scores, group_ids, iou_threshold, k)
    best, order = top_k_by_index(scores, few)
    best_boxes, best_ids = (tf.gather(x, order, batch_dims=1) for x in (boxes, group_ids))
    picks = _pick(best_boxes, best, best_ids, iou_threshold, k)
    found = tf.where(picks < 0, -1, tf.gather(order, tf.maximum(picks, 0), batch_dims=1))
    enough = (picks[:, -1:] >= 0) | (best[:, -1:] == _LOWEST)
    # The loop over all ends at once where that was enough for every image.
    left = tf.where(enough, _LOWEST, scores)
    return tf.where(enough, found, _pick(boxes, left, group_ids, iou_threshold, k))


def _pick(
    boxes: tf.Tensor, scores: tf.Tensor, group_ids: tf.Tensor, iou_threshold: float, k: int
) -> tf.Tensor:
    """As `pick_greedily`, of all boxes at once."""
    is_rotated = boxes.shape[-1] == ROTATED
    shapes = shapes_of(boxes, tf.float32) if is_rotated else corners_of(boxes)
    iou: Callable[..., tf.Tensor] = iou_of_shapes if is_rotated else iou_of_corners
    positions = tf.range(boxes.shape[1])
    slots = tf.range(k)

    def of_pick(values: tf.Tensor, pick: tf.Tensor) -> tf.Tensor:
        return tf.gather(values, pick, batch_dims=1)[:, None]

    def step(slot: tf.Tensor, alive: tf.Tensor, picks: tf.Tensor):
        pick = tf.argmax(alive, 1, output_type=tf.int32)  # the first of equal ones
        found = of_pick(alive, pick) > _LOWEST
        picked = type(shapes)(*(of_pick(values, pick) for values in shapes))
        overlaps = iou(picked, shapes) > iou_threshold  # 0 / 0 is NaN: suppresses nothing
        same_group = of_pick(group_ids, pick) == group_ids
        gone = (overlaps & same_group) | (positions == pick[:, None])
        picks = tf.where((slots == slot) & found, pick[:, None], picks)
        return slot + 1, tf.where(gone, _LOWEST, alive), picks

    _, _, picks = tf.while_loop(
        lambda slot, alive, _: (slot < k) & tf.reduce_any(alive > _LOWEST),
        step,
        [tf.constant(0), scores, tf.fill([boxes.shape[0], k], -1)],
        parallel_iterations=1,
    )
    return picks
