"""Slicing: against shapes whose place is known, with an ideal and with a trained model."""

from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest
import tensorflow as tf

import tfdetect.cli.predict
from tests.support.paths import DEMO, ROOT
from tfdetect.config.capabilities import capabilities
from tfdetect.config.loader import load_config
from tfdetect.data.images import read_image
from tfdetect.data.shapes import draw_image
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.inference.merge_slices import merge_slices
from tfdetect.inference.pasted_masks import paste_encoded
from tfdetect.inference.predictor import Predictor
from tfdetect.inference.slices import Slices, check_slices, predict_slices
from tfdetect.ops.paste_masks import paste_masks


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
            x, y = (np.linspace(low, high, 57)[1::2] for low, high in (box[[0, 2]], box[[1, 3]]))
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


@pytest.mark.parametrize(
    ("enlarge", "size", "overlap"), [(1, 512, 0.3), (3, 320, 0.2), (4, 200, 0.25)]
)
@pytest.mark.parametrize("seed", range(2))
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


def test_occluded_objects_in_pieces():
    """A slice may see a piece of an object alone, not cut off: it is part of the whole."""
    for seed in range(4):
        image, classes = scene(seed, 900, 1100, 3, connected=False)
        found = predict_slices(Ideal(classes, seed), image, Slices(320, 0.2))
        truth = np.array([image[..., 0] == number + 1 for number in range(len(classes))])
        assert len(found) == len(classes)
        assert overlaps(truth, found.masks).max(1).min() > 0.7


def test_boxes_alone():
    """Without masks, squares and circles that no slice sees as a whole are one box each."""
    image = np.zeros((700, 900, 3), np.uint8)
    cv2.circle(image, (300, 300), 260, (1, 1, 1), -1)
    cv2.rectangle(image, (600, 50), (890, 680), (2, 2, 2), -1)
    cv2.rectangle(image, (20, 620), (560, 660), (3, 3, 3), -1)
    cv2.rectangle(image, (10, 10), (60, 60), (4, 4, 4), -1)
    found = predict_slices(Ideal(np.arange(4), masks=False), image, Slices(256, 0.25))
    assert found.masks is None
    order = np.argsort(found.classes)
    wanted = [[40, 40, 561, 561], [600, 50, 891, 681], [20, 620, 561, 661], [10, 10, 61, 61]]
    np.testing.assert_allclose(found.boxes[order], wanted, atol=4)


def test_objects_of_one_class_that_overlap_stay_apart():
    """What one slice tells apart is not merged, however much it overlaps."""
    masks = np.zeros((2, 100, 100), bool)
    masks[0, 20:60, 20:60] = True
    masks[1, 30:70, 25:65] = True
    boxes = np.array([[20, 20, 60, 60], [25, 30, 65, 70]], np.float32)
    one = Detections(100, 100, boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, int), masks)
    nothing = one.select(np.zeros(0, int))
    frames = np.array([[0, 0, 100, 100], [80, 0, 180, 100]])
    found = merge_slices([one, nothing], frames, 100, 180)
    np.testing.assert_array_equal(found.boxes, boxes)
    np.testing.assert_array_equal(found.masks[:, :, :100], masks)


def test_keypoints_of_parts_are_the_surest_ones():
    frames = np.array([[0, 0, 100, 100], [70, 0, 170, 100]])
    parts = []
    for box, points in (
        ([10, 10, 100, 50], [[20, 20, 0.9], [99, 30, 0.1]]),
        ([0, 10, 80, 50], [[1, 20, 0.2], [60, 30, 0.8]]),
    ):
        keypoints = np.array([points], np.float32)
        box, score = np.array([box], np.float32), np.array([0.7], np.float32)
        parts.append(Detections(100, 100, box, score, np.zeros(1, int), None, keypoints))
    found = merge_slices(parts, frames, 100, 170)
    np.testing.assert_array_equal(found.boxes, [[10, 10, 150, 50]])
    np.testing.assert_allclose(found.keypoints, [[[20, 20, 0.9], [130, 30, 0.8]]])


def test_nothing_found():
    image = np.zeros((300, 500, 3), np.uint8)
    found = predict_slices(Ideal(np.zeros(0, int)), image, Slices(128))
    assert len(found) == 0
    assert found.masks.shape == (0, 300, 500)


