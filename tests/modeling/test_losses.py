"""Box losses against those that Detectron2 uses, recorded."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.modeling.losses import ciou_loss, diou_loss, giou_loss, smooth_l1_loss

# The beta of smooth_l1_b in tests/arrays/ops/losses.npz.
BETA = 1.0 / 9


@pytest.mark.parametrize(("key", "beta"), [("smooth_l1_0", 0.0), ("smooth_l1_b", BETA)])
def test_smooth_l1(oracle, key, beta):
    arrays = oracle("losses")
    # Sums of 200 float32 in another order.
    total = smooth_l1_loss(arrays["x"], arrays["y"], beta, "sum")
    np.testing.assert_allclose(total, arrays[key], rtol=1e-6)
    each = smooth_l1_loss(arrays["x"], arrays["y"], beta)
    np.testing.assert_allclose(np.sum(each), arrays[key], rtol=1e-6)


def test_giou(oracle):
    arrays = oracle("losses")
    # A few float32 operations on areas of some thousands; the losses are around 1.
    losses = giou_loss(arrays["p"], arrays["q"])
    np.testing.assert_allclose(losses, arrays["giou"], rtol=0, atol=1e-6)
    total = giou_loss(arrays["p"], arrays["q"], "sum")
    np.testing.assert_allclose(total, arrays["giou"].sum(), rtol=1e-6)


@pytest.mark.parametrize(("key", "loss"), [("diou", diou_loss), ("ciou", ciou_loss)])
def test_diou_and_ciou(oracle, key, loss):
    """Recorded with gradients; the last pairs share sides, lie apart or have no height."""
    arrays = oracle("iou_losses")
    value, slope = gradient(loss, arrays["predictions"], arrays["targets"])
    # As giou; a gradient is of the order of 1 by the side of a box.
    np.testing.assert_allclose(value, arrays[key], rtol=0, atol=1e-6)
    np.testing.assert_allclose(slope, arrays[f"{key}_grad"], rtol=1e-5, atol=1e-6)
    total = loss(arrays["predictions"], arrays["targets"], "sum")
    np.testing.assert_allclose(total, arrays[key].sum(), rtol=1e-6)


def gradient(loss, predictions, targets):
    predictions = tf.constant(predictions, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(predictions)
        value = loss(predictions, tf.constant(targets, tf.float32))
    return value.numpy(), tape.gradient(value, predictions).numpy()


@pytest.mark.parametrize("beta", [0.0, BETA])
def test_smooth_l1_is_flat_at_zero(beta):
    value, slope = gradient(lambda x, y: smooth_l1_loss(x, y, beta), [0.0, 2.0], [0.0, 1.0])
    np.testing.assert_allclose(value, [0, 1 - beta / 2])
    np.testing.assert_array_equal(slope, [0, 1])


def test_smooth_l1_meets_smoothly():
    value, slope = gradient(
        lambda x, y: smooth_l1_loss(x, y, 0.5), [0.25, -0.25, 0.5, -3.0], [0.0] * 4
    )
    np.testing.assert_array_equal(value, [0.0625, 0.0625, 0.25, 2.75])
    np.testing.assert_array_equal(slope, [0.5, -0.5, 1, -1])


def test_giou_of_a_box_with_itself_and_of_points():
    boxes = [[0.0, 0, 10, 10], [5, 5, 5, 5], [0, 0, 0, 8]]
    value, slope = gradient(giou_loss, boxes, boxes)
    # eps is 1e-7 of an area of 100.
    np.testing.assert_allclose(value, [0, 1, 1], atol=1e-6)
    assert np.isfinite(slope).all()
    # At the optimum the gradient is the mean of those on both sides, which cancel.
    np.testing.assert_allclose(slope[0], 0, atol=1e-7)


def test_giou_gradient_is_the_slope():
    prediction, target = np.array([[1.0, 2, 8, 9]]), np.array([[3.0, 1, 9, 7]])
    _, slope = gradient(giou_loss, prediction, target)
    for side in range(4):
        step = np.zeros((1, 4))
        step[0, side] = 0.125
        above, below = (giou_loss(tf.constant(prediction + s), target) for s in (step, -step))
        # Central differences in float64: the error is of the order of step ** 2.
        np.testing.assert_allclose(slope[0, side], (above - below)[0] / 0.25, atol=2e-4)


def test_no_boxes():
    for loss in (giou_loss, diou_loss, ciou_loss):
        assert float(loss(tf.zeros([0, 4]), tf.zeros([0, 4]), "sum")) == 0
    assert float(smooth_l1_loss(tf.zeros([0, 4]), tf.zeros([0, 4]), BETA, "sum")) == 0
