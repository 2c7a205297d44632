"""RoIPool (Fast R-CNN, section 2.1), as torchvision's and so Detectron2's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.division import divide
from tfdetect.ops.roi_align import pool_by_level

# Regions treated together in the portable form, which read as many pixels of a bin as the largest
# of them has.
_CHUNK = 64
# Boxes are cut off at this many feature-map pixels from the origin: far beyond any map, and all
# whole numbers up to it are exact in float32.
_FARTHEST = 2.0**20
# Up to this many, of which a side of a feature map has fewer.
_TABULATED = 4096


def roi_pool(
    features: tf.Tensor,
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sizes: tf.Tensor | None = None,
) -> tf.Tensor:
    """Pool each box to the largest feature-map pixels of its bins (`torchvision.ops.roi_pool`).

    A box is rounded to whole feature-map pixels, of which it has at least one each way. The
    gradient goes to the first of the largest pixels of a bin; `boxes` have none. A bin without
    pixels is zero, and so is all of a box with a NaN or infinite coordinate.

    Args:
        features: [B, H, W, C], float32, bfloat16 or float16.
        boxes: float32 [R, 4] XYXY in pixels of the network's input image.
        box_indices: int32 [R], the image of each box, in [0, B).
        output_size: bins, (height, width) or one number for both.
        spatial_scale: feature-map pixels per input pixel (1 / stride).
        sizes: int32 [B, 2], how many rows and columns at the top left are each image's own: its
            map ends there, and what lies beyond is not read. None: all of them.

    Returns:
        [R, bins high, bins wide, C] in the type of `features`.
    """
    return roi_pool_levels(
        [features],
        boxes,
        box_indices,
        tf.zeros_like(box_indices, tf.int32),
        output_size,
        [spatial_scale],
        [sizes],
    )


def roi_pool_levels(
    features: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor,
    output_size: int | tuple[int, int],
    spatial_scales: Sequence[float],
    sizes: Sequence[tf.Tensor | None] | None = None,
) -> tf.Tensor:
    """`roi_pool` of each box from one of several maps.

    Args:
        features: [B, H, W, C] of each level; of the same type and number of channels.
        boxes, box_indices, output_size: see `roi_pool`.
        levels: int32 [R], the map of each box, an index into `features`.
        spatial_scales: of each level.
        sizes: of each level, or None.

    Returns:
        [R, bins high, bins wide, C] in the type of `features`.
    """
    bins = (output_size, output_size) if isinstance(output_size, int) else output_size
    boxes = tf.cast(boxes, tf.float32)
    box_indices, levels = tf.cast(box_indices, tf.int32), tf.cast(levels, tf.int32)
    sizes = [None] * len(features) if sizes is None else sizes
    if not current_backend().native:
        return _portable(features, boxes, box_indices, levels, bins, spatial_scales, sizes)

    def pool(level: int, boxes: tf.Tensor, box_indices: tf.Tensor) -> tf.Tensor:
        own = sizes[level]
        pooled, _ = kernels.library().tfdetect_roi_pool(
            features=features[level],
            boxes=boxes,
            box_indices=box_indices,
            sizes=tf.zeros([0, 2], tf.int32) if own is None else own,
            pooled_height=bins[0],
            pooled_width=bins[1],
            spatial_scale=spatial_scales[level],
        )
        return pooled

    return pool_by_level(pool, len(features), boxes, box_indices, levels)


def _portable(
    features: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor,
    bins: tuple[int, int],
    scales: Sequence[float],
    sizes: Sequence[tf.Tensor | None],
) -> tf.Tensor:
    """Also of the fixed shapes that XLA, LiteRT and ONNX need, where those of the inputs are."""
    shapes = [tf.shape(feature) for feature in features]
    locations = tf.concat([tf.reshape(f, [-1, f.shape[3]]) for f in features], 0)
    counts = tf.stack([tf.reduce_prod(shape[:3]) for shape in shapes])
    height_width = tf.gather(tf.stack([shape[1:3] for shape in shapes]), levels)  # [R, 2]
    first = tf.gather(tf.cumsum(counts, exclusive=True), levels)
    first += box_indices * height_width[:, 0] * height_width[:, 1]
    own = height_width
    if any(size is not None for size in sizes):
        batch = shapes[0][0]
        own = tf.stack(
            [
                tf.repeat(shape[None, 1:3], batch, axis=0)
                if size is None
                else tf.clip_by_value(size, 0, shape[1:3])
                for shape, size in zip(shapes, sizes, strict=True)
            ]
        )
        own = tf.gather_nd(own, tf.stack([levels, box_indices], 1))

    boxes *= tf.gather(tf.constant(scales, tf.float32), levels)[:, None]
    finite = tf.reduce_all(tf.math.is_finite(boxes), 1, keepdims=True)
    boxes = _round(tf.clip_by_value(tf.where(finite, boxes, 0.0), -_FARTHEST, _FARTHEST))
    own = tf.where(finite, own, 0)
    y = _windows(boxes[:, 1], boxes[:, 3], bins[0], own[:, 0])
    x = _windows(boxes[:, 0], boxes[:, 2], bins[1], own[:, 1])
    return _largest(locations, first, height_width[:, 1], y, x)


def _round(values: tf.Tensor) -> tf.Tensor:
    """To the nearest whole number, halves away from zero, as C's `round`."""
    whole = tf.math.floor(tf.abs(values))
    return tf.sign(values) * tf.where(tf.abs(values) - whole >= 0.5, whole + 1.0, whole)


