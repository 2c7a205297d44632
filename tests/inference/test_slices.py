"""Slicing: against shapes whose place is known, with an ideal and with a trained model."""

from __future__ import annotations

import dataclasses
import pickle

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import DEMO
from tfdetect.config.capabilities import capabilities
from tfdetect.config.loader import load_config
from tfdetect.data.images import read_image
from tfdetect.data.shapes import draw_image
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.inference.merge_slices import merge_slices
from tfdetect.inference.pasted_masks import paste_encoded
from tfdetect.inference.slices import Slices, check_slices, predict_slices
from tfdetect.ops.paste_masks import paste_masks
from tfdetect.rle_masks import RLEMasks


def scene(seed, height, width, enlarge, connected=True):
    """An image whose pixels are 1 + the number of the shape there; and the class of each shape."""
    random = np.random.default_rng(seed)
    image, classes = np.zeros((height, width), np.uint8), []
    for _ in range(12):
        _, objects = draw_image(random)
        for one in objects:
            scale = random.uniform(1, enlarge)
            mask = cv2.resize(one.mask, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
            if connected and mask.any():
                _, pieces, statistics, _ = cv2.connectedComponentsWithStats(mask)
                mask = (pieces == statistics[1:, cv2.CC_STAT_AREA].argmax() + 1).astype(np.uint8)
            if mask.sum() < 200:
                continue
            rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
            mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] > 0
            if mask.shape[0] > height or mask.shape[1] > width:
                continue
            top, left = random.integers(0, [height - mask.shape[0] + 1, width - mask.shape[1] + 1])
            target = image[top : top + mask.shape[0], left : left + mask.shape[1]]
            # Shapes do not hide one another, but their boxes overlap.
            grown = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9)))
            if not target[grown > 0].any():
                target[mask] = len(classes) + 1
                classes.append(one.class_index)
    return np.repeat(image[..., None], 3, 2), np.array(classes)


class Ideal:
    """A model that sees what is in a slice, but has masks of 28 x 28 and somewhat wrong boxes."""

    def __init__(self, classes, seed=0, masks=True, error=2.0):
        self._classes = classes
        self._random = np.random.default_rng(seed)
        self._masks = masks
        self._error = error
        self.batches = []

    def __call__(self, images):
        self.batches.append(len(images))
        return [self._one(image[..., 0]) for image in images]

    def _one(self, image):
        height, width = image.shape
        boxes, soft, numbers = [], [], []
        for number in np.unique(image[image > 0]).tolist():
            mask = image == number
            if mask.sum() < 30:
                continue
            rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
            box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            box = box + self._random.uniform(-self._error, self._error, 4)
            box = np.clip(box, 0, [width, height, width, height]).astype(np.float32)
            if (box[2:] <= box[:2]).any():
                continue
            x, y = (
                np.linspace(low, high, 57)[1::2] for low, high in (box[[0, 2]], box[[1, 3]])
            )
            map_x, map_y = np.meshgrid(x.astype(np.float32) - 0.5, y.astype(np.float32) - 0.5)
            soft.append(cv2.remap(mask.astype(np.float32), map_x, map_y, cv2.INTER_LINEAR))
            boxes.append(box)
            numbers.append(number - 1)
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        soft = np.array(soft, np.float32).reshape(-1, 28, 28)
        size = np.array([height, width], np.int32)
        masks = paste_encoded(paste_masks, tf.constant(soft), tf.constant(boxes), size)
        scores = self._random.uniform(0.5, 1, len(boxes)).astype(np.float32)
        classes = self._classes[numbers].astype(np.int64)
        masks = masks if self._masks else None
        return Detections(height, width, boxes, scores, classes, masks)


def overlaps(masks, others):
    """IoU [N, M] of bool [N, P] with [M, P]."""
    first, second = (array.reshape(len(array), -1).astype(np.float32) for array in (masks, others))
    common = first @ second.T
    return common / (first.sum(1)[:, None] + second.sum(1) - common)


@pytest.mark.parametrize(("enlarge", "size", "overlap"), [(1, 512, 0.3), (3, 320, 0.2), (4, 200, 0.25)])
@pytest.mark.parametrize("seed", range(4))
def test_no_seam_through_an_object(seed, enlarge, size, overlap):
    """Objects of up to 1000 pixels, cut into as many as 25 parts, are each found once, whole."""
    image, classes = scene(seed, 900, 1100, enlarge)
    model = Ideal(classes, seed)
    found = predict_slices(model, image, Slices(size, overlap, batch_size=3))
    assert set(model.batches[:-1]) == {3}
    truth = np.array([image[..., 0] == number + 1 for number in range(len(classes))])
    iou = overlaps(truth, found.masks)
    assert len(found) == len(classes) > 5
    best = iou.argmax(1)
    assert sorted(best) == list(range(len(found)))
    np.testing.assert_array_equal(found.classes[best], classes)
    assert iou.max(1).min() > 0.6  # of thin limbs; see the next line
    unsliced = overlaps(truth, Ideal(classes, seed)([image])[0].masks).max(1)
    assert (iou.max(1) > unsliced - 0.12).all()
    assert (np.diff(found.scores) <= 0).all()
    for box, mask in zip(found.boxes, found.masks, strict=True):
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        around = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(box, around, atol=20)
