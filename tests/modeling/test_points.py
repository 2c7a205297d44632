"""PointRend's points: where Detectron2 looks, what is uncertain, and what the labels are."""

from __future__ import annotations

import ast

import numpy as np
import pytest
import tensorflow as tf

from tests.support.point_rend import draws, load_arrays
from tfdetect.masks.bitmasks import crop_bitmasks
from tfdetect.modeling.points import (
    mask_uncertainty,
    most_uncertain_on_grid,
    own_logits,
    point_labels,
    points_wrt_image,
    random_points,
    regular_grid,
    sample_fine_grained_features,
    semantic_uncertainty,
    uncertain_points_with_randomness,
)
from tfdetect.modeling.roi_heads.mask_losses import mask_rcnn_loss
from tfdetect.modeling.roi_heads.point_losses import roi_mask_point_loss
from tfdetect.modeling.roi_heads.sampling import SampledProposals
from tfdetect.modeling.structures import Targets

TOLERANCE = {"rtol": 0, "atol": 1e-5}
RECORD = load_arrays("ops")
BOXES = np.concatenate([RECORD["boxes_0"], RECORD["boxes_1"]])
IMAGES = tf.constant([0] * 4 + [1])


def nhwc(array):
    return tf.constant(np.moveaxis(array, 1, -1))


def uncertainty_of_class():
    return mask_uncertainty(own_logits(nhwc(RECORD["logits"]), tf.constant(RECORD["classes"])))


@pytest.mark.parametrize("side", [1, 7, 14, 28])
def test_regular_grid(side):
    expected = RECORD[f"regular_grid_{side}"][0]
    np.testing.assert_allclose(regular_grid(side), expected, rtol=0, atol=1e-6)


def test_uncertainty():
    logits = nhwc(RECORD["logits"])
    np.testing.assert_array_equal(uncertainty_of_class(), RECORD["uncertainty_class"][:, 0])
    one = own_logits(logits[..., :1], tf.constant(RECORD["classes"]))
    np.testing.assert_array_equal(mask_uncertainty(one), RECORD["uncertainty_agnostic"][:, 0])
    np.testing.assert_allclose(
        semantic_uncertainty(logits), RECORD["uncertainty_semantic"][:, 0], **TOLERANCE
    )


@pytest.mark.parametrize("count", [1, 30, 120, 500])
def test_most_uncertain_on_grid(count):
    indices, points = most_uncertain_on_grid(uncertainty_of_class(), count)
    np.testing.assert_array_equal(indices, RECORD[f"on_grid_{count}_indices"])
    np.testing.assert_allclose(points, RECORD[f"on_grid_{count}_coords"], **TOLERANCE)


def test_of_equal_ones_the_first():
    """Detectron2 takes any of them."""
    recorded = RECORD["tie_5_indices"][0]
    tie = tf.constant(RECORD["tie_map"][:, 0])
    indices = most_uncertain_on_grid(tie, 5)[0][0].numpy()
    values = tie.numpy().ravel()
    np.testing.assert_array_equal(np.sort(values[indices]), np.sort(values[recorded]))
    equal = values[indices] == values[indices[-1]]
    assert list(indices[equal]) == list(
        np.flatnonzero(values == values[indices[-1]])[: equal.sum()]
    )


