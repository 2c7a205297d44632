"""Where PointRend looks: grids, random points and the most uncertain ones.

Points are (x, y), from (0, 0) to (1, 1) of a box or of a feature map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.ops.nms import top_k
from tfdetect.ops.point_sample import point_sample


def regular_grid(side: int) -> tf.Tensor:
    """The centres of a grid of side x side locations, row by row: float32 [side * side, 2].

    Detectron2: `generate_regular_grid_point_coords`.
    """
    centres = (tf.range(side, dtype=tf.float32) + 0.5) / side
    x, y = tf.meshgrid(centres, centres)
    return tf.reshape(tf.stack([x, y], 2), [side * side, 2])


def points_wrt_image(boxes: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    """Points [R, P, 2] of the boxes [R, 4], in the boxes' pixels.

    Detectron2: `get_point_coords_wrt_image`.
    """
    return points * (boxes[:, None, 2:] - boxes[:, None, :2]) + boxes[:, None, :2]


def sample_fine_grained_features(
    features: Mapping[str, tf.Tensor],
    strides: Mapping[str, int],
    boxes: tf.Tensor,
    image_indices: tf.Tensor,
    points: tf.Tensor,
    valid_sizes: ValidSizes = WHOLE,
) -> tf.Tensor:
    """The features of several maps at points of boxes, one map's channels after the other's.

    Args:
        features: [B, H, W, C] by name.
        strides: of those that are sampled, by name and in this order.
        boxes: float32 [R, 4] in pixels of the network's input.
        image_indices: int32 [R], the image of each box.
        points: float32 [R, P, 2], of the boxes.
        valid_sizes: of the images; see `GeneralizedRCNN`. What is beyond an image's own map is
            zero, as what is beyond the edge.

    Returns:
        [R, P, C of all], in the type of the features.

    Detectron2: `point_sample_fine_grained_features`.
    """
    position = points_wrt_image(boxes, points)
    sampled = []
    for name, stride in strides.items():
        feature, sizes = features[name], valid_sizes.strided(stride).sizes
        if sizes is None:
            own = tf.shape(feature)[None, None, 1:3]
        else:
            own = tf.gather(sizes, image_indices)[:, None]
        extent = tf.cast(own[..., ::-1] * stride, tf.float32)
        sampled.append(point_sample(feature, position / extent, image_indices, sizes=sizes))
    return sampled[0] if len(sampled) == 1 else tf.concat(sampled, 2)


def most_uncertain_on_grid(
    uncertainty: tf.Tensor, num_points: int, sizes: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """The locations of a grid that are the most uncertain; of equal ones the first.

    Args:
        uncertainty: float32 [N, H, W].
        num_points: how many are chosen; all, if there are fewer.
        sizes: int32 [N, 2], the (height, width) at the top left that is each row's own: no other
            location goes before one of these. None: all of it.

    Returns:
        int32 [N, P], row * W + column of each; and float32 [N, P, 2], their centres, in the row's
        own part.

    Detectron2: `get_uncertain_point_coords_on_grid`.
    """
    shape = tf.shape(uncertainty)
    height, width = shape[1], shape[2]
    if sizes is None:
        sizes = shape[None, 1:]
    else:
        inside = (tf.range(height) < sizes[:, :1])[:, :, None]
        inside &= (tf.range(width) < sizes[:, 1:])[:, None]
        uncertainty = tf.where(inside, uncertainty, tf.float32.min)
    locations = uncertainty.shape[1:].num_elements()
    flat = tf.reshape(uncertainty, [shape[0], height * width if locations is None else locations])
    count = (
        tf.minimum(height * width, num_points) if locations is None else min(locations, num_points)
    )
    _, indices = top_k(flat, count)
    location = tf.cast(tf.stack([indices % width, indices // width], 2), tf.float32)
    return indices, (location + 0.5) / tf.cast(sizes[:, None, ::-1], tf.float32)


def put_on_grid(maps: tf.Tensor, indices: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Maps [N, H, W, C] with `values` [N, P, C] at their locations `indices` int32 [N, P].

    A location is row * W + column; those of a map differ.
    """
    shape, channels = tf.shape(maps), maps.shape[3]
    locations = indices + tf.range(shape[0])[:, None] * (shape[1] * shape[2])
    flat = tf.tensor_scatter_nd_update(
        tf.reshape(maps, [-1, channels]),
        tf.reshape(locations, [-1, 1]),
        tf.reshape(values, [-1, channels]),
    )
    return tf.reshape(flat, shape)


