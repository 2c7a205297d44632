"""Intersection over union of rotated boxes.

The boundary of one box, integrated within the other: an area that changes with the boxes as
continuously in floating point as on paper. Detectron2 sorts the corners of the intersection and the
crossings of edges in float32 instead, and finds them by comparisons that rounding decides: of boxes
that coincide to the last bits it gives 1/3, 2/3 or 2 (instead of 1), of slivers anything from -4e6
to infinity. Where its value does not jump when a coordinate moves by half an ulp, the two agree
within 1e-5, but for slivers a million times as long as wide.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.boxes import all_finite

# Pairs that the portable form computes at a time; it bounds the memory.
_PAIRS = 2**18
# Boxes of less area, and those without a longer squared diagonal, overlap nothing (Detectron2's
# limits); both in square pixels.
_LEAST_AREA = 1e-14
_LEAST_DIAGONAL = 1e-8
# Radians of a degree, to Detectron2's digits: at 1e6 degrees it differs from pi / 180.
_RADIANS = 0.01745329251
# Part of the smaller box below which an intersection is rounding.
_LEAST_PART = {tf.float64: 1e-9, tf.float32: 1e-6}


def pairwise_iou_rotated(boxes1: tf.Tensor, boxes2: tf.Tensor) -> tf.Tensor:
    """Intersection over union of every pair of rotated boxes, computed in float64.

    Detectron2's function of this name, where that is well-defined (see above).

    Args:
        boxes1, boxes2: float32 [N, 5] and [M, 5], in one frame.

    Returns:
        float32 [N, M] in [0, 1]. 0 for a box of an area below 1e-14 (of one negative length, too),
        of a diagonal of at most 1e-4, or with a NaN or infinite number.
    """
    boxes1, boxes2 = tf.cast(boxes1, tf.float32), tf.cast(boxes2, tf.float32)
    backend = current_backend()
    if backend.native:
        return kernels.library().tfdetect_box_iou_rotated(boxes1=boxes1, boxes2=boxes2)
    if backend.fixed_shapes:
        return iou_of_pairs(boxes1[:, None], boxes2[None], tf.float32)
    count, others = tf.shape(boxes1)[0], tf.shape(boxes2)[0]
    step = tf.maximum(_PAIRS // tf.maximum(count, 1), 1)
    starts = tf.range(0, tf.maximum(others, 1), step)
    columns = tf.map_fn(
        lambda start: _padded(
            iou_of_pairs(boxes1[:, None], boxes2[None, start : start + step]), step
        ),
        starts,
        fn_output_signature=tf.TensorSpec([None, None], tf.float32),
        parallel_iterations=1,
    )
    return tf.reshape(tf.transpose(columns, [1, 0, 2]), [count, -1])[:, :others]


def _padded(values: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    return tf.pad(values, [[0, 0], [0, width - tf.shape(values)[1]]])


def iou_of_pairs(boxes1: tf.Tensor, boxes2: tf.Tensor, dtype: tf.DType = tf.float64) -> tf.Tensor:
    """`pairwise_iou_rotated` of boxes [..., 5] of shapes that broadcast, without native operators.

    Args:
        dtype: of the computation; with float32 it is within 1e-5 of the result in float64.

    Returns:
        float32 [...].
    """
    return iou_of_shapes(shapes_of(boxes1, dtype), shapes_of(boxes2, dtype))


class Shapes(NamedTuple):
    """What the IoU is computed from: `usable` bool, the rest float32 or float64, all [...]."""

    usable: tf.Tensor
    x: tf.Tensor
    y: tf.Tensor
    half_width: tf.Tensor
    half_height: tf.Tensor
    cos: tf.Tensor
    sin: tf.Tensor
    area: tf.Tensor


def shapes_of(boxes: tf.Tensor, dtype: tf.DType = tf.float64) -> Shapes:
    """Of float32 boxes [..., 5]."""
    width, height = boxes[..., 2], boxes[..., 3]
    usable = all_finite(boxes) & (width * height >= _LEAST_AREA)
    usable &= width * width + height * height > _LEAST_DIAGONAL
    boxes = tf.cast(tf.where(usable[..., None], boxes, 0.0), dtype)
    # Of two negative lengths the area is positive: the box is as large.
    half_width, half_height = (tf.abs(boxes[..., i]) * 0.5 for i in (2, 3))
    theta = boxes[..., 4] * _RADIANS
    area = 4.0 * half_width * half_height
    center = boxes[..., 0], boxes[..., 1]
    return Shapes(usable, *center, half_width, half_height, tf.cos(theta), tf.sin(theta), area)


def iou_of_shapes(first: Shapes, second: Shapes) -> tf.Tensor:
    """`iou_of_pairs`, where one is compared with others again and again."""
    usable = first.usable & second.usable
    smaller = tf.minimum(first.area, second.area)
    shared = tf.minimum(_intersection(first, second), smaller)
    usable &= shared > _LEAST_PART[smaller.dtype] * smaller
    union = tf.where(usable, first.area + second.area - shared, 1.0)
    return tf.cast(tf.where(usable, shared / union, 0.0), tf.float32)


def _intersection(first: Shapes, second: Shapes) -> tf.Tensor:
    """The areas that two boxes share: integrals of the first's boundary, in the second's frame.

    There the second is [-a, a] x [-b, b], and what is shared is the integral over x in [-a, a] of
    the first's upper boundary, limited to [-b, b], minus that of its lower one.
    """
    dx, dy = first.x - second.x, first.y - second.y
    u = dx * second.cos - dy * second.sin
    v = dx * second.sin + dy * second.cos
    cos = first.cos * second.cos + first.sin * second.sin
    sin = first.sin * second.cos - first.cos * second.sin
    # Half of the first's sides, in this frame.
    width_x, width_y = cos * first.half_width, -sin * first.half_width
    height_x, height_y = sin * first.half_height, cos * first.half_height
    corners = [
        (u + i * width_x + j * height_x, v + i * width_y + j * height_y)
        for i, j in ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
    ]
    a, b = second.half_width, second.half_height
    edges = zip(corners, [*corners[1:], corners[0]], strict=True)
    return tf.abs(tf.add_n([_under_edge(*start, *end, a, b) for start, end in edges]))


def _under_edge(
    x0: tf.Tensor, y0: tf.Tensor, x1: tf.Tensor, y1: tf.Tensor, a: tf.Tensor, b: tf.Tensor
) -> tf.Tensor:
    """The integral from x0 to x1, within [-a, a], of the edge's y limited to [-b, b]."""
    begin, end = (tf.clip_by_value(x, -a, a) for x in (x0, x1))
    run = x1 - x0
    slope = tf.math.divide_no_nan(y1 - y0, run)
    y_begin, y_end = y0 + (begin - x0) * slope, y1 + (end - x1) * slope
    low, high = tf.minimum(y_begin, y_end), tf.maximum(y_begin, y_end)
    low_within, high_within = (tf.clip_by_value(y, -b, b) for y in (low, high))
    above = tf.maximum(high - tf.maximum(low, b), 0.0)
    below = tf.maximum(tf.minimum(high, -b) - low, 0.0)
    within = (high_within - low_within) * (high_within + low_within) * 0.5
    rise = high - low
    mean = tf.where(rise > 0, tf.math.divide_no_nan(b * (above - below) + within, rise), low_within)
    return (end - begin) * mean
