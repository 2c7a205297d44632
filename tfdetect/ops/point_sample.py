"""Sampling of feature maps at points (PointRend, Kirillov et al., 2020, section 3.1)."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend


def point_sample(
    features: tf.Tensor,
    points: tf.Tensor,
    map_indices: tf.Tensor | None = None,
    *,
    nearest: bool = False,
    sizes: tf.Tensor | None = None,
) -> tf.Tensor:
    """Sample maps at points, between the centres of their locations and zeros around them.

    Differentiable in `features` only. At the very border a value fades to half, half a location
    beyond it to zero. A point with a NaN coordinate gives zeros.

    Args:
        features: [B, H, W, C], of a number type or bool.
        points: float32 [R, P, 2] of (x, y); (0, 0) and (1, 1) are the corners of the map.
        map_indices: int32 [R], the map of each row of points, in [0, B); None for row r in map r.
        nearest: take the nearest location (of two equally near ones the even one), instead of
            interpolating bilinearly.
        sizes: int32 [B, 2], how many rows and columns at the top left are each map's own: they are
            what `points` are measured in, and what lies beyond is not read. None: all of them.

    Returns:
        [R, P, C], in the type of `features`; float32 for what is interpolated of integers or bool.

    Detectron2: `point_sample`, which is `torch.nn.functional.grid_sample` with `2 * points - 1`,
    align_corners=False and zero padding.
    """
    if map_indices is None:
        map_indices = tf.range(tf.shape(points)[0])
    if current_backend().native and features.dtype.is_floating and not nearest:
        return kernels.library().tfdetect_point_sample(
            features=features,
            points=points,
            map_indices=map_indices,
            sizes=tf.zeros([0, 2], tf.int32) if sizes is None else sizes,
        )
    return _portable(features, points, map_indices, nearest, sizes)


def _portable(
    features: tf.Tensor,
    points: tf.Tensor,
    map_indices: tf.Tensor,
    nearest: bool,
    sizes: tf.Tensor | None,
) -> tf.Tensor:
    batch, height, width, channels = tf.unstack(tf.shape(features))
    if sizes is None:
        sizes = tf.repeat(tf.stack([height, width])[None], batch, axis=0)
    own = tf.gather(tf.minimum(sizes, tf.stack([height, width])), map_indices)[:, None]
    dtype = features.dtype if nearest or features.dtype.is_floating else tf.float32
    flat = tf.reshape(features, [-1, channels])
    flat = tf.ensure_shape(flat, [None, features.shape[3]])
    first = map_indices[:, None] * height
    limit = tf.cast(own[..., ::-1], tf.float32)

    def at(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The values [R, P, C] at whole positions, and [R, P, 1] whether they are in the map."""
        inside = (x >= 0) & (y >= 0) & (x < limit[..., 0]) & (y < limit[..., 1])
        # What is not its own is not read, not even to be multiplied by 0. As floats: of bounds 0
        # and 6 for integers LiteRT's converter makes a ReLU6, which it has for floats alone.
        column = tf.cast(tf.maximum(tf.minimum(x, limit[..., 0] - 1.0), 0.0), tf.int32)
        row = tf.cast(tf.maximum(tf.minimum(y, limit[..., 1] - 1.0), 0.0), tf.int32)
        return tf.gather(flat, (first + row) * width + column), inside[..., None]

    # In the order of PyTorch's operations, which decides what is nearest.
    position = ((2.0 * points - 1.0) + 1.0) * (limit / 2.0) - 0.5
    position = tf.stop_gradient(tf.where(tf.math.is_nan(position), -2.0, position))
    position = tf.clip_by_value(position, -2.0, limit + 1.0)
    if nearest:
        x, y = tf.unstack(tf.round(position), axis=2)
        values, inside = at(x, y)
        return tf.where(inside, values, tf.zeros([], values.dtype))
    low = tf.floor(position)
    (x, y), (right, down) = tf.unstack(low, axis=2), tf.unstack((position - low)[..., None], axis=2)
    result: tf.Tensor = 0.0
    for dx, dy, weight in (
        (0.0, 0.0, (1.0 - right) * (1.0 - down)),
        (1.0, 0.0, right * (1.0 - down)),
        (0.0, 1.0, (1.0 - right) * down),
        (1.0, 1.0, right * down),
    ):
        values, inside = at(x + dx, y + dy)
        result += tf.cast(values, tf.float32) * tf.where(inside, weight, 0.0)
    return tf.cast(result, dtype)
