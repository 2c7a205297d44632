"""Keypoint decoding against Detectron2's."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdetect.ops.bicubic import bicubic_weights
from tfdetect.ops.keypoints import decode_keypoints


def test_recorded(oracle, implementation):
    """Positions to 1e-5 of the largest, logits and scores to 1e-5 of theirs."""
    data = oracle("keypoints")
    heatmaps = np.transpose(data["heatmaps"], [0, 2, 3, 1])
    decoded = decode_keypoints(heatmaps, data["boxes"]).numpy()
    for column in range(4):
        expected = data["decoded"][..., column]
        np.testing.assert_allclose(
            decoded[..., column], expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )


def test_bicubic(oracle):
    data = oracle("interpolate")
    for key in ("bicubic_29x17", "bicubic_5x7"):
        expected = data[key]
        resized = tf.einsum(
            "hy,ncyx,wx->nchw",
            bicubic_weights(11, expected.shape[2], tf.range(expected.shape[2])),
            data["x"],
            bicubic_weights(13, expected.shape[3], tf.range(expected.shape[3])),
        )
        np.testing.assert_allclose(resized, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_first_of_equal_maxima(implementation):
    """A constant map is constant when enlarged: the maximum is the first pixel's centre."""
    decoded = decode_keypoints(
        np.zeros([1, 56, 56, 2], np.float32), np.array([[10, 20, 14.5, 26]], np.float32)
    )
    np.testing.assert_allclose(decoded[0, :, :2], [[10 + 0.5 * 4.5 / 5, 20.5]] * 2, atol=1e-5)


def test_hostile_boxes(implementation):
    rng = np.random.default_rng(0)
    boxes = np.array(
        [
            [np.nan, 0, 10, 10],
            [0, 0, np.inf, 10],
            [9, 9, 5, 5],
            [5, 5, 5, 5],
            [0, 0, 60000, 2],
            [-1e30, 0, 1e30, 1],
        ],
        np.float32,
    )
    heatmaps = rng.normal(size=[6, 14, 14, 3]).astype(np.float32)
    decoded = decode_keypoints(heatmaps, boxes).numpy()
    assert np.isfinite(decoded).all()
    assert not decoded[:2].any()
    np.testing.assert_allclose(decoded[2, :, :2], 9.5)
    np.testing.assert_allclose(decoded[3, :, :2], 5.5)
    assert (decoded[4, :, 0] >= 0).all()
    assert (decoded[4, :, 0] <= 60000).all()


def test_nothing(implementation):
    none = decode_keypoints(np.zeros([0, 56, 56, 17], np.float32), np.zeros([0, 4], np.float32))
    assert none.shape == (0, 17, 4)
