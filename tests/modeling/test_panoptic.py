"""The combination of instances and stuff against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model
from tfdetect.modeling.panoptic import combine_semantic_and_instance_outputs
from tfdetect.modeling.structures import Instances

HEIGHT = WIDTH = 24
STUFF = 6


def random_case(seed):
    """Ten slots of which nine are used, masks of rectangles, one of them empty; stuff in blocks."""
    rng = np.random.default_rng(seed)
    masks = np.zeros([10, HEIGHT, WIDTH], bool)
    for mask in masks[1:]:
        y, x = rng.integers(0, 16, 2)
        height, width = rng.integers(3, 14, 2)
        mask[y : y + height, x : x + width] = True
    scores = np.sort(rng.uniform(0.2, 1, 10).astype(np.float32))[::-1].copy()
    scores[4] = 0.5  # the threshold: kept
    scores = scores[rng.permutation(10)]
    labels = rng.integers(0, STUFF, [6, 6]).astype(np.int32).repeat(4, 0).repeat(4, 1)
    return masks, scores, rng.integers(0, 80, 10).astype(np.int32), labels


def combine(masks, scores, classes, labels, count, area_limit):
    # A mask of the image's own size in a box that covers the image is pasted as it is.
    detections = {
        "pred_boxes": np.tile(np.float32([0, 0, WIDTH, HEIGHT]), [len(masks), 1]),
        "pred_masks": masks.astype(np.float32),
        "scores": scores,
        "pred_classes": classes,
        "num_detections": count,
    }
    return tf.function(combine_semantic_and_instance_outputs, autograph=False)(
        Instances(**{name: tf.constant(value) for name, value in detections.items()}),
        tf.constant(labels),
        num_stuff_classes=STUFF,
        overlap_threshold=0.5,
        stuff_area_limit=area_limit,
        instances_confidence_threshold=0.5,
    )


def plain_loop(masks, scores, classes, labels, count, area_limit):
    panoptic = np.zeros_like(labels)
    segments = []
    for index in sorted(range(count), key=lambda index: -scores[index]):
        area = masks[index].sum()
        if scores[index] < 0.5 or area == 0:
            continue
        free = masks[index] & (panoptic == 0)
        if (area - free.sum()) / area > 0.5:
            continue
        panoptic[free] = len(segments) + 1
        segments.append((int(classes[index]), True, scores[index], index))
    for label in np.unique(labels):
        free = (labels == label) & (panoptic == 0)
        if label > 0 and free.sum() >= area_limit:
            panoptic[free] = len(segments) + 1
            segments.append((int(label), False, 0, 0))
    return panoptic, segments


@pytest.mark.parametrize("area_limit", [0, 20, 10_000])
@pytest.mark.parametrize("seed", range(4))
def test_combination(implementation, seed, area_limit):
    case = random_case(seed)
    expected, segments = plain_loop(*case, 9, area_limit)
    found = combine(*case, 9, area_limit)
    np.testing.assert_array_equal(found["panoptic_seg"], expected)
    names = ("category_ids", "isthing", "scores", "instance_ids")
    count = int(found["num_segments"])
    assert count == len(segments)
    columns = [found[f"segment_{name}"].numpy() for name in names]
    assert {len(column) for column in columns} == {10 + STUFF}
    assert [tuple(row) for row in zip(*(c[:count].tolist() for c in columns))] == segments  # noqa: B905
    areas = np.bincount(expected.ravel(), minlength=count + 1)[1:]
    np.testing.assert_array_equal(found["segment_areas"][:count], areas)


def test_nothing_and_everything(implementation):
    """No detections and stuff of class 0 only: no segment. One detection of it all: one."""
    masks = np.ones([2, HEIGHT, WIDTH], bool)
    scores, classes = np.float32([0.9, 0.8]), np.int32([3, 4])
    things = np.zeros([HEIGHT, WIDTH], np.int32)
    none = combine(masks, scores, classes, things, 0, 20)
    assert none["num_segments"] == 0
    assert not none["panoptic_seg"].numpy().any()
    one = combine(masks, scores, classes, things + 2, 2, 20)
    assert one["num_segments"] == 1
    assert (one["panoptic_seg"].numpy() == 1).all()
    assert one["segment_category_ids"][0] == 3


def test_masks_are_needed():
    from tests.support.dense_models import CONFIGS, NARROW, ROOT

    options = [str(item) for pair in NARROW.items() for item in pair]
    path = ROOT / "configs" / f"{CONFIGS['panoptic']}.yaml"
    with pytest.raises(InputError, match=r"MODEL\.MASK_ON"):
        build_model(load_config(path, [*options, "MODEL.MASK_ON", "False"]))
