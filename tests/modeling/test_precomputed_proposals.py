"""Proposals from elsewhere on their way into the network's input."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdetect.modeling.proposal_generator.precomputed import transform_proposals
from tfdetect.modeling.structures import Proposals


def test_scaled_clipped_and_the_best_kept():
    """By hand: height doubled, width tripled, clipped to 40 x 60; empty and invalid ones are
    dropped."""
    nan = float("nan")
    boxes = [
        [0, 0, 5, 5],
        [3, 3, 3, 9],
        [25, 30, 50, 50],
        [1, 2, 3, 4],
        [nan, 0, 1, 1],
        [1, 1, 2, 2],
    ]
    result, counts, _ = transform_proposals(
        Proposals(tf.constant([boxes, boxes], tf.float32), tf.constant([5, 1])),
        tf.constant([[20, 20], [20, 20]]),
        tf.constant([[40, 60], [40, 60]]),
        topk=4,
        min_box_size=0.0,
    )
    np.testing.assert_array_equal(counts, [2, 1])
    np.testing.assert_array_equal(result[0, :2], [[0, 0, 15, 10], [3, 4, 9, 8]])
    np.testing.assert_array_equal(result[1, :1], [[0, 0, 15, 10]])


def test_no_more_than_topk():
    boxes = tf.constant([[[0, 0, 9, 9], [0, 0, 8, 8], [0, 0, 7, 7]]], tf.float32)
    sizes = tf.constant([[10, 10]])
    result, counts, _ = transform_proposals(
        Proposals(boxes, tf.constant([3])), sizes, sizes, topk=2, min_box_size=0.0
    )
    np.testing.assert_array_equal(result, boxes[:, :2])
    np.testing.assert_array_equal(counts, [2])
