"""Test-time augmentation: what Detectron2's records do not say (tests/parity/test_tta.py)."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.dense_models import make
from tests.support.native import using_ops
from tests.support.paths import DEMO
from tfdetect import Predictor
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.config.tta import with_tta
from tfdetect.data.images import read_image
from tfdetect.errors import InputError
from tfdetect.inference import augmented_passes, tta
from tfdetect.inference.optimization import optimize
from tfdetect.modeling.keypoint_flip import keypoint_flip
from tfdetect.ops.backend import Backend

ON = ["TEST.AUG.ENABLED", True, "TEST.AUG.MAX_SIZE", 320]
TWO_SIZES = [*ON, "TEST.AUG.MIN_SIZES", (160, 224)]
IMAGE = DEMO / "images" / "000000.jpg"


@pytest.fixture(
    scope="module", params=["default", pytest.param("portable", marks=pytest.mark.full)]
)
def predictor(request, model_dir):
    """The demo's model of boxes, masks and keypoints; traced once."""
    if request.param == "default":
        return Predictor(model_dir, opts=TWO_SIZES)
    with using_ops("portable"):
        return Predictor(model_dir, opts=TWO_SIZES)


def assert_equal(found, expected):
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_array_equal(found.masks, expected.masks)
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)


def test_images_of_any_shapes_together_and_alone(predictor):
    """To the bit, with images in which nothing is found, or which have hardly a pixel."""
    rng = np.random.default_rng(0)
    images = [read_image(IMAGE), np.zeros([40, 60, 3], np.uint8)]
    images += [rng.integers(0, 256, [*size, 3], np.uint8) for size in ((1, 500), (500, 1), (1, 1))]
    together = predictor(images)
    for image, found in zip(images, together, strict=True):
        assert_equal(found, predictor(image))
        assert found.masks.shape == (len(found.scores), *image.shape[:2])
        assert np.isfinite(found.boxes).all()
    assert (together[0].scores > 0.9).any()
    assert not (together[1].scores > 0.9).any()
    assert predictor([]) == []


def test_the_mirror_image_has_the_mirrored_keypoints(predictor):
    """Each side of the body as such: the augmented images are the same, in another order.

    Pillow's filter is not quite symmetric in its last bit, so that a pixel may be a grey level off.
    """
    image = read_image(IMAGE)
    found, mirrored = predictor([image, np.ascontiguousarray(image[:, ::-1])])
    flip = keypoint_flip(predictor.metadata)
    assert flip != sorted(flip)
    width = image.shape[1]
    sure = np.flatnonzero((found.scores > 0.9) & (found.classes == 0))
    assert len(sure)
    for index in sure:
        expected = (width - found.boxes[index])[[2, 1, 0, 3]]
        expected[[1, 3]] = found.boxes[index, [1, 3]]
        other = np.abs(mirrored.boxes - expected).max(1).argmin()
        np.testing.assert_allclose(mirrored.boxes[other], expected, rtol=0, atol=0.5)
        points = found.keypoints[index, flip]
        # Half a pixel of the network's input, on both sides of which a maximum may lie.
        difference = np.abs(width - points[:, 0] - mirrored.keypoints[other, :, 0])
        assert np.median(difference) < 1
        assert np.median(np.abs(points[:, 1] - mirrored.keypoints[other, :, 1])) < 1


@pytest.mark.full
def test_one_augmentation_that_changes_nothing(model_dir):
    """Not flipped, in the size of the network's input, the image has its ordinary detections."""
    image = read_image(IMAGE)
    cfg, model, metadata = load_model(model_dir)
    opts = [*ON, "TEST.AUG.MIN_SIZES", (cfg.INPUT.MIN_SIZE_TEST,), "TEST.AUG.FLIP", False]
    backend = Backend.for_device()
    model = optimize(model, backend)
    expected = Predictor.of_model(cfg, model, metadata, backend)(image)
    cfg = load_model(model_dir, opts)[0]
    found = Predictor.of_model(cfg, model, metadata, backend)(image)
    assert len(expected.scores) > 5
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-6)
    # Boxes go to the image and back: a rounding of coordinates of some hundred pixels.
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=2e-4)
    assert (found.masks != expected.masks).sum((1, 2)).max() <= 2
    distances = np.abs(found.keypoints - expected.keypoints)[..., :2].max(-1)
    assert np.mean(distances < 0.02) > 0.99
    # The scores compare the maximum with a sum of exponentials, of logits within 1e-4.
    np.testing.assert_allclose(
        found.keypoints[..., 2], expected.keypoints[..., 2], rtol=1e-3, atol=1e-6
    )