def _windows(low: tf.Tensor, high: tf.Tensor, bins: int, size: tf.Tensor) -> tf.Tensor:
    """int32 [R, bins, 2], the pixels [first, end) of each bin along one axis."""
    length = tf.maximum(high - low + 1.0, 1.0)
    # OpenVINO multiplies by the reciprocal of any divisor, which moves ends across whole numbers;
    # of a table it takes the quotient.
    quotients = np.arange(_TABULATED + 1, dtype=np.float32) / np.float32(bins)
    tabulated = tf.gather(quotients, tf.cast(tf.minimum(length, _TABULATED), tf.int32))
    bin_length = tf.where(length <= _TABULATED, tabulated, divide(length, bins))[:, None]
    index = tf.range(bins, dtype=tf.float32)
    ends = [
        tf.math.floor(index * bin_length) + low[:, None],
        tf.math.ceil((index + 1.0) * bin_length) + low[:, None],
    ]
    limit = tf.cast(size, tf.float32)[:, None, None]
    return tf.cast(tf.clip_by_value(tf.stack(ends, 2), 0.0, limit), tf.int32)


@tf.custom_gradient
def _largest(
    locations: tf.Tensor, first: tf.Tensor, width: tf.Tensor, y: tf.Tensor, x: tf.Tensor
) -> tuple[tf.Tensor, object]:
    """The largest of `locations`, [N, C], in each bin: [R, bins high, bins wide, C].

    Args:
        locations: all maps, row by row.
        first: int32 [R], the location at the top left of each region's map.
        width: int32 [R], of that map.
        y, x: of `_windows`.
    """
    channels = locations.shape[1]
    bins_y, bins_x = y.shape[1], x.shape[1]
    count = y.shape[0] if y.shape[0] is not None else tf.shape(y)[0]
    chunk = _CHUNK if not isinstance(count, int) else max(min(_CHUNK, count), 1)
    chunks = -(-count // chunk)

    def divide(values: tf.Tensor) -> tf.Tensor:
        padding = [[0, chunks * chunk - count]] + [[0, 0]] * (len(values.shape) - 1)
        return tf.reshape(tf.pad(values, padding), [chunks, chunk, *values.shape[1:]])

    def of_chunk(regions: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        first, width, y, x = regions
        rows, columns = y[..., 1] - y[..., 0], x[..., 1] - x[..., 0]
        across = tf.maximum(tf.reduce_max(columns), 1)
        filled = (rows > 0)[:, :, None] & (columns > 0)[:, None, :]
        lowest = tf.where(filled, locations.dtype.min, tf.zeros([], locations.dtype))
        shape = [chunk, bins_y, bins_x, channels]
        best = tf.broadcast_to(lowest[..., None], shape)

        def step(
            pixel: tf.Tensor, best: tf.Tensor, where: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            down, right = pixel // across, pixel % across
            inside = (down < rows)[:, :, None] & (right < columns)[:, None, :]
            row = first[:, None] + (y[..., 0] + down) * width[:, None]
            index = row[:, :, None] + (x[..., 0] + right)[:, None, :]
            index = tf.where(inside, index, 0)
            values = tf.gather(locations, index)
            larger = inside[..., None] & (values > best)
            where = tf.where(larger, index[..., None], where)
            return pixel + 1, tf.where(larger, values, best), where

        total = tf.reduce_max(rows) * across
        _, best, where = tf.while_loop(
            lambda pixel, *_: pixel < total,
            step,
            [tf.constant(0), best, tf.fill(shape, -1)],
            shape_invariants=[tf.TensorShape([]), tf.TensorShape(shape), tf.TensorShape(shape)],
            parallel_iterations=1,
        )
        return best, where

    spec = [chunk, bins_y, bins_x, channels]
    pooled, where = tf.map_fn(
        of_chunk,
        tuple(divide(values) for values in (first, width, y, x)),
        fn_output_signature=(
            tf.TensorSpec(spec, locations.dtype),
            tf.TensorSpec(spec, tf.int32),
        ),
        parallel_iterations=1,
    )
    pooled, where = (
        tf.reshape(found, [chunks * chunk, *spec[1:]])[:count] for found in (pooled, where)
    )

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
        number = tf.shape(locations, tf.int64)[0]
        slots = tf.cast(where, tf.int64) * channels + tf.range(channels, dtype=tf.int64)
        slots = tf.where(where < 0, tf.constant(-1, tf.int64), slots)  # which are left out
        total = tf.math.unsorted_segment_sum(
            tf.reshape(tf.cast(upstream, tf.float32), [-1]),
            tf.reshape(slots, [-1]),
            number * channels,
        )
        total = tf.cast(tf.reshape(total, [number, channels]), locations.dtype)
        return total, None, None, None, None

    return pooled, gradient
