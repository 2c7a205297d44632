"""RoIAlign of rotated boxes, with Detectron2's sampling."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.boxes import all_finite
from tfdetect.ops.division import divide
from tfdetect.ops.roi_align import pool_by_level
from tfdetect.ops.rotated_boxes import BOX_DIM as ROTATED
from tfdetect.ops.sparse_pooling import Shape, pool_by_matrix, shared_pooling, sizes_of_maps

# Regions treated together in the portable form; it bounds the memory for the samples.
_CHUNK = 64
# As `roi_align`'s: beyond any map. A box is at most twice as long.
_FARTHEST = 2.0**14


def roi_align_rotated(
    features: tf.Tensor,
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 0,
    sizes: tf.Tensor | None = None,
) -> tf.Tensor:
    """Pool each rotated box to a grid of bilinear samples (Detectron2's `ROIAlignRotated`).

    The grid lies in the frame of the box, so that boxes that differ by 90 or 180 degrees are pooled
    differently even where they cover the same region. It is always shifted by half a feature-map
    pixel ("aligned"). Differentiable in `features` only. A box with a NaN or infinite number or a
    negative length gives zeros (Detectron2 stops at the latter), and so does one without a width or
    height under adaptive sampling (its grid is empty).

    Args:
        features: [B, H, W, C], float32, bfloat16 or float16; sums are float32 in every case.
        boxes: float32 [R, 5] (x centre, y centre, width, height, angle) in pixels of the network's
            input image and degrees.
        box_indices: int32 [R], the image of each box, in [0, B).
        output_size: bins, (along the height, along the width) or one number for both.
        spatial_scale: feature-map pixels per input pixel (1 / stride).
        sampling_ratio: samples per bin along each side; 0 takes ceil(box size / bins), adaptively.
        sizes: int32 [B, 2], see `roi_align`.

    Returns:
        [R, bins high, bins wide, C] in the type of `features`.
    """
    bins = (output_size, output_size) if isinstance(output_size, int) else output_size
    boxes = tf.cast(boxes, tf.float32)
    box_indices = tf.cast(box_indices, tf.int32)
    if current_backend().native:
        return kernels.library().tfdetect_roi_align_rotated(
            features=features,
            boxes=boxes,
            box_indices=box_indices,
            sizes=tf.zeros([0, 2], tf.int32) if sizes is None else sizes,
            pooled_height=bins[0],
            pooled_width=bins[1],
            spatial_scale=spatial_scale,
            sampling_ratio=sampling_ratio,
        )
    pool = _pool_function(bins, sampling_ratio, current_backend().device)
    pooled = pool(
        tf.cast(features, tf.float32),
        boxes,
        box_indices,
        tf.zeros([0, 2], tf.int32) if sizes is None else sizes,
        tf.constant(spatial_scale, tf.float32),
    )
    pooled.set_shape([boxes.shape[0], *bins, features.shape[3]])
    return tf.cast(pooled, features.dtype)


@functools.cache
def _pool_function(
    bins: tuple[int, int], sampling_ratio: int, device: str
) -> Callable[..., tf.Tensor]:
    """`_pool` for all levels of a pooler on a kind of device."""
    pool = functools.partial(
        _pool, bins=bins, sampling_ratio=sampling_ratio, on_cpu=device == "cpu"
    )
    return shared_pooling(pool, ROTATED, tf.TensorSpec([]))


def _pool(
    features: tf.Tensor,
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    sizes: tf.Tensor,
    spatial_scale: tf.Tensor,
    bins: tuple[int, int],
    sampling_ratio: int,
    on_cpu: bool,
) -> tf.Tensor:
    """`roi_align_rotated`; without `sizes`, of the whole map."""
    sizes = sizes_of_maps(sizes, features)

    def matrix(chunk: slice, shape: Shape) -> tf.SparseTensor:
        indices = box_indices[chunk]
        grid = grid_of(boxes[chunk], spatial_scale, bins, sampling_ratio)
        return _pooling_matrix(grid, indices, tf.gather(sizes, indices), shape, bins)

    count = tf.shape(boxes)[0]
    return pool_by_matrix(features, count, tf.constant(bins), matrix, _CHUNK, on_cpu=on_cpu)


def roi_align_rotated_levels(
    features: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor,
    output_size: int,
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
    sizes: Sequence[tf.Tensor | None] | None = None,
) -> tf.Tensor:
    """`roi_align_rotated` of each box from one of several maps; see `roi_align_levels`."""
    sizes = [None] * len(features) if sizes is None else sizes

    def pool(level: int, boxes: tf.Tensor, box_indices: tf.Tensor) -> tf.Tensor:
        return roi_align_rotated(
            features[level],
            boxes,
            box_indices,
            output_size,
            spatial_scales[level],
            sampling_ratio,
            sizes[level],
        )

    return pool_by_level(pool, len(features), boxes, box_indices, levels)


class Grid(NamedTuple):
    """Where boxes are sampled, all of it [R], lengths in feature-map pixels.

    Attributes:
        center_y, center_x: of the box, less half a pixel.
        cos, sin: of its angle.
        start_y, start_x: of the first bin along the height and the width, from the centre.
        bin_y, bin_x: the bins' lengths.
        samples_y, samples_x: float32, how many there are in a bin; 0 along both if there are none.
    """

    center_y: tf.Tensor
    center_x: tf.Tensor
    cos: tf.Tensor
    sin: tf.Tensor
    start_y: tf.Tensor
    start_x: tf.Tensor
    bin_y: tf.Tensor
    bin_x: tf.Tensor
    samples_y: tf.Tensor
    samples_x: tf.Tensor


def grid_of(
    boxes: tf.Tensor, spatial_scale: float | tf.Tensor, bins: tuple[int, int], sampling_ratio: int
) -> Grid:
    """Of float32 boxes [R, 5], in a map of a scale, or maps of scales [R, 1]."""
    angles, boxes = boxes[:, 4], boxes[:, :4] * spatial_scale
    usable = all_finite(boxes) & tf.math.is_finite(angles)
    usable &= tf.reduce_all(boxes[:, 2:] >= 0, 1)
    boxes = tf.where(usable[:, None], boxes, 0.0)
    centers = tf.clip_by_value(boxes[:, :2] - 0.5, -_FARTHEST, _FARTHEST)
    width, height = tf.unstack(tf.minimum(boxes[:, 2:], 2.0 * _FARTHEST), axis=1)
    theta = tf.where(usable, angles, 0.0) * math.pi / 180.0
    bin_y, bin_x = divide(height, bins[0]), divide(width, bins[1])
    if sampling_ratio > 0:
        samples_y = samples_x = tf.where(usable, float(sampling_ratio), 0.0)
    else:
        samples_y, samples_x = tf.math.ceil(bin_y), tf.math.ceil(bin_x)
        has_samples = samples_y * samples_x > 0
        samples_y, samples_x = (tf.where(has_samples, n, 0.0) for n in (samples_y, samples_x))
    return Grid(
        centers[:, 1],
        centers[:, 0],
        tf.cos(theta),
        tf.sin(theta),
        -height / 2.0,
        -width / 2.0,
        bin_y,
        bin_x,
        samples_y,
        samples_x,
    )


def _pooling_matrix(
    grid: Grid, box_indices: tf.Tensor, sizes: tf.Tensor, shape: Shape, bins: tuple[int, int]
) -> tf.SparseTensor:
    """The matrix [R * bins, B * H * W] that pools the features of `shape` = (B, H, W).

    Args:
        grid: of R boxes.
        box_indices: int32 [R].
        sizes: int32 [R, 2], rows and columns of each box's image.
    """
    batch, height, width = shape
    count = tf.shape(box_indices)[0]
    # Lines of samples along the width of a bin, and of each line the samples that may touch the
    # map: of a box far larger than the map there are few.
    per_box = tf.cast(grid.samples_y, tf.int32) * (bins[0] * bins[1])
    box_of_line = tf.repeat(tf.range(count), per_box)
    line = tf.range(tf.size(box_of_line)) - tf.gather(
        tf.cumsum(per_box, exclusive=True), box_of_line
    )
    of_line = Grid(*(tf.gather(values, box_of_line) for values in grid))
    lines_of_bin = tf.maximum(tf.cast(of_line.samples_y, tf.int32), 1)
    bin_of_line = line // lines_of_bin
    bin_x = tf.cast(bin_of_line % bins[1], tf.float32)
    along_y = _along(
        of_line.start_y,
        of_line.bin_y,
        tf.cast(bin_of_line // bins[1], tf.float32),
        tf.cast(line % lines_of_bin, tf.float32),
        of_line.samples_y,
    )
    line_sizes = tf.gather(sizes, box_of_line)
    first, end = _samples_of_line(of_line, bin_x, along_y, line_sizes)
    per_line = tf.cast(tf.maximum(end - first, 0.0), tf.int32)

    line_of_sample = tf.repeat(tf.range(tf.size(per_line)), per_line)
    before = tf.gather(tf.cumsum(per_line, exclusive=True), line_of_sample)
    index = tf.cast(tf.range(tf.size(line_of_sample)) - before, tf.float32)

    def of_sample(values: tf.Tensor) -> tf.Tensor:
        return tf.gather(values, line_of_sample)

    here = Grid(*(of_sample(values) for values in of_line))
    index += of_sample(first)
    along_x = _along(here.start_x, here.bin_x, of_sample(bin_x), index, here.samples_x)
    y, x = positions(here, of_sample(along_y), along_x)
    rows, columns = (
        neighbours(position, of_sample(line_sizes[:, axis])) for axis, position in ((0, y), (1, x))
    )
    box = of_sample(box_of_line)
    row = box * (bins[0] * bins[1]) + of_sample(bin_of_line)
    first_location = tf.gather(box_indices, box) * height
    share = 1.0 / (here.samples_y * here.samples_x)
    locations, weights = [], []
    for pixel_y, weight_y in rows:
        for pixel_x, weight_x in columns:
            locations.append((first_location + pixel_y) * width + pixel_x)
            weights.append(weight_y * weight_x * share)
    # The four of a sample next to each other, so that rows come in order.
    location = tf.reshape(tf.stack(locations, 1), [-1])
    indices = tf.stack([tf.repeat(row, 4), location], 1)
    return tf.SparseTensor(
        tf.cast(indices, tf.int64),
        tf.reshape(tf.stack(weights, 1), [-1]),
        tf.cast(tf.stack([count * bins[0] * bins[1], batch * height * width]), tf.int64),
    )


def _along(
    start: tf.Tensor, length: tf.Tensor, index: tf.Tensor, sample: tf.Tensor, samples: tf.Tensor
) -> tf.Tensor:
    """Where a sample of a bin is along a side of the box, from the centre."""
    return start + index * length + (sample + 0.5) * length / samples


def positions(grid: Grid, along_y: tf.Tensor, along_x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(y, x) in the map of what is along the height and the width of a box."""
    y = along_y * grid.cos - along_x * grid.sin + grid.center_y
    return y, along_y * grid.sin + along_x * grid.cos + grid.center_x


def neighbours(
    position: tf.Tensor, size: tf.Tensor
) -> tuple[tuple[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """The pixels below and above float32 positions along an axis of int32 sizes, with weights.

    A position that is more than a pixel out of the map has weights of 0.
    """
    limit = tf.cast(size, tf.float32)
    inside = (position >= -1.0) & (position <= limit) & (size > 0)
    position = tf.where(inside, tf.clip_by_value(position, 0.0, limit - 1.0), 0.0)
    low = tf.math.floor(position)
    fraction = position - low
    below = tf.cast(low, tf.int32)
    above = tf.minimum(below + 1, tf.maximum(size, 1) - 1)
    low_weight, high_weight = (tf.where(inside, w, 0.0) for w in (1.0 - fraction, fraction))
    return (below, low_weight), (above, high_weight)


def _samples_of_line(
    grid: Grid, bin_x: tf.Tensor, along_y: tf.Tensor, sizes: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Of the samples in a line along the width of a bin, those that may count: [first, end)."""
    begin = grid.start_x + bin_x * grid.bin_x
    low, high = begin, begin + grid.bin_x
    limits = tf.cast(sizes, tf.float32)
    for base, slope, limit in (
        (grid.center_y + along_y * grid.cos, -grid.sin, limits[:, 0]),
        (grid.center_x + along_y * grid.sin, grid.cos, limits[:, 1]),
    ):
        level = tf.abs(slope) < 1e-6
        out = level & ((base < -2.0) | (base > limit + 1.0))
        slope = tf.where(level, 1.0, slope)
        at_low, at_high = (-1.0 - base) / slope, (limit - base) / slope
        low = tf.where(level, low, tf.maximum(low, tf.minimum(at_low, at_high)))
        high = tf.where(level, high, tf.minimum(high, tf.maximum(at_low, at_high)))
        high = tf.where(out, low - 1.0, high)
    # On the safe side: which samples count is decided by their position.
    step = tf.math.divide_no_nan(grid.bin_x, grid.samples_x)
    first = tf.math.floor(tf.math.divide_no_nan(low - begin, step)) - 2.0
    end = tf.math.ceil(tf.math.divide_no_nan(high - begin, step)) + 2.0
    short = step < 1e-3
    first = tf.where(short, 0.0, tf.clip_by_value(first, 0.0, grid.samples_x))
    end = tf.where(short, grid.samples_x, tf.clip_by_value(end, 0.0, grid.samples_x))
    return first, tf.where(high < low, first, end)
