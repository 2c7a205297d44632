"""Non-maximum suppression by repeatedly picking the best box."""

from __future__ import annotations

import tensorflow as tf

# A number, not a tensor: tf2onnx 1.17 loses tensors that a loop's condition captures.
_LOWEST = float("-inf")


def pick_greedily(
    boxes: tf.Tensor, scores: tf.Tensor, group_ids: tf.Tensor, iou_threshold: float, k: int
) -> tf.Tensor:
    """`best_after_nms` with static shapes: each pick suppresses the overlapping boxes of its group.

    The first k picks over all groups are the k best survivors, so no sorting is needed; each pick
    looks at every box once.

    Args:
        boxes: float32 [B, N, 4].
        scores: float32 [B, N]; negative infinity marks boxes that are not candidates.
        group_ids: int32 [B, N].
        iou_threshold: what float32 IoUs are compared with, itself a float32.
        k: how many.

    Returns:
        int32 [B, k], -1 where there are fewer.
    """
    x1, y1, x2, y2 = tf.unstack(boxes, axis=2)
    area = (x2 - x1) * (y2 - y1)
    positions = tf.range(boxes.shape[1])
    slots = tf.range(k)

    def of_pick(values: tf.Tensor, pick: tf.Tensor) -> tf.Tensor:
        return tf.gather(values, pick, batch_dims=1)[:, None]

    def step(slot: tf.Tensor, alive: tf.Tensor, picks: tf.Tensor):
        pick = tf.argmax(alive, 1, output_type=tf.int32)  # the first of equal ones
        found = of_pick(alive, pick) > _LOWEST
        width = tf.minimum(of_pick(x2, pick), x2) - tf.maximum(of_pick(x1, pick), x1)
        height = tf.minimum(of_pick(y2, pick), y2) - tf.maximum(of_pick(y1, pick), y1)
        intersection = tf.maximum(width, 0.0) * tf.maximum(height, 0.0)
        union = of_pick(area, pick) + area - intersection
        overlaps = intersection / union > iou_threshold  # 0 / 0 is NaN: suppresses nothing
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
