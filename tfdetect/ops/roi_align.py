"""RoIAlign (Mask R-CNN, section 3), with Detectron2's and torchvision's sampling."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.division import divide
from tfdetect.ops.shared_function import shared_function
from tfdetect.ops.sparse_pooling import Shape, pool_by_matrix, shared_pooling, sizes_of_maps

# Boxes are cut off at this many feature-map pixels from the origin: far beyond any map, and near
# enough that float32 still tells neighbouring samples apart.
_FARTHEST = 2.0**14


def roi_align(
    features: tf.Tensor,
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
    sizes: tf.Tensor | None = None,
) -> tf.Tensor:
    """Pool each box to a grid of bilinear samples, averaged per bin (`torchvision.ops.roi_align`).

    Differentiable in `features` only. A box with a NaN or infinite coordinate gives zeros, and so
    does an inverted or empty one under adaptive sampling (its sampling grid is empty).

    Args:
        features: [B, H, W, C], float32, bfloat16 or float16; sums are float32 in every case.
        boxes: float32 [R, 4] XYXY in pixels of the network's input image.
        box_indices: int32 [R], the image of each box, in [0, B).
        output_size: bins, (height, width) or one number for both.
        spatial_scale: feature-map pixels per input pixel (1 / stride).
        sampling_ratio: samples per bin along each axis; 0 takes ceil(box size / bins), adaptively.
        aligned: shift by half a feature-map pixel (Detectron2's ROIAlignV2). False is the older
            ROIAlign: no shift, and boxes are at least one feature-map pixel wide and high.
        sizes: int32 [B, 2], how many rows and columns at the top left are each image's own: its
            map ends there, and what lies beyond is not read. None: all of them.

    Returns:
        [R, bins high, bins wide, C] in the type of `features`.
    """
    bins_y, bins_x = (output_size, output_size) if isinstance(output_size, int) else output_size
    boxes = tf.cast(boxes, tf.float32)
    box_indices = tf.cast(box_indices, tf.int32)
    if current_backend().native:
        return kernels.library().tfdetect_roi_align(
            features=features,
            boxes=boxes,
            box_indices=box_indices,
            sizes=tf.zeros([0, 2], tf.int32) if sizes is None else sizes,
            pooled_height=bins_y,
            pooled_width=bins_x,
            spatial_scale=spatial_scale,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
        )
    pool = _pool_function(sampling_ratio, aligned, current_backend().device)
    pooled = pool(
        tf.cast(features, tf.float32),
        boxes * spatial_scale,
        box_indices,
        tf.zeros([0, 2], tf.int32) if sizes is None else sizes,
        tf.constant([bins_y, bins_x]),
    )
    pooled.set_shape([boxes.shape[0], bins_y, bins_x, features.shape[3]])
    return tf.cast(pooled, features.dtype)


def roi_align_levels(
    features: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor,
    output_size: int,
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
    sizes: Sequence[tf.Tensor | None] | None = None,
) -> tf.Tensor:
    """`roi_align` of each box from one of several maps.

    Args:
        features: [B, H, W, C] of each level; of the same type and number of channels.
        boxes, box_indices, output_size, sampling_ratio, aligned: see `roi_align`.
        levels: int32 [R], the map of each box, an index into `features`.
        spatial_scales: of each level.
        sizes: of each level, or None.

    Returns:
        [R, bins, bins, C] in the type of `features`.
    """
    sizes = [None] * len(features) if sizes is None else sizes
    if current_backend().native_on_cpu:
        whole = tf.zeros([0, 2], tf.int32)
        return kernels.library().tfdetect_roi_align_levels(
            features=features,
            sizes=[whole if size is None else size for size in sizes],
            boxes=boxes,
            box_indices=box_indices,
            levels=levels,
            pooled_height=output_size,
            pooled_width=output_size,
            spatial_scales=spatial_scales,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
        )

    def pool(level: int, boxes: tf.Tensor, box_indices: tf.Tensor) -> tf.Tensor:
        return roi_align(
            features[level],
            boxes,
            box_indices,
            output_size,
            spatial_scales[level],
            sampling_ratio,
            aligned,
            sizes[level],
        )

    return pool_by_level(pool, len(features), boxes, box_indices, levels)


def pool_by_level(
    pool: Callable[[int, tf.Tensor, tf.Tensor], tf.Tensor],
    num_levels: int,
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor,
) -> tf.Tensor:
    """What `pool(level, boxes, box_indices)` gives for the boxes of each level, in their order."""
    if num_levels == 1:
        return pool(0, boxes, box_indices)
    positions, boxes, box_indices = (
        tf.dynamic_partition(values, levels, num_levels)
        for values in (tf.range(tf.size(levels)), boxes, box_indices)
    )
    pooled = [pool(level, boxes[level], box_indices[level]) for level in range(num_levels)]
    return tf.dynamic_stitch(positions, pooled)


@functools.cache
def _pool_function(sampling_ratio: int, aligned: bool, device: str) -> Callable[..., tf.Tensor]:
    """`_pool` for all levels of all poolers on a kind of device."""
    pool = functools.partial(
        _pool, sampling_ratio=sampling_ratio, aligned=aligned, on_cpu=device == "cpu"
    )
    return shared_pooling(pool, 4, tf.TensorSpec([2], tf.int32))


def _pool(
    features: tf.Tensor,
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    sizes: tf.Tensor,
    bins: tf.Tensor,
    sampling_ratio: int,
    aligned: bool,
    on_cpu: bool,
) -> tf.Tensor:
    """`roi_align` of boxes in feature-map pixels; without `sizes`, of the whole map."""
    sizes = sizes_of_maps(sizes, features)
    high, wide = tf.unstack(bins)

    def matrix(chunk: slice, shape: Shape) -> tf.SparseTensor:
        common = (sizes, shape, (high, wide), sampling_ratio, aligned)
        return _pooling_matrix(boxes[chunk], box_indices[chunk], *common)

    return pool_by_matrix(features, tf.shape(boxes)[0], bins, matrix, on_cpu=on_cpu)


def _pooling_matrix(
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    sizes: tf.Tensor,
    shape: Shape,
    bins: tuple[tf.Tensor, tf.Tensor],
    sampling_ratio: int,
    aligned: bool,
) -> tf.SparseTensor:
    """The matrix [R * bins, B * H * W] that pools the features of `shape`. Boxes are in feature-map
    pixels.

    The bilinear weights are separable, so that those of a region are an outer product of one
    vector per axis; only their non-zero range enters the matrix.
    """
    batch, height, width = shape
    finite = tf.reduce_all(tf.math.is_finite(boxes), 1)
    boxes = tf.where(finite[:, None], boxes, 0.0) - (0.5 if aligned else 0.0)
    boxes = tf.clip_by_value(boxes, -_FARTHEST, _FARTHEST)
    extent = boxes[:, 2:] - boxes[:, :2]
    if not aligned:
        extent = tf.maximum(extent, 1.0)
    start_x, start_y, _, _ = tf.unstack(boxes, axis=1)
    extent_x, extent_y = tf.unstack(extent, axis=1)
    own_y, own_x = tf.unstack(tf.gather(sizes, box_indices), axis=1)
    axis = _axis_function(sampling_ratio)
    first_y, count_y, wy = axis(start_y, extent_y, bins[0], height, own_y)
    first_x, count_x, wx = axis(start_x, extent_x, bins[1], width, own_x)
    count_y = tf.where(finite[:, None], count_y, 0)
    # Rows of the matrix in order: region, bin along y, bin along x. Row r has
    # count_y * count_x entries, laid out one after another in `entry`.
    per_row = tf.reshape(count_y[:, :, None] * count_x[:, None, :], [-1])
    offset = tf.cumsum(per_row, exclusive=True)
    row = tf.repeat(tf.range(tf.size(per_row)), per_row)
    entry = tf.range(tf.size(row)) - tf.gather(offset, row)
    region = row // (bins[0] * bins[1])
    row_y = row // bins[1]  # into [R, bins y], flattened
    row_x = region * bins[1] + row % bins[1]
    columns = tf.gather(tf.reshape(count_x, [-1]), row_x)
    entry_y = entry // columns
    entry_x = entry - entry_y * columns
    values = tf.gather(tf.reshape(wy, [-1]), row_y * tf.shape(wy)[2] + entry_y) * tf.gather(
        tf.reshape(wx, [-1]), row_x * tf.shape(wx)[2] + entry_x
    )
    top = box_indices[:, None] * height + first_y
    location = (tf.gather(tf.reshape(top, [-1]), row_y) + entry_y) * width
    location += tf.gather(tf.reshape(first_x, [-1]), row_x) + entry_x
    return tf.SparseTensor(
        tf.stack([tf.cast(row, tf.int64), tf.cast(location, tf.int64)], 1),
        values,
        tf.cast(tf.stack([tf.size(per_row), batch * height * width]), tf.int64),
    )


@functools.cache
def _axis_function(sampling_ratio: int) -> Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """`_axis` for both."""
    lengths, whole, pixels = (
        tf.TensorSpec([None]),
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([None], tf.int32),
    )
    axis = functools.partial(_axis, sampling_ratio=sampling_ratio)
    return shared_function(axis, [lengths, lengths, whole, whole, pixels])


def _axis(
    start: tf.Tensor,
    extent: tf.Tensor,
    bins: tf.Tensor,
    size: tf.Tensor,
    own: tf.Tensor,
    sampling_ratio: int,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Which of `size` feature-map pixels count in each bin along one axis, and how much.

    The map ends after `own` [R] of them. Samples beyond one feature-map pixel outside of it count
    nothing; those in the border feature-map pixel are clamped.

    Returns:
        The first that counts, int32 [R, bins], how many there are from it to the last, int32 [R,
        bins], and their weights, float32 [R, bins, the most of any bin].
    """
    own = own[:, None, None]
    limit = tf.cast(own, tf.float32)
    bin_extent = extent / tf.cast(bins, tf.float32)
    if sampling_ratio > 0:
        samples = tf.fill(tf.shape(extent), float(sampling_ratio))
        step = divide(bin_extent, sampling_ratio)
    else:
        samples = tf.math.ceil(bin_extent)
        step = bin_extent / tf.maximum(samples, 1.0)
    bin_start = start[:, None] + tf.range(tf.cast(bins, tf.float32)) * bin_extent[:, None]
    # Of a huge box only the samples that can fall into the map are enumerated. With adaptive
    # sampling they lie at least half a feature-map pixel apart, so that they are few.
    if sampling_ratio > 0:
        skipped = tf.zeros_like(bin_start)
        longest = tf.constant(sampling_ratio)
    else:
        skipped = tf.math.floor((-1.0 - bin_start) / tf.maximum(step, 0.5)[:, None]) - 1.0
        skipped = tf.clip_by_value(skipped, 0.0, tf.maximum(samples, 0.0)[:, None])
        longest = tf.reduce_max(tf.minimum(samples, 2.0 * (tf.cast(size, tf.float32) + 4.0)), 0)
        longest = tf.cast(tf.maximum(longest, 1.0), tf.int32)
    index = skipped[:, :, None] + tf.range(tf.cast(longest, tf.float32))
    position = bin_start[:, :, None] + (index + 0.5) * step[:, None, None]
    inside = (index < samples[:, None, None]) & (position >= -1.0) & (position <= limit)
    inside &= own > 0
    position = tf.clip_by_value(position, 0.0, limit - 1.0)
    low = tf.math.floor(position)
    fraction = position - low
    share = tf.where(inside, 1.0 / tf.maximum(samples, 1.0)[:, None, None], 0.0)
    low = tf.cast(low, tf.int32)
    high = tf.minimum(low + 1, tf.maximum(own, 1) - 1)
    first = tf.reduce_min(tf.where(inside, low, size), 2)
    # A pixel of weight 0 is not read: it may be infinite.
    last = tf.reduce_max(tf.where(inside, tf.where(fraction > 0.0, high, low), -1), 2)
    count = tf.maximum(last - first + 1, 0)
    most = tf.maximum(tf.reduce_max(count), 1)
    rows = tf.reshape(tf.range(tf.size(first)), tf.shape(first)) * most - first
    rows = rows[:, :, None]
    segments = tf.stack([rows + low, rows + tf.minimum(high, last[:, :, None])])
    weights = tf.math.unsorted_segment_sum(
        tf.stack([share * (1.0 - fraction), share * fraction]),
        tf.where(inside, segments, -1),  # which is left out
        tf.size(first) * most,
    )
    return first, count, tf.reshape(weights, [-1, bins, most])