def test_a_trained_model(model_dir):
    """On shapes, at one scale: what is seen as a whole is found in slices, too, and no worse."""
    random = np.random.default_rng(0)
    image, truth, classes = np.full((640, 640, 3), 128, np.uint8), [], []
    for top in (0, 320):
        for left in (0, 320):
            drawn, objects = draw_image(random)
            target = image[top : top + 320, left : left + 320]
            drawn = drawn[:320, :320]
            target[: drawn.shape[0], : drawn.shape[1]] = drawn
            for one in objects:
                mask = np.zeros((640, 640), bool)
                seen = one.mask[:320, :320] > 0
                mask[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
                if mask.sum() >= 150:
                    truth.append(mask)
                    classes.append(one.class_index)
    found = []
    for side, slices in ((640, None), (400, Slices(400, 0.3, 2))):
        scale = ["INPUT.MIN_SIZE_TEST", side * 7 // 10, "INPUT.MAX_SIZE_TEST", side * 7 // 10]
        found.append(Predictor(model_dir, "cpu", opts=scale, slices=slices)(image))
    recalls = []
    for one in found:
        sure = one.select(one.scores >= 0.5)
        right = np.array(classes)[:, None] == sure.classes
        recalls.append(((overlaps(np.array(truth), sure.masks) * right).max(1) >= 0.5).mean())
    assert recalls[0] > 0.4
    assert recalls[1] >= recalls[0] - 0.05
    assert np.isfinite(found[1].keypoints).all()


def test_an_image_that_fits_gets_what_it_gets_without(model_dir):
    predictor = Predictor(model_dir)
    image = read_image(DEMO / "images" / "000000.jpg")
    sliced = Predictor(model_dir, slices=Slices(max(image.shape), 0.2))
    again = pickle.loads(pickle.dumps(sliced))  # noqa: S301
    for found in (sliced(image), again([image, image])[1]):
        wanted = predictor(image)
        for name in ("boxes", "scores", "classes", "masks", "keypoints"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_the_command(model_dir, tmp_path):
    """Slices go through the network together; the file has whole images' records."""
    image = tmp_path / "large.png"
    cv2.imwrite(str(image), np.tile(read_image(DEMO / "images" / "000000.jpg"), (2, 2, 1)))
    height, width = read_image(image).shape[:2]
    command = ["--model", model_dir, "--input", image, "--json", tmp_path / "found.json"]
    command += ["--output", tmp_path / "out", "--slice", 256, "--overlap", 0.3, "--batch-size", 3]
    assert tfdetect.cli.predict.main([str(word) for word in command]) == 0
    (record,) = json.loads((tmp_path / "found.json").read_text())
    assert (record["height"], record["width"]) == (height, width)
    assert len(record["scores"]) > 10
    assert all(rle["size"] == [height, width] for rle in record["pred_masks"])
    assert read_image(tmp_path / "out" / "large.png").shape[0] >= height


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--slice", "40"], "^slice 40: give at least 64"),
        (["--slice", "512", "--overlap", "0"], "^overlap 0: give a part of a slice, 0.05 to 0.9"),
        (["--slice", "512", "--overlap", "1"], "^overlap 1: give a part"),
        (["--slice", "512", "--overlap", "nan"], "^overlap nan: give a part"),
        (["--overlap", "0.2"], "^--overlap: is of slices; give their size with --slice"),
    ],
)
def test_options_that_are_rejected(model_dir, options, message):
    command = ["--model", str(model_dir), "--input", str(DEMO / "images"), "--json", "x.json"]
    with pytest.raises(InputError, match=message):
        tfdetect.cli.predict.main([*command, *options])


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x", "gives a class to every pixel"),
        ("COCO-Detection/rpn_R_50_FPN_1x", "proposals are of whole images"),
        ("COCO-Detection/fast_rcnn_R_50_FPN_1x", "proposals are of whole images"),
    ],
)
def test_models_that_slices_do_not_work_with(config, reason):
    with pytest.raises(InputError, match=reason):
        check_slices(capabilities(load_config(ROOT / "configs" / f"{config}.yaml")))
