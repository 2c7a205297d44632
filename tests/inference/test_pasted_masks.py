"""Masks that are encoded as they are pasted, against all of them pasted at once."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.inference import pasted_masks
from tfdetect.ops.paste_masks import paste_masks

SIZE = np.array([61, 83], np.int32)


@pytest.mark.parametrize("as_images", [False, True])
@pytest.mark.parametrize("mask_size", [2, 28])
def test_every_pixel(implementation, as_images, mask_size, monkeypatch):
    """Boxes of all sizes, in the image and beyond it, hostile ones too; in groups of three."""
    random = np.random.default_rng(0)
    corner = random.uniform(-40, 90, (300, 2))
    sides = np.exp(random.uniform(-2, 5, (300, 2)))
    boxes = np.concatenate([corner, corner + sides], 1)
    hostile = [
        [np.nan, 0, 10, 10],
        [0, 0, np.inf, 10],
        [5, 5, 5, 9],
        [9, 9, 5, 5],
        [-1e9, -1e9, 1e9, 1e9],
        [-3e38, 0, 3e38, 10],
        [1e9, 1e9, 2e9, 2e9],
        [0, 0, 83, 61],
    ]
    boxes = np.concatenate([boxes, hostile]).astype(np.float32)
    masks = random.random((len(boxes), mask_size, mask_size)).astype(np.float32)
    masks[::3] = 1
    paste = functools.partial(paste_masks, as_images=as_images)
    wanted = paste(masks, boxes, SIZE).numpy()
    assert wanted.any((1, 2)).sum() > 60
    monkeypatch.setattr(pasted_masks, "_PIXELS", 3 * 61 * 83)
    found = pasted_masks.paste_encoded(paste, tf.constant(masks), tf.constant(boxes), SIZE)
    np.testing.assert_array_equal(found.decode(), wanted)


def test_memory_is_of_one_mask(monkeypatch):
    """Of an image of 48 megapixels they are pasted one by one."""
    at_once = []

    def paste(masks, boxes, size):
        at_once.append(len(masks))
        return tf.zeros([len(masks), *size], tf.bool)

    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32), (3, 1))
    size = np.array([6000, 8000], np.int32)
    found = pasted_masks.paste_encoded(paste, np.ones((3, 28, 28), np.float32), boxes, size)
    assert at_once == [1, 1, 1]
    assert found.areas().tolist() == [0, 0, 0]
