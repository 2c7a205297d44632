"""Matching and sampling against Detectron2's, recorded, and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.modeling.matcher import match, pairwise_ioa, pairwise_iou, subsample_labels

# Detectron2's defaults: RPN.IOU_THRESHOLDS and RPN.IOU_LABELS, ROI_HEADS.IOU_THRESHOLDS.
RPN = {"thresholds": [0.3, 0.7], "labels": [0, -1, 1], "allow_low_quality": True}
ROI = {"thresholds": [0.5], "labels": [0, 1], "allow_low_quality": False}


def test_overlaps(oracle):
    arrays = oracle("matcher")
    # Ratios of products of float32 differences, in the same order: two units in the last place.
    close = {"rtol": 0, "atol": 2.4e-7}
    np.testing.assert_allclose(pairwise_iou(arrays["gt"], arrays["boxes"]), arrays["iou"], **close)
    np.testing.assert_allclose(pairwise_ioa(arrays["gt"], arrays["boxes"]), arrays["ioa"], **close)


@pytest.mark.parametrize(("prefix", "settings"), [("rpn", RPN), ("roi", ROI)])
def test_matches_and_labels(oracle, prefix, settings):
    arrays = oracle("matcher")
    matches, labels = match(tf.constant(arrays["iou"]), **settings)
    np.testing.assert_array_equal(matches, arrays[f"{prefix}_matches"])
    np.testing.assert_array_equal(labels, arrays[f"{prefix}_labels"])


@pytest.mark.parametrize("allow_low_quality", [False, True])
def test_no_ground_truth(oracle, allow_low_quality):
    arrays = oracle("matcher")
    count = len(arrays["empty_matches"])
    settings = RPN | {"allow_low_quality": allow_low_quality}
    for quality, valid in [
        (tf.zeros([0, count]), None),
        (tf.ones([3, count]), tf.constant([False] * 3)),
    ]:
        matches, labels = match(quality, **settings, valid=valid)
        np.testing.assert_array_equal(matches, arrays["empty_matches"])
        np.testing.assert_array_equal(labels, arrays["empty_labels"])


@pytest.mark.parametrize("settings", [RPN, ROI])
def test_padding_changes_nothing(oracle, settings):
    quality = oracle("matcher")["iou"]
    padded = np.concatenate([quality, np.ones((2, quality.shape[1]), np.float32)])
    valid = tf.constant([True] * len(quality) + [False] * 2)
    for alone, with_padding in zip(
        match(tf.constant(quality), **settings),
        match(tf.constant(padded), **settings, valid=valid),
        strict=True,
    ):
        np.testing.assert_array_equal(with_padding, alone)


def test_the_first_wins_a_tie_and_a_threshold_belongs_to_the_range_above():
    quality = tf.constant([[0.3, 0.7, 0.0], [0.3, 0.7, 0.0]])
    matches, labels = match(quality, [0.3, 0.7], [0, -1, 1], allow_low_quality=False)
    np.testing.assert_array_equal(matches, [0, 0, 0])
    np.testing.assert_array_equal(labels, [-1, 1, 0])


def test_low_quality_matches():
    quality = tf.constant([[0.1, 0.2, 0.2, 0.0], [0.8, 0.4, 0.0, 0.0]])
    matches, labels = match(quality, [0.3, 0.7], [0, -1, 1], allow_low_quality=True)
    # Both boxes that tie for the first ground truth; the second one keeps its better match.
    np.testing.assert_array_equal(labels, [1, 1, 1, 0])
    np.testing.assert_array_equal(matches, [1, 1, 0, 0])
    # Ground truth that overlaps nothing ties with everything that it does not overlap.
    _, labels = match(tf.zeros([1, 3]), [0.3, 0.7], [0, -1, 1], allow_low_quality=True)
    np.testing.assert_array_equal(labels, [1, 1, 1])


def test_no_boxes():
    matches, labels = match(tf.zeros([2, 0]), **RPN)
    assert matches.shape == labels.shape == (0,)
    assert pairwise_iou(tf.zeros([2, 4]), tf.zeros([0, 4])).shape == (2, 0)


def test_boxes_without_area_overlap_nothing():
    point = tf.constant([[5.0, 5, 5, 5]])
    inverted = tf.constant([[8.0, 8, 2, 2]])
    for a in (point, inverted):
        for b in (point, inverted, tf.constant([[0.0, 0, 10, 10]])):
            assert float(pairwise_iou(a, b)[0, 0]) == 0
            assert float(pairwise_ioa(b, a)[0, 0]) == 0


@pytest.mark.parametrize(
    ("thresholds", "labels"), [([0.5], [0]), ([0.7, 0.3], [0, -1, 1]), ([0.0], [0, 1])]
)
def test_thresholds_that_make_no_sense(thresholds, labels):
    with pytest.raises(ValueError, match="threshold"):
        match(tf.zeros([1, 1]), thresholds, labels, allow_low_quality=False)


def labels_of(positive: int, negative: int, ignored: int) -> np.ndarray:
    labels = np.array([1] * positive + [80] * negative + [-1] * ignored, np.int32)
    return np.random.default_rng(0).permutation(labels)


@pytest.mark.parametrize(
    ("positive", "negative", "taken"),
    [
        (300, 300, (64, 192)),  # enough of both
        (10, 300, (10, 246)),  # background fills up
        (300, 10, (64, 10)),  # foreground does not
        (3, 4, (3, 4)),
        (0, 300, (0, 256)),
        (0, 0, (0, 0)),
    ],
)
@pytest.mark.parametrize("static", [True, False])
def test_sampling_counts(positive, negative, taken, static):
    labels = labels_of(positive, negative, 50)

    @tf.function(
        input_signature=[tf.TensorSpec([len(labels) if static else None], tf.int32)],
        autograph=False,
    )
    def sample(labels):
        return subsample_labels(labels, 256, 0.25, 80, tf.constant([1, 2]))

    chosen_positive, chosen_negative = (chosen.numpy() for chosen in sample(labels))
    assert (chosen_positive.sum(), chosen_negative.sum()) == taken
    assert (labels[chosen_positive] == 1).all()
    assert (labels[chosen_negative] == 80).all()


def test_sampling_is_decided_by_the_seed_and_is_fair():
    labels = tf.constant(labels_of(40, 60, 0))

    @tf.function(autograph=False)
    def sample(seed):
        return tf.stack(subsample_labels(labels, 20, 0.5, 80, seed))

    np.testing.assert_array_equal(sample(tf.constant([3, 4])), sample(tf.constant([3, 4])))
    assert (sample(tf.constant([3, 4])).numpy() != sample(tf.constant([3, 5])).numpy()).any()
    counts = sum(sample(tf.constant([7, i])).numpy().sum(axis=0) for i in range(400))
    # 10 of 40 and 10 of 60, 400 times: means 100 and 66.7, standard deviations 8.7 and 7.5; five
    # of them bound the extremes of a hundred.
    assert abs(counts[labels.numpy() == 1] - 100).max() < 44
    assert abs(counts[labels.numpy() == 80] - 66.7).max() < 38


def test_under_xla():
    labels = tf.constant(labels_of(40, 60, 5))

    def sample(labels):
        return tf.stack(subsample_labels(labels, 20, 0.5, 80, tf.constant([3, 4])))

    compiled = tf.function(sample, jit_compile=True, autograph=False)
    np.testing.assert_array_equal(compiled(labels).numpy().sum(axis=1), [10, 10])