def random_points(
    seeds: tf.Tensor, image_indices: tf.Tensor, num_points: int, stream: int
) -> tf.Tensor:
    """Uniformly random points: float32 [R, num_points, 2] in [0, 1).

    Those of an image depend on its seed and on their number in it alone.

    Args:
        seeds: int [B, 2], of each image.
        image_indices: int32 [R], increasing.
        num_points: of each region.
        stream: another one gives other points.
    """
    batch = tf.shape(seeds)[0]
    counts = tf.math.bincount(image_indices, minlength=batch, maxlength=batch)

    def draw(image: tf.Tensor, drawn: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        seed = tf.random.experimental.stateless_fold_in(seeds[image], stream)
        points = tf.random.stateless_uniform([counts[image], num_points, 2], seed)
        return image + 1, drawn.write(image, points)

    drawn = tf.TensorArray(
        tf.float32, batch, element_shape=[None, num_points, 2], infer_shape=False
    )
    _, drawn = tf.while_loop(lambda image, _: image < batch, draw, [tf.constant(0), drawn])
    return tf.stop_gradient(drawn.concat())


def uncertain_points_with_randomness(
    maps: tf.Tensor,
    uncertainty: Callable[[tf.Tensor], tf.Tensor],
    draw: Callable[[int, int], tf.Tensor],
    *,
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> tf.Tensor:
    """Random points for training, most of them where the prediction is uncertain.

    Of `oversample_ratio` times as many random points the most uncertain are taken, and then others
    until there are enough. What is uncertain is decided of the map's value at the point.

    Args:
        maps: float32 [N, h, w, C], coarse predictions.
        uncertainty: maps values [N, P, C] to [N, P].
        draw: maps a number of points, and 0 for the candidates or 1 for the others, to random
            points of each map, float32 [N, number, 2].
        num_points: P.
        oversample_ratio: at least 1.
        importance_sample_ratio: the share of P that is chosen by uncertainty, from 0 to 1.

    Returns:
        float32 [N, P, 2].

    Detectron2: `get_uncertain_point_coords_with_randomness`.
    """
    candidates = draw(int(num_points * oversample_ratio), 0)
    count = int(importance_sample_ratio * num_points)
    found = uncertainty(point_sample(maps, candidates))
    chosen = tf.gather(candidates, tf.math.top_k(found, count).indices, batch_dims=1)
    if count < num_points:
        chosen = tf.concat([chosen, draw(num_points - count, 1)], 1)
    return tf.stop_gradient(chosen)


def mask_uncertainty(logits: tf.Tensor) -> tf.Tensor:
    """How uncertain mask logits are, of the mask's own class: the greatest is 0."""
    return -tf.abs(logits)


def semantic_uncertainty(logits: tf.Tensor) -> tf.Tensor:
    """How uncertain semantic logits [..., K] are: [...], the second best less the best, at most 0.

    Raises:
        ValueError: K < 2.
    """
    best = tf.math.top_k(logits, 2).values
    return best[..., 1] - best[..., 0]


def own_logits(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Of mask logits [R, ..., K] the classes' int32 [R] own: [R, ...]; of K = 1 the only ones."""
    if logits.shape[-1] == 1:
        return logits[..., 0]
    shape = tf.shape(logits)
    flat = tf.reshape(logits, [shape[0], -1, logits.shape[-1]])
    return tf.reshape(tf.gather(flat, classes, axis=2, batch_dims=1), shape[:-1])


def point_labels(
    bitmasks: tf.Tensor, points: tf.Tensor, mask_indices: tf.Tensor, sizes: tf.Tensor | None = None
) -> tf.Tensor:
    """How much of each point is of the object: float32 [R, P], interpolated and so in [0, 1].

    Args:
        bitmasks: bool [N, H, W].
        points: float32 [R, P, 2] in the bitmasks' pixels.
        mask_indices: int32 [R], the bitmask of each row.
        sizes: int32 [N, 2], the (height, width) of each bitmask's image in it; None for H and W.

    Detectron2: `sample_point_labels`.
    """
    extent = tf.shape(bitmasks)[None, 1:] if sizes is None else tf.gather(sizes, mask_indices)
    position = points / tf.cast(extent[:, None, ::-1], tf.float32)
    return point_sample(bitmasks[..., None], position, mask_indices, sizes=sizes)[..., 0]
