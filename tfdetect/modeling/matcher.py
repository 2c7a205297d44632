"""Matching of boxes to ground truth, and sampling of boxes for training.

Ground truth may be padded to a fixed count, so that images in a batch have the same static shapes;
a validity mask marks the padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.ops.rotated_boxes import BOX_DIM as ROTATED
from tfdetect.ops.rotated_iou import pairwise_iou_rotated


def pairwise_iou(boxes1: tf.Tensor, boxes2: tf.Tensor) -> tf.Tensor:
    """Intersection over union of every pair of boxes.

    Args:
        boxes1, boxes2: float32 [G, 4] and [N, 4] XYXY, in one frame; or [G, 5] and [N, 5] rotated.

    Returns:
        float32 [G, N]; 0 where the boxes do not overlap, however small or inverted they are.
    """
    if boxes1.shape[-1] == ROTATED:
        return pairwise_iou_rotated(boxes1, boxes2)
    overlap = _pairwise_intersection(boxes1, boxes2)
    union = _area(boxes1)[:, None] + _area(boxes2) - overlap
    return tf.where(overlap > 0, overlap / union, tf.zeros_like(overlap))


def pairwise_ioa(boxes1: tf.Tensor, boxes2: tf.Tensor) -> tf.Tensor:
    """Intersection over the area of the second box, of every pair.

    Args:
        boxes1, boxes2: float32 [G, 4] and [N, 4] XYXY, in one frame.

    Returns:
        float32 [G, N]; 0 where the boxes do not overlap.
    """
    overlap = _pairwise_intersection(boxes1, boxes2)
    return tf.where(overlap > 0, overlap / _area(boxes2), 0.0)


def match(
    quality: tf.Tensor,
    thresholds: Sequence[float],
    labels: Sequence[int],
    allow_low_quality: bool,
    valid: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Match every box to the ground truth with the highest quality, and label it by that quality.

    Args:
        quality: float32 [G, N], not negative; the IoU of ground truth and boxes.
        thresholds: increasing, positive; they divide the qualities into len(thresholds) + 1
            half-open ranges [low, high).
        labels: a label for each range, lowest first: 0 for background, 1 for foreground, -1 to
            ignore.
        allow_low_quality: label 1 also the boxes whose quality is the highest that some ground
            truth has with any box (all of them, in a tie): Faster R-CNN, section 3.1.2, case (i).
            They keep the match of their own highest quality. A ground truth that overlaps no box
            at all ties with all that it does not overlap, as in Detectron2.
        valid: bool [G], false for padding; None if there is none.

    Returns:
        matches: int32 [N], the matched ground truth in [0, G), the first in a tie; 0 if there is
            no valid one.
        labels: int32 [N]; `labels[0]` if there is no valid ground truth.

    Detectron2: `Matcher`.
    """
    if len(labels) != len(thresholds) + 1:
        raise ValueError(f"{len(thresholds)} thresholds need one label more, not {len(labels)}")
    if list(thresholds) != sorted(thresholds) or thresholds[0] <= 0:
        raise ValueError(f"thresholds must be positive and increasing: {thresholds}")
    if valid is not None:
        quality = tf.where(valid[:, None], quality, -1.0)
    # A last row that loses against every other: then there is always one to take the maximum of.
    quality = tf.pad(quality, [[0, 1], [0, 0]], constant_values=-1.0)

    best = tf.reduce_max(quality, axis=0)
    # tf.argmax takes a hundred times as long on the CPU.
    rows = tf.range(tf.shape(quality)[0])
    matches = tf.reduce_min(tf.where(quality == best, rows[:, None], rows[-1] - 1), axis=0)
    # With no valid ground truth, all rows tie at -1 and argmax gives the first: 0, as documented.
    rank = tf.reduce_sum(tf.cast(best >= tf.constant(thresholds)[:, None], tf.int32), axis=0)
    box_labels = tf.gather(tf.constant(labels, tf.int32), rank)
    if allow_low_quality:
        highest = tf.reduce_max(quality, axis=1, keepdims=True)
        promoted = tf.reduce_any((quality == highest) & (highest >= 0), axis=0)
        box_labels = tf.where(promoted, 1, box_labels)
    return matches, box_labels


def subsample_labels(
    labels: tf.Tensor,
    num_samples: int,
    positive_fraction: float,
    background: int,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sample boxes at random, with a given fraction of foreground.

    As many foreground boxes as available, up to int(num_samples * positive_fraction); the rest are
    background boxes, as far as available.

    Args:
        labels: int [N]: -1 is never chosen (ignored or padding), `background` is background,
            anything else foreground.
        num_samples: how many to choose in all.
        positive_fraction: the largest share of foreground.
        background: the label of background.
        seed: int [2], a seed of tf.random.stateless_uniform; the choice depends on nothing else.

    Returns:
        positive, negative: bool [N], the chosen foreground and background boxes.

    Detectron2: `subsample_labels`, with the same counts (and other random numbers).
    """
    is_negative = labels == background
    is_positive = (labels != -1) & ~is_negative
    draws = tf.random.stateless_uniform(tf.shape(labels), seed)
    positive = _first(is_positive, draws, int(num_samples * positive_fraction))
    remaining = num_samples - tf.reduce_sum(tf.cast(positive, tf.int32))
    # top_k wants a bound that does not depend on the data; `remaining` is at most num_samples.
    negative = _first(is_negative, draws, num_samples, remaining)
    return positive, negative


def _first(
    candidates: tf.Tensor, draws: tf.Tensor, bound: int, count: tf.Tensor | int | None = None
) -> tf.Tensor:
    """The candidates, bool [N], with the `count` (default `bound`) highest of draws in [0, 1)."""
    # A Python number where the shape is static: XLA wants to know how many are taken.
    size = candidates.shape[0]
    bound = min(bound, size) if size is not None else tf.minimum(bound, tf.size(candidates))
    values, indices = tf.math.top_k(tf.where(candidates, draws, -1.0), bound)
    taken = values >= 0
    if count is not None:
        taken &= tf.range(tf.size(values)) < count
    return tf.scatter_nd(indices[:, None], tf.cast(taken, tf.int32), tf.shape(candidates)) > 0


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _pairwise_intersection(boxes1: tf.Tensor, boxes2: tf.Tensor) -> tf.Tensor:
    # Per axis, so that no [G, N, 2] array is made: N is the number of all anchors of an image.
    def overlap(low: int, high: int) -> tf.Tensor:
        end = tf.minimum(boxes1[:, None, high], boxes2[:, high])
        return tf.maximum(end - tf.maximum(boxes1[:, None, low], boxes2[:, low]), 0.0)

    return overlap(0, 2) * overlap(1, 3)
