"""Ground-truth masks given as bitmaps: their boxes and the mask head's targets from them."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.roi_align import roi_align


def crop_bitmasks(
    bitmasks: tf.Tensor, boxes: tf.Tensor, bitmask_indices: tf.Tensor, mask_size: int
) -> tf.Tensor:
    """The training targets of the mask head: what each box sees of its object.

    Args:
        bitmasks: bool [N, H, W], objects of one image.
        boxes: float32 [R, 4] XYXY in the bitmasks' pixels.
        bitmask_indices: int32 [R], the object of each box, in [0, N).
        mask_size: M, the side of a target.

    Returns:
        bool [R, M, M]: where at least half of what RoIAlign (aligned, adaptive sampling) gathers
        is set. A box that is empty or not finite sees nothing.

    Detectron2: `BitMasks.crop_and_resize`.
    """
    shares = roi_align(
        tf.cast(bitmasks, tf.float32)[..., None],
        boxes,
        bitmask_indices,
        mask_size,
        spatial_scale=1.0,
        sampling_ratio=0,
        aligned=True,
    )
    return shares[..., 0] >= 0.5


def bitmask_boxes(bitmasks: tf.Tensor) -> tf.Tensor:
    """Tight boxes around bitmasks, bool [N, H, W]: float32 [N, 4] XYXY, zeros for an empty one.

    Pixel (i, j) covers [j, j + 1] x [i, i + 1]. Detectron2: `BitMasks.get_bounding_boxes`.
    """
    x1, x2 = _extent(tf.reduce_any(bitmasks, axis=1))
    y1, y2 = _extent(tf.reduce_any(bitmasks, axis=2))
    return tf.cast(tf.stack([x1, y1, x2, y2], axis=1), tf.float32)


def _extent(used: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """First true position of each row of bool [N, L] and the one after the last; 0, 0 for none."""
    positions = tf.range(tf.shape(used)[1])
    end = tf.reduce_max(tf.where(used, positions + 1, 0), axis=1)
    start = tf.reduce_min(tf.where(used, positions, end[:, None]), axis=1)
    return start, tf.maximum(end, 0)