@pytest.mark.full
def test_features_that_are_not_kept_are_computed_again(model_dir, monkeypatch):
    """The same to the bit, in batches of Detectron2's too; all, some or none of them kept."""
    cfg, model, metadata = load_model(model_dir, TWO_SIZES)
    backend = Backend.for_device()
    model = optimize(model, backend)
    image = tf.constant(read_image(IMAGE))
    for padding, limit in (("own", 2 * 160 * 256), ("detectron2", 0)):
        pipeline = tta.TTAPipeline(cfg, model, backend, padding, keypoint_flip(metadata))
        with backend.active():
            expected = pipeline._detect_one(image)
            monkeypatch.setattr(augmented_passes, "_KEPT_PIXELS", limit)
            found = pipeline._detect_one(image)
            monkeypatch.undo()
        assert expected["num_detections"] > 5
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.full
def test_all_detections(model_dir):
    """TEST.DETECTIONS_PER_IMAGE -1: no limit, neither of an augmented image nor of all."""
    opts = [*ON, "TEST.AUG.MIN_SIZES", (160,), "TEST.DETECTIONS_PER_IMAGE", -1]
    opts += ["MODEL.MASK_ON", False, "MODEL.KEYPOINT_ON", False]
    opts += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.001]
    image = read_image(IMAGE)
    found, nothing = Predictor(model_dir, opts=opts)([image, np.zeros([9, 9, 3], np.uint8)])
    limited = Predictor(model_dir, opts=[*opts, "TEST.DETECTIONS_PER_IMAGE", 20])(image)
    assert len(found.scores) > 100
    assert len(nothing.scores) < len(found.scores)
    np.testing.assert_array_equal(found.scores[:10], limited.scores[:10])


@pytest.mark.full
def test_dense_model():
    """RetinaNet: the augmentation that changes nothing gives what there is without."""
    # Of 50 layers: the seeded weights of fewer saturate all scores.
    changes = {"TEST__AUG__MIN_SIZES": (96,), "TEST__AUG__MAX_SIZE": 160}
    cfg, model = make("retinanet", MODEL__RESNETS__DEPTH=50, **changes)
    cfg.defrost()
    cfg.TEST.AUG.FLIP = False
    image = np.random.default_rng(0).integers(0, 256, [60, 80, 3], np.uint8)
    names = {"class_names": ["a", "b", "c", "d", "e"]}
    expected = Predictor.of_model(cfg, model, names)(image)
    found = Predictor.of_model(with_tta(cfg, True), model, names)(image)
    assert len(found.scores) > 15
    # Boxes are clipped before the second NMS, and empty ones are not dropped.
    kept = (found.boxes[:, 2:] > found.boxes[:, :2]).all(1)
    distances = np.abs(found.boxes[kept][:, None] - expected.boxes).max(-1)
    distances += found.classes[kept][:, None] != expected.classes
    partners = distances.argmin(1)
    assert len(set(partners)) == kept.sum() > 15
    assert distances.min(1).max() < 1e-4
    np.testing.assert_allclose(found.scores[kept], expected.scores[partners], rtol=0, atol=1e-6)


def test_what_is_too_large_or_unknown(model_dir):
    cfg, model, metadata = load_model(model_dir, [*TWO_SIZES, "TEST.AUG.MAX_SIZE", 2**20])
    backend = Backend.for_device()
    flip = keypoint_flip(metadata)
    cfg.defrost()
    cfg.TEST.AUG.MIN_SIZES = (0, 160)
    cfg.INPUT.MIN_SIZE_TEST = 0
    pipeline = tta.TTAPipeline(cfg, model, backend, keypoint_flip=flip)
    sizes = np.array([[30, 50], [9000, 8000]], np.int32)
    pipeline.groups(sizes[:1])
    with pytest.raises(InputError, match=r"^image 1: 9000 x 8000 pixels become \d+ in"):
        pipeline.groups(sizes)
    with pytest.raises(InputError, match=r"^TEST\.AUG\.FLIP: .* set it to False"):
        tta.TTAPipeline(cfg, model, backend)
    assert keypoint_flip({"keypoint_names": ["a", "b"]}) is None
    with pytest.raises(InputError, match=r"^padding 'all'"):
        tta.TTAPipeline(cfg, model, backend, "all", flip)
    model.roi_heads = tf.Module()
    with pytest.raises(InputError, match="lacks detect_boxes or forward_with_given_boxes"):
        tta.TTAPipeline(cfg, model, backend, keypoint_flip=flip)
