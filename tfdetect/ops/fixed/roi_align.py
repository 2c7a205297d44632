"""Multi-level RoIAlign, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfdetect.ops.division import divide

# Number of boxes sampled together.
_CHUNK = 64


def pool_levels(
    features: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor,
    bins: int,
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> tf.Tensor:
    """`roi_align` of each box on its level.

    Args:
        features: of each level [B, H, W, C] of known shape.
        boxes: float32 [R, 4] in pixels of the network's input image, clipped to it.
        box_indices: int32 [R], the image of each.
        levels: int32 [R], an index into `features`.
        bins: along each side.
        scales: of each level, feature-map pixels per input pixel.
        sampling_ratio, aligned: see `roi_align`.

    Returns:
        [R, bins, bins, C] in the type of the features.
    """
    locations, size, first_location = locate(features, levels, box_indices)
    usable = tf.reduce_all(tf.math.is_finite(boxes), 1, keepdims=True)
    boxes = tf.where(usable, boxes, 0.0) * tf.gather(tf.constant(scales), levels)[:, None]
    boxes -= 0.5 if aligned else 0.0
    # From here on, (y, x).
    low = tf.gather(boxes, [1, 0], axis=1)
    extent = tf.gather(boxes, [3, 2], axis=1) - low
    if not aligned:
        extent = tf.maximum(extent, 1.0)
    bin_extent = divide(extent, bins)
    if sampling_ratio > 0:
        samples = tf.fill([boxes.shape[0], 2], sampling_ratio)
    else:
        samples = tf.maximum(tf.cast(tf.math.ceil(bin_extent), tf.int32), 0)
    samples = tf.where(usable, samples, 0)

    pooled = in_chunks(
        lambda *regions: _pool(locations, bins, *regions),
        (low, bin_extent, samples, size, first_location),
        (bins, bins, features[0].shape[3]),
        samples[:, 0] * samples[:, 1],
    )
    return tf.cast(pooled, features[0].dtype)


def locate(
    features: Sequence[tf.Tensor], levels: tf.Tensor, box_indices: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """All maps as one [N, C], the size int32 [R, 2] of each region's map, and where it starts, [R].

    Args:
        features: of each level [B, H, W, C] of known shape.
        levels: int32 [R], an index into `features`.
        box_indices: int32 [R], the image of each region.
    """
    channels = features[0].shape[3]
    locations = tf.concat([tf.reshape(feature, [-1, channels]) for feature in features], 0)
    sizes, starts, start = [], [], 0
    for feature in features:
        batch, height, width, _ = feature.shape
        sizes.append([height, width])
        starts.append(start)
        start += batch * height * width
    size = tf.gather(tf.constant(sizes), levels)
    first_location = tf.gather(tf.constant(starts), levels) + box_indices * size[:, 0] * size[:, 1]
    return locations, size, first_location


def in_chunks(
    pool: Callable[..., tf.Tensor],
    values: Sequence[tf.Tensor],
    shape: tuple[int, int, int],
    steps: tf.Tensor,
) -> tf.Tensor:
    """float32 [R, *shape]: what `pool` gives for `values` [R, ...], some regions at a time.

    Regions of as many `steps`, int32 [R], are taken together, since all take as many as the one
    with the most.
    """
    count = values[0].shape[0]
    _, order = tf.math.top_k(steps, count)
    _, places = tf.math.top_k(-order, count)
    values = [tf.gather(array, order) for array in values]
    chunk = min(_CHUNK, count)
    chunks = -(-count // chunk)

    def divide(values: tf.Tensor) -> tf.Tensor:
        padding = [[0, chunks * chunk - count]] + [[0, 0]] * (len(values.shape) - 1)
        return tf.reshape(tf.pad(values, padding), [chunks, chunk, *values.shape[1:]])

    pooled = tf.map_fn(
        lambda regions: pool(*regions),
        tuple(divide(array) for array in values),
        fn_output_signature=tf.TensorSpec([chunk, *shape], tf.float32),
        parallel_iterations=1,
    )
    return tf.gather(tf.reshape(pooled, [chunks * chunk, *shape]), places)


def _pool(
    locations: tf.Tensor,
    bins: int,
    low: tf.Tensor,
    bin_extent: tf.Tensor,
    samples: tf.Tensor,
    size: tf.Tensor,
    first_location: tf.Tensor,
) -> tf.Tensor:
    """float32 [R, bins, bins, C], the means of the samples; boxes without a map have none.

    Args:
        locations: [N, C], of all maps.
        bins: along each side.
        low, bin_extent: float32 [R, 2], (y, x) of the region's corner and of its bins, in
            feature-map pixels.
        samples: int32 [R, 2], in each bin, along each axis.
        size: int32 [R, 2], of the region's map.
        first_location: int32 [R], of that map in `locations`.
    """
    step = bin_extent / tf.cast(tf.maximum(samples, 1), tf.float32)
    bin_low = low[:, None] + tf.range(float(bins))[:, None] * bin_extent[:, None]  # [R, bins, 2]
    size = tf.maximum(size, 1)
    limit = tf.cast(size, tf.float32)[:, None]
    total = samples[:, 0] * samples[:, 1]
    across = tf.maximum(samples[:, 1], 1)

    def of_sample(sample: tf.Tensor) -> tf.Tensor:
        index = tf.cast(tf.stack([sample // across, sample % across], 1), tf.float32)
        position = bin_low + ((index + 0.5) * step)[:, None]
        inside = (position >= -1.0) & (position <= limit) & (sample < total)[:, None, None]
        position = tf.clip_by_value(position, 0.0, limit - 1.0)
        location = tf.math.floor(position)
        fraction = position - location
        location = tf.cast(location, tf.int32)
        corners = [location, tf.minimum(location + 1, size[:, None] - 1)]
        weights = [tf.where(inside, w, 0.0) for w in (1.0 - fraction, fraction)]
        read = []
        for rows, row_weights in zip(corners, weights, strict=True):
            row = first_location[:, None] + rows[..., 0] * size[:, None, 1]
            for columns, column_weights in zip(corners, weights, strict=True):
                values = tf.gather(locations, row[:, :, None] + columns[:, None, :, 1])
                weight = row_weights[:, :, None, 0] * column_weights[:, None, :, 1]
                read.append(tf.cast(values, tf.float32) * weight[..., None])
        return tf.add_n(read)

    # From the first sample on, not from zero: zeros would be a constant of this size in a file.
    _, pooled = tf.while_loop(
        lambda sample, _: sample < tf.reduce_max(total),
        lambda sample, pooled: (sample + 1, pooled + of_sample(sample)),
        [tf.constant(1), of_sample(tf.constant(0))],
        parallel_iterations=1,
    )
    return pooled / tf.cast(tf.maximum(total, 1), tf.float32)[:, None, None, None]
