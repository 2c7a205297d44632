"""Pictures: what must be in them, what must not, and that nothing else changes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as mask_codec

from tests.support.paths import DATA, DEMO
from tfdetect.data.images import read_image
from tfdetect.detections import Detections
from tfdetect.visualize.pictures import PALETTE, draw_detections

GREY = np.full((600, 800, 3), 120, np.uint8)
NAMES = ["cat", "dog"]


def _detections(boxes, scores=None, classes=None, shape=(600, 800), **more):
    count = len(boxes)
    return Detections(
        height=shape[0],
        width=shape[1],
        boxes=np.array(boxes, np.float32).reshape(count, 4),
        scores=np.array([0.9] * count if scores is None else scores, np.float32),
        classes=np.array([0] * count if classes is None else classes, np.int64),
        **more,
    )


def _is(picture, color):
    return (picture == color.as_bgr()).all(axis=-1)


def test_nothing_to_draw_gives_the_image_itself():
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    before = noise.copy()
    np.testing.assert_array_equal(draw_detections(noise, _detections([]), NAMES), noise)
    drawn = draw_detections(noise, _detections([[300, 200, 500, 400]]), NAMES)
    np.testing.assert_array_equal(noise, before)
    changed = np.flatnonzero((drawn != noise).any(axis=(1, 2)))
    # The box, its line and the label above it, and nothing else.
    assert changed.min() > 160
    assert changed.max() <= 402
    np.testing.assert_array_equal(drawn[210:390, 310:490], noise[210:390, 310:490])


@pytest.mark.parametrize(
    ("shape", "factor"), [((600, 800), 1), ((212, 327), 2), ((200, 150), 3), ((4, 6), 8)]
)
def test_small_images_are_enlarged(shape, factor):
    image = np.full((*shape, 3), 120, np.uint8)
    drawn = draw_detections(image, _detections([[1, 1, 3, 3]], shape=shape), NAMES)
    assert drawn.shape == (factor * shape[0], factor * shape[1], 3)
    assert drawn.dtype == np.uint8
    assert (drawn != 120).any()


def test_box_lies_where_it_should():
    drawn = draw_detections(GREY, _detections([[300, 200, 500, 400]]), NAMES)
    line = _is(drawn, PALETTE.by_idx(0))
    for y, x in ((300, 300), (300, 500), (400, 400), (200, 490)):
        near = line[y - 2 : y + 3, x - 2 : x + 3]
        assert near.any()
        assert not near.all()


def test_threshold_is_inclusive():
    boxes = [[100, 100, 200, 200], [300, 300, 400, 400]]
    both = _detections(boxes, scores=[0.5, 0.49], classes=[0, 1])
    drawn = draw_detections(GREY, both, NAMES)
    only = draw_detections(GREY, both.select(np.array([0])), NAMES)
    np.testing.assert_array_equal(drawn, only)
    assert (only != GREY).any()
    more = draw_detections(GREY, both, NAMES, confidence_threshold=0.4)
    assert _is(more, PALETTE.by_idx(1)).any()


def test_colours_are_of_classes_or_of_instances():
    boxes = [[100, 100, 200, 200], [300, 300, 400, 400]]
    by_class = draw_detections(GREY, _detections(boxes, classes=[1, 1]), NAMES)
    assert not _is(by_class, PALETTE.by_idx(0)).any()
    masks = np.zeros((2, 600, 800), bool)
    by_instance = draw_detections(GREY, _detections(boxes, classes=[1, 1], masks=masks), NAMES)
    assert _is(by_instance[:250], PALETTE.by_idx(0)).any()
    assert _is(by_instance[250:], PALETTE.by_idx(1)).any()
    # An instance keeps its colour when another threshold shows other detections.
    scored = _detections(boxes, scores=[0.9, 0.6], masks=masks)
    fewer = draw_detections(GREY, scored, NAMES, confidence_threshold=0.7)
    assert _is(fewer[:250], PALETTE.by_idx(0)).any()


@pytest.mark.parametrize(
    "box",
    [[0, 0, 800, 600], [0, 0, 9, 9], [791, 0, 800, 9], [791, 591, 800, 600], [0, 591, 9, 600]],
)
def test_labels_stay_in_the_picture(box):
    drawn = draw_detections(GREY, _detections([box]), ["a class of some length"])
    label = _is(drawn, PALETTE.by_idx(0))
    inside = draw_detections(GREY, _detections([[300, 300, 309, 309]]), ["a class of some length"])
    # The label's own pixels, within a box line that the picture's border may cover in part.
    assert label.sum() > 0.9 * _is(inside, PALETTE.by_idx(0)).sum()


def test_a_label_wider_than_the_picture_shrinks():
    image = np.full((900, 60, 3), 120, np.uint8)
    boxes = _detections([[20, 300, 40, 500]], shape=(900, 60))
    drawn = draw_detections(image, boxes, ["traffic light"])
    label = _is(drawn[250:297], PALETTE.by_idx(0))
    # Its round corner at the right is in the picture, so its text is.
    assert 0 < label[:, -1].sum() < label.any(axis=1).sum()


def test_labels_of_equal_boxes_do_not_cover_each_other():
    boxes = [[300, 300, 500, 500]] * 2
    both = draw_detections(GREY, _detections(boxes, classes=[0, 1]), ["same", "same"])
    alone = draw_detections(GREY, _detections(boxes[:1]), ["same"])
    label = _is(alone[250:298], PALETTE.by_idx(0)).sum()
    for index in (0, 1):
        assert _is(both, PALETTE.by_idx(index)).sum() >= label


def test_mask_is_translucent_with_a_contour():
    masks = np.zeros((1, 600, 800), bool)
    masks[0, 250:350, 350:450] = True
    box = [[300, 200, 500, 400]]
    drawn = draw_detections(GREY, _detections(box, masks=masks), NAMES)
    expected = 0.4 * np.array(PALETTE.by_idx(0).as_bgr()) + 0.6 * 120
    # Rounding of the blend, to whole grey levels.
    np.testing.assert_allclose(drawn[300, 400], expected, atol=1)
    assert (drawn[230, 330] == 120).all()
    assert _is(drawn, PALETTE.by_idx(0))[249:252, 400].any()


def test_crossing_masks_and_an_empty_one():
    masks = np.zeros((3, 600, 800), bool)
    masks[0, :, :500] = True
    masks[1, 599, 799] = True
    boxes = [[0, 0, 500, 600], [799, 599, 800, 600], [5, 5, 9, 9]]
    assert draw_detections(GREY, _detections(boxes, masks=masks), NAMES).shape == GREY.shape


def _with_keypoints(scores, classes=None):
    points = np.array([[[350, 250], [450, 250], [400, 350]]], np.float32)
    keypoints = np.concatenate([points, np.array(scores, np.float32).reshape(1, 3, 1)], -1)
    return _detections([[300, 200, 500, 400]], classes=classes, keypoints=keypoints)


def test_keypoints_and_the_skeleton():
    edges = [(0, 1), (1, 2)]
    none = draw_detections(GREY, _with_keypoints([0.04, 0.04, 0.04]), NAMES, edges)
    assert (none[210:390, 310:490] == 120).all()
    two = draw_detections(GREY, _with_keypoints([0.06, 0.9, 0.04]), NAMES, edges)
    assert (two[250, 350] == 255).all()
    assert (two[250, 450] == 255).all()
    assert (two[250, 400] == PALETTE.by_idx(0).as_bgr()).all()
    assert (two[310:390, 310:490] == 120).all()
    no_skeleton = draw_detections(GREY, _with_keypoints([0.9, 0.9, 0.9]), NAMES)
    assert (no_skeleton[250, 400] == 120).all()
    assert (no_skeleton[350, 400] == 255).all()


def test_classes_without_keypoints():
    dog = _with_keypoints([0.9, 0.9, 0.9], classes=[1])
    drawn = draw_detections(GREY, dog, NAMES, [(0, 1)], keypoint_classes=[0])
    assert (drawn[210:390, 310:490] == 120).all()


def test_a_class_beyond_the_names_is_numbered():
    boxes = [[300, 200, 500, 400]]
    named = draw_detections(GREY, _detections(boxes, classes=[1]), ["0", "1"])
    np.testing.assert_array_equal(
        draw_detections(GREY, _detections(boxes, classes=[1]), ["0"]), named
    )


def test_an_image_of_another_size():
    with pytest.raises(ValueError, match="600 x 800"):
        draw_detections(GREY[:-1], _detections([]), NAMES)


def test_large_pictures_are_drawn_without_supersampling():
    image = np.full((40, 2100, 3), 120, np.uint8)
    drawn = draw_detections(image, _detections([[9, 9, 900, 30]], shape=(40, 2100)), NAMES)
    assert drawn.shape == image.shape
    assert _is(drawn, PALETTE.by_idx(0)).any()
    assert (image == 120).all()


def test_recorded_detections_look_the_same_every_time():
    record = json.loads((DATA / "tiny" / "joint_rcnn.json").read_text())[16]
    image = read_image(DEMO / "images" / record["file_name"])
    detections = Detections(
        height=record["height"],
        width=record["width"],
        boxes=np.array(record["pred_boxes"], np.float32),
        scores=np.array(record["scores"], np.float32),
        classes=np.array(record["pred_classes"]),
        masks=np.stack([mask_codec.decode(rle) for rle in record["pred_masks"]]).astype(bool),
        keypoints=np.array(record["pred_keypoints"], np.float32),
    )
    skeleton = [(5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12)]
    drawn = draw_detections(image, detections, ["person"], skeleton)
    np.testing.assert_array_equal(draw_detections(image, detections, ["person"], skeleton), drawn)
    assert drawn.shape == (702, 708, 3)
    for index in range(10):
        assert _is(drawn, PALETTE.by_idx(index)).sum() > 200


def test_colours_and_labels_follow_ids():
    """Not the order of the detections, nor their classes, nor which of them are shown."""
    boxes = [[100, 300, 200, 400], [300, 300, 400, 400], [500, 300, 600, 400]]
    found = _detections(boxes, scores=[0.9, 0.2, 0.9], classes=[0, 1, 1])
    drawn = draw_detections(GREY, found, NAMES, ids=np.array([5, 7, 2 + len(PALETTE.colors)]))
    for left, index in ((100, 5), (500, 2)):
        assert _is(drawn[350, left - 3 : left + 4], PALETTE.by_idx(index)).any()
    assert not _is(drawn, PALETTE.by_idx(7)).any()
    unlabelled = draw_detections(GREY, found, NAMES)
    # The label is longer by its id.
    assert _is(drawn[270:295], PALETTE.by_idx(5)).any(0).sum() > 1.1 * (
        _is(unlabelled[270:295], PALETTE.by_idx(0)).any(0).sum()
    )