def test_most_uncertain_of_the_own_part():
    """In a larger grid a row's own cells are chosen as they are alone; none other goes before."""
    alone = uncertainty_of_class()
    padded = tf.pad(alone, [[0, 0], [0, 2], [0, 4]], constant_values=1.0)
    sizes = tf.constant([alone.shape[1:]] * 3)
    expected, points = most_uncertain_on_grid(alone, 30)
    indices, found = most_uncertain_on_grid(padded, 30, sizes)
    np.testing.assert_array_equal(found, points)
    np.testing.assert_array_equal(indices // 16 * 12 + indices % 16, expected)
    everything, _ = most_uncertain_on_grid(padded, 150, sizes)
    own = (everything.numpy() % 16 < 12) & (everything.numpy() // 16 < 10)
    assert own[:, :120].all()
    assert not own[:, 120:].any()


@pytest.mark.parametrize("case", ["20_3_0.75", "20_3_1", "20_1_0", "33_2_0.5"])
def test_uncertain_points_with_randomness(case):
    count, oversample, importance = ast.literal_eval(f"[{case.replace('_', ', ')}]")
    shapes = ast.literal_eval(str(RECORD[f"with_randomness_{case}_draws"]))
    asked, draw = [], draws(6000)

    def recorded_draw(number, which):
        asked.append((3, number, 2))
        assert which == len(asked) - 1
        return tf.constant(draw(asked[-1]))

    logits = own_logits(nhwc(RECORD["logits"]), tf.constant(RECORD["classes"]))[..., None]
    points = uncertain_points_with_randomness(
        logits,
        lambda values: mask_uncertainty(values[..., 0]),
        recorded_draw,
        num_points=count,
        oversample_ratio=oversample,
        importance_sample_ratio=importance,
    )
    assert asked == [tuple(shape) for shape in shapes]
    np.testing.assert_allclose(points, RECORD[f"with_randomness_{case}"], **TOLERANCE)


def test_random_points_of_an_image_are_its_own():
    seeds = tf.constant([[7, 1], [7, 2], [7, 3]])
    together = random_points(seeds, tf.constant([0, 0, 2, 2, 2]), 6, 2)
    assert together.shape == (5, 6, 2)
    assert 0 <= together.numpy().min() < together.numpy().max() < 1
    np.testing.assert_array_equal(together[:2], random_points(seeds[:1], [0, 0], 6, 2))
    np.testing.assert_array_equal(together[2:], random_points(seeds[2:], [0, 0, 0], 6, 2))
    assert len(np.unique(together)) == 5 * 6 * 2
    assert not np.isin(together, random_points(seeds, [0, 0, 2, 2, 2], 6, 3)).any()
    assert random_points(seeds, tf.zeros([0], tf.int32), 6, 2).shape == (0, 6, 2)


def test_fine_grained_features(implementation):
    features = {f"p{i}": nhwc(RECORD[f"feature_{i}"]) for i in (0, 1)}
    strides = {f"p{i}": round(1 / scale) for i, scale in enumerate(RECORD["scales"])}
    points = tf.constant(RECORD["box_points"])
    np.testing.assert_allclose(
        points_wrt_image(tf.constant(BOXES), points), RECORD["points_wrt_image"], rtol=1e-6
    )
    found = sample_fine_grained_features(features, strides, tf.constant(BOXES), IMAGES, points)
    np.testing.assert_allclose(np.moveaxis(found, 2, 1), RECORD["fine_grained"], **TOLERANCE)


def test_point_labels_and_loss(implementation):
    masks = np.concatenate([RECORD["gt_masks_0"], RECORD["gt_masks_1"]])
    position = tf.constant(RECORD["points_wrt_image"])
    labels = point_labels(tf.constant(masks), position, tf.range(5))
    np.testing.assert_allclose(labels, RECORD["point_labels"], **TOLERANCE)
    # In a larger batch each is measured in its own size.
    padded = np.pad(masks, [[0, 0], [0, 7], [0, 9]])
    sizes = tf.constant([masks.shape[1:]] * 5)
    again = point_labels(tf.constant(padded), position, tf.range(5), sizes)
    np.testing.assert_array_equal(again, labels)

    classes = tf.constant(np.concatenate([RECORD["gt_classes_0"], RECORD["gt_classes_1"]]))
    logits = tf.constant(RECORD["point_logits"].transpose(0, 2, 1))
    own = own_logits(logits, classes)
    ignored = tf.constant(RECORD["labels_with_ignored"])
    for name, found in (
        ("point_loss", roi_mask_point_loss(own, labels)),
        ("point_loss_with_ignored", roi_mask_point_loss(own, ignored)),
        ("point_loss_agnostic", roi_mask_point_loss(own_logits(logits[..., :1], classes), ignored)),
        ("point_loss_no_masks", roi_mask_point_loss(own[:0], labels[:0])),
    ):
        np.testing.assert_allclose(found, RECORD[name], **TOLERANCE, err_msg=name)


def test_coarse_mask_loss(implementation):
    masks = np.concatenate([RECORD["gt_masks_0"], RECORD["gt_masks_1"]])
    targets = crop_bitmasks(tf.constant(masks), tf.constant(BOXES), tf.range(5), 7)
    np.testing.assert_array_equal(targets, RECORD["coarse_targets"])
    bitmasks = np.zeros([2, 4, *masks.shape[1:]], bool)
    bitmasks[0], bitmasks[1, 0] = RECORD["gt_masks_0"], RECORD["gt_masks_1"][0]
    classes = tf.constant(np.concatenate([RECORD["gt_classes_0"], RECORD["gt_classes_1"]]))
    regions = SampledProposals(
        boxes=tf.constant(BOXES),
        image_indices=IMAGES,
        gt_indices=tf.constant([0, 1, 2, 3, 0]),
        gt_classes=tf.cast(classes, tf.int32),
        gt_boxes=tf.constant(BOXES),
    )
    empty = tf.zeros([2, 4])
    objects = Targets(empty, empty, empty, gt_bitmasks=tf.constant(bitmasks))
    found = mask_rcnn_loss(nhwc(RECORD["coarse_mask"]), regions, objects, 7)
    np.testing.assert_allclose(found, RECORD["coarse_mask_loss"], **TOLERANCE)
