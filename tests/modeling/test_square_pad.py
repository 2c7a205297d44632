"""MODEL.BACKBONE.SQUARE_PAD: every image becomes a square of one size, in every use of a model."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.small_training import MASK_RCNN, batch, small_model
from tfdetect.config.checks import check_model
from tfdetect.config.training_checks import check_training
from tfdetect.errors import InputError
from tfdetect.inference.fixed import FixedSizePipeline
from tfdetect.inference.pipeline import Pipeline
from tfdetect.modeling.preprocess import Preprocessor, normalize_batch
from tfdetect.ops.backend import Backend

SIZES = np.array([[60, 90], [80, 40]], np.int32)
OPTIONS = {
    "MODEL.BACKBONE.SQUARE_PAD": 100,
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TEST": 100,
    "INPUT.MAX_SIZE_TRAIN": 100,
    "MODEL.RPN.CONV_DIMS": [-1, -1],
    "MODEL.FPN.NORM": "LN",
    "MODEL.ROI_BOX_HEAD.NORM": "LN",
    "MODEL.ROI_MASK_HEAD.NORM": "LN",
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "TEST.DETECTIONS_PER_IMAGE": 5,
}


def thawed(cfg):
    """A copy that may change."""
    copy = cfg.clone()
    copy.defrost()
    return copy


@pytest.fixture(scope="module")
def square():
    """A small Mask R-CNN; 100 becomes 128, since the FPN needs multiples of 32."""
    cfg, model, _ = small_model(MASK_RCNN, OPTIONS)
    return cfg, model


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, [2, 80, 90, 3], np.uint8)
    return np.where(np.arange(80)[:, None, None] < SIZES[:, 0, None, None, None], pixels, 0).astype(
        np.uint8
    )


def test_squares_are_zero_below_and_to_the_right(square, images):
    cfg, model = square
    assert model.size_divisibility == 128
    preprocess = Preprocessor.from_config(cfg, model.size_divisibility)
    inputs, resized = preprocess(images, SIZES)
    np.testing.assert_array_equal(resized, [[64, 96], [100, 50]])
    assert inputs.shape == (2, 128, 128, 3)
    for image, (height, width) in zip(inputs.numpy(), resized.numpy(), strict=True):
        assert image[:height, :width].any(-1).all()
        assert not image[height:].any()
        assert not image[:, width:].any()


def test_batch_equals_each_alone(square, images):
    """In both paddings, which are the same: of squares the whole is valid."""
    cfg, model = square
    backend = Backend.for_device("cpu")
    pipeline = Pipeline(cfg, model, backend)
    assert pipeline._network.get_concrete_function().inputs[0].shape[1:] == (128, 128, 3)
    together = pipeline.detect(images, SIZES)
    assert pipeline.detect(images[:0], SIZES[:0])["scores"].shape[0] == 0
    as_detectron2 = Pipeline(cfg, model, backend, padding="detectron2").detect(images, SIZES)
    for index in range(2):
        alone = pipeline.detect(images[index : index + 1], SIZES[index : index + 1])
        for name in ("pred_boxes", "scores", "pred_classes"):
            np.testing.assert_allclose(alone[name][0], together[name][index], rtol=0, atol=1e-3)
            np.testing.assert_array_equal(as_detectron2[name], together[name])


def test_one_size(square):
    """What is exported for one image size has the squares' shape."""
    cfg, model = square
    inputs, _ = Preprocessor.from_config(cfg, 128).of_one_size(tf.zeros([2, 60, 90, 3], tf.uint8))
    assert inputs.shape == (2, 128, 128, 3)
    FixedSizePipeline(cfg, model, 1, 60, 90)


def test_training(square):
    cfg, model = square
    _, sizes, targets = batch()
    images = tf.zeros([2, 64, 96, 3], tf.uint8)
    inputs = normalize_batch(
        images, sizes, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, model.size_divisibility
    )
    assert inputs.shape == (2, 128, 128, 3)
    losses = model.losses(inputs, sizes, targets, tf.constant([0, 1]))
    assert all(np.isfinite(loss) for loss in losses.values())


def test_longer_images_are_refused(square):
    """Detectron2 cuts them off. At the start where sizes are known, else before the network."""
    cfg, _ = square
    for key, check in (
        ("INPUT.MAX_SIZE_TEST", check_model),
        ("INPUT.MAX_SIZE_TRAIN", check_training),
    ):
        longer = thawed(cfg)
        longer.merge_from_list([key, 101])
        with pytest.raises(InputError, match=f"{key}: is 101, .* squares of 100"):
            check(longer)
    augmented = thawed(cfg)
    augmented.TEST.AUG.ENABLED = True
    with pytest.raises(InputError, match=r"TEST\.AUG\.MAX_SIZE: is 4000"):
        check_model(augmented)
    jitter = thawed(cfg)
    jitter.INPUT.LARGE_SCALE_JITTER.ENABLED = True
    with pytest.raises(InputError, match=r"LARGE_SCALE_JITTER\.SIZE: is 1024"):
        check_training(jitter)

    own = thawed(cfg)
    own.INPUT.MIN_SIZE_TEST = 0
    own.INPUT.MAX_SIZE_TEST = 1333
    check_model(own)
    preprocess = Preprocessor.from_config(own, 128)
    message = "image 1: 129 x 30 pixels are 129 x 30 after resizing, longer than the square"
    with pytest.raises(InputError, match=message):
        preprocess.check(np.array([[128, 128], [129, 30]], np.int32), [0, 1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="longer than 128 pixels"):
        preprocess(np.zeros([1, 129, 30, 3], np.uint8), np.array([[129, 30]], np.int32))
    with pytest.raises(InputError, match="longer than the square"):
        preprocess.of_one_size(tf.zeros([1, 129, 30, 3], tf.uint8))
