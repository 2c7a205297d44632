"""Multi-level RoIAlign of rotated boxes, one sample at a time."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.ops.fixed.roi_align import in_chunks, locate
from tfdetect.ops.roi_align_rotated import Grid, grid_of, neighbours, positions


def pool_rotated_levels(
    features: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor,
    bins: int,
    scales: Sequence[float],
    sampling_ratio: int,
) -> tf.Tensor:
    """`roi_align_rotated` of each box on its level; arguments as `pool_levels`, boxes [R, 5]."""
    locations, size, first_location = locate(features, levels, box_indices)
    of_level = tf.gather(tf.constant(scales), levels)[:, None]
    grid = grid_of(boxes, of_level, (bins, bins), sampling_ratio)
    pooled = in_chunks(
        lambda *regions: _pool(locations, bins, *regions),
        (size, first_location, *grid),
        (bins, bins, features[0].shape[3]),
        tf.cast(grid.samples_y * grid.samples_x, tf.int32),
    )
    return tf.cast(pooled, features[0].dtype)


def _pool(
    locations: tf.Tensor,
    bins: int,
    size: tf.Tensor,
    first_location: tf.Tensor,
    *of_grid: tf.Tensor,
) -> tf.Tensor:
    """float32 [R, bins, bins, C], the means of the samples; boxes without any have zeros.

    Args:
        locations: [N, C], of all maps.
        bins: along each side.
        size: int32 [R, 2], of the region's map.
        first_location: int32 [R], of that map in `locations`.
        of_grid: the fields of its `Grid`.
    """
    grid = Grid(*of_grid)
    across = tf.maximum(tf.cast(grid.samples_x, tf.int32), 1)
    total = tf.cast(grid.samples_y * grid.samples_x, tf.int32)
    index = tf.range(float(bins))
    # Of regions of a chunk that is not full, without a map, the first pixel is read.
    size = tf.maximum(size, 1)
    bin_starts = [
        start[:, None] + index * length[:, None]
        for start, length in ((grid.start_y, grid.bin_y), (grid.start_x, grid.bin_x))
    ]
    spread = Grid(*(values[:, None, None] for values in grid))

    def of_sample(sample: tf.Tensor) -> tf.Tensor:
        along_y, along_x = (
            bin_start
            + ((tf.cast(number, tf.float32) + 0.5) * length / tf.maximum(samples, 1.0))[:, None]
            for bin_start, number, length, samples in (
                (bin_starts[0], sample // across, grid.bin_y, grid.samples_y),
                (bin_starts[1], sample % across, grid.bin_x, grid.samples_x),
            )
        )
        y, x = positions(spread, along_y[:, :, None], along_x[:, None, :])
        counts = (sample < total)[:, None, None]
        read = []
        for pixel_y, weight_y in neighbours(y, size[:, 0, None, None]):
            row = first_location[:, None, None] + pixel_y * size[:, 1, None, None]
            for pixel_x, weight_x in neighbours(x, size[:, 1, None, None]):
                weight = tf.where(counts, weight_y * weight_x, 0.0)
                values = tf.cast(tf.gather(locations, row + pixel_x), tf.float32)
                read.append(values * weight[..., None])
        return tf.add_n(read)

    # From the first sample on, not from zero: zeros would be a constant of this size in a file.
    _, pooled = tf.while_loop(
        lambda sample, _: sample < tf.reduce_max(total),
        lambda sample, pooled: (sample + 1, pooled + of_sample(sample)),
        [tf.constant(1), of_sample(tf.constant(0))],
        parallel_iterations=1,
    )
    return pooled / tf.cast(tf.maximum(total, 1), tf.float32)[:, None, None, None]
