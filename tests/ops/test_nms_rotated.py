"""NMS of rotated boxes against Detectron2's on the CPU; exact."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.rotated import record
from tfdetect.ops.backend import Backend
from tfdetect.ops.nms import batched_nms_rotated, best_after_nms

# By key of the record, where another one than the first.
CASES = [f"{kind}_{t}" for kind in ("nms", "batched") for t in (0.1, 0.3, 0.5, 0.7)]
CASES += ["negative_batched_0.5", "many_ids_batched_0.5"]


@pytest.fixture(scope="module")
def data():
    """The record, with scores that are all different, in the order that PyTorch sorted them.

    It does not say how it sorts equal scores (`order` is what it gave); here that is by index.
    """
    arrays = record("nms")
    scores = np.empty(len(arrays["order"]), np.float32)
    scores[arrays["order"]] = np.arange(len(scores), 0, -1)
    return arrays | {"scores": scores}


def arguments(data, case):
    boxes = data["negative_boxes" if case.startswith("negative") else "boxes"]
    ids = data["many_ids" if case.startswith("many") else "ids"].astype(np.int32)
    return boxes, data["scores"], ids if "batched" in case else np.zeros_like(ids)


def by_score(keep, scores):
    indices = np.flatnonzero(keep)
    return indices[np.argsort(-scores[indices], kind="stable")]


@pytest.mark.parametrize("case", CASES)
def test_recorded(implementation, data, case):
    boxes, scores, ids = arguments(data, case)
    keep = batched_nms_rotated(boxes, scores, ids, float(case.rpartition("_")[2]))
    np.testing.assert_array_equal(by_score(keep, scores), data[case])


def test_fixed_shapes(data):
    boxes, scores, ids = arguments(data, "batched_0.3")

    @tf.function(autograph=False)
    @Backend(fixed_shapes=True).active()
    def best():
        return best_after_nms(tf.constant(boxes[None]), scores[None], ids[None], 0.3, 60)

    found, count = best()
    assert count == 60
    np.testing.assert_array_equal(found[0], data["batched_0.3"][:60])


@pytest.mark.parametrize("threshold", [0.5, 0.5000001])
def test_an_iou_of_the_threshold_suppresses(implementation, data, threshold):
    boxes, scores = data["exact_boxes"], data["exact_scores"]
    keep = batched_nms_rotated(boxes, scores, np.zeros(4, np.int32), threshold)
    np.testing.assert_array_equal(by_score(keep, scores), data[f"exact_nms_{threshold}"])


def test_images_do_not_depend_on_each_other(implementation, data):
    """A batch gives what each image gives: groups are moved apart by the image's own boxes."""
    boxes, scores, ids = arguments(data, "batched_0.5")
    batch = np.stack([boxes, boxes * np.array([9, 9, 1, 1, 1], np.float32)])
    ids = np.stack([ids, ids[::-1]])
    scores = np.stack([scores, scores])
    together = best_after_nms(batch, scores, ids, 0.5, 300)
    for image in range(2):
        one = slice(image, image + 1)
        alone = best_after_nms(batch[one], scores[one], ids[one], 0.5, 300)
        for values, expected in zip(together, alone, strict=True):
            np.testing.assert_array_equal(values[one], expected)


def test_hostile(implementation):
    boxes = np.array(
        [
            [np.nan, 0, 1, 1, 0],
            [0, 0, 1, 1, np.inf],
            [0, 0, 1, 1, 0],
            [0, 0, 1, 1, 90],
            [0, 0, 1, 1, 180],
            [9, 9, 0, 0, 0],
            [9, 9, 0, 0, 0],
        ],
        np.float32,
    )
    scores = np.array([1, 1, np.nan, 0.5, 0.4, 0.1, 0.1], np.float32)
    keep = batched_nms_rotated(boxes, scores, np.zeros(7, np.int32), 0.5)
    np.testing.assert_array_equal(keep, [False, False, False, True, False, True, True])
    assert not batched_nms_rotated(boxes, scores, np.full(7, -1), 0.5).numpy().any()
    none = np.zeros([0], np.float32)
    assert batched_nms_rotated(
        np.zeros([0, 5], np.float32), none, tf.zeros([0], tf.int32), 0.5
    ).shape == (0,)
