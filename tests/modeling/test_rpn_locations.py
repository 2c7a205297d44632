"""The RPN's head at some locations alone: what it gives on whole maps, and its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.modeling.proposal_generator.rpn import RPNHead

SIZES = [(5, 7), (3, 4), (1, 1)]
ANCHORS = 3


@pytest.fixture(params=[1, 2, 3], ids=lambda convs: f"{convs} convolutions")
def head(request):
    made = RPNHead(8, ANCHORS, [-1] * request.param)
    random = np.random.default_rng(request.param)
    for variable in made.variables:
        variable.assign(random.normal(0, 0.3, variable.shape))
    return made


@pytest.fixture
def features():
    random = np.random.default_rng(0)
    return [tf.constant(random.normal(size=(2, *size, 8)), tf.float32) for size in SIZES]


def whole(head, features):
    outputs = [head(feature) for feature in features]
    return [
        tf.concat([logits[..., None], tf.reshape(deltas, [*logits.shape, 4])], -1)
        for logits, deltas in outputs
    ]


def every_location(features):
    return [tf.where(tf.ones(feature.shape[:3], bool)) for feature in features]


def test_every_location(head, features):
    """Those at the edge and in the corners too; float32 sums in another order."""
    expected = [tf.reshape(level, [-1, ANCHORS, 5]) for level in whole(head, features)]
    found = head.at(features, every_location(features))
    np.testing.assert_allclose(found, tf.concat(expected, 0), rtol=1e-5, atol=2e-6)


def test_gradient(head, features):
    """Of a weighted sum over some locations, one of them twice, and over none of a level."""
    locations = [
        tf.constant([[0, 0, 0], [1, 4, 6], [1, 2, 3], [1, 2, 3]], tf.int64),
        tf.constant([[0, 1, 2]], tf.int64),
        tf.zeros([0, 3], tf.int64),
    ]
    weights = tf.constant(np.random.default_rng(1).normal(size=(5, ANCHORS, 5)), tf.float32)
    watched = [*features, *head.trainable_variables]
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(watched)
        found = tf.reduce_sum(weights * head.at(features, locations))
        maps = whole(head, features)
        values = [tf.gather_nd(level, here) for level, here in zip(maps, locations, strict=True)]
        expected = tf.reduce_sum(weights * tf.concat(values, 0))
    wanted = tape.gradient(expected, watched, unconnected_gradients="zero")
    gradients = tape.gradient(found, watched, unconnected_gradients="zero")
    for gradient, reference in zip(gradients, wanted, strict=True):
        # The largest is 1e2; float32 sums in another order.
        np.testing.assert_allclose(gradient, reference, rtol=1e-5, atol=2e-5)
