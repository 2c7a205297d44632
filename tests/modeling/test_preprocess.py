"""Padding, channel order and normalisation of the network's input."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdetect.config import get_cfg
from tfdetect.errors import InputError
from tfdetect.modeling.preprocess import (
    Preprocessor,
    normalize_batch,
    pad_bottom_right,
    padded_size,
)


def test_recorded_image_list(oracle):
    """Exact: padding computes nothing."""
    data = oracle("image_list")
    images = [np.transpose(data[name], [1, 2, 0]) for name in ("a", "b")]
    sizes = tf.constant([image.shape[:2] for image in images])
    np.testing.assert_array_equal(sizes, data["sizes"])
    padded = tf.stack([pad_bottom_right(image, padded_size(sizes, 32)) for image in images])
    np.testing.assert_array_equal(padded, np.transpose(data["out"], [0, 2, 3, 1]))


def test_images_of_two_sizes(implementation):
    """Each as Pillow resizes it, normalised, then padded with zeros."""
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 40, 70
    cfg.MODEL.PIXEL_STD = [57.375, 57.12, 58.395]
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, [2, 60, 90, 3], np.uint8)
    sizes = np.array([[60, 50], [30, 90]], np.int32)
    for order in ("BGR", "RGB"):
        cfg.INPUT.FORMAT = order
        images, resized = Preprocessor.from_config(cfg, 32)(tf.constant(batch), tf.constant(sizes))
        np.testing.assert_array_equal(resized, [[48, 40], [23, 70]])
        assert images.shape == (2, 64, 96, 3)
        for index, (height, width) in enumerate(resized.numpy()):
            source = batch[index, : sizes[index, 0], : sizes[index, 1]]
            pixels = Image.fromarray(np.ascontiguousarray(source)).resize(
                (width, height), Image.Resampling.BILINEAR
            )
            pixels = np.asarray(pixels)[..., :: -1 if order == "RGB" else 1]
            expected = (pixels.astype(np.float32) - cfg.MODEL.PIXEL_MEAN) / cfg.MODEL.PIXEL_STD
            np.testing.assert_allclose(images[index, :height, :width], expected, atol=1e-5)
            assert not images[index, height:].numpy().any()
            assert not images[index, :, width:].numpy().any()


def test_pixels_of_images_one_after_the_other(implementation):
    """To the bit what the images on a canvas give."""
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 40, 70
    rng = np.random.default_rng(1)
    sizes = np.array([[60, 50], [30, 90], [1, 90]], np.int32)
    images = [rng.integers(0, 256, [*size, 3], np.uint8) for size in sizes]
    canvas = np.zeros([3, 60, 90, 3], np.uint8)
    for slot, image in zip(canvas, images, strict=True):
        slot[: image.shape[0], : image.shape[1]] = image
    pixels = np.concatenate([image.reshape(-1, 3) for image in images])
    preprocess = Preprocessor.from_config(cfg, 32)
    expected = preprocess(tf.constant(canvas), tf.constant(sizes))
    for found, same in zip(preprocess.of_pixels(pixels, tf.constant(sizes)), expected, strict=True):
        np.testing.assert_array_equal(found, same)


def test_images_that_are_too_large_for_the_network():
    """Where nothing else limits them; one of 1 x 9000 makes one of 9000 x 1 as large as both."""
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST = 0
    preprocess = Preprocessor.from_config(cfg, 32)
    sizes = np.array([[1, 9000], [9000, 1]], np.int32)
    preprocess.check(sizes[:1], [0])
    with pytest.raises(InputError, match=r"image 0: 1 x 9000 pixels are 9024 x 9024"):
        preprocess.check(sizes, [0, 1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 67108864 pixels"):
        preprocess.of_pixels(tf.zeros([18000, 3], tf.uint8), tf.constant(sizes))
    cfg.INPUT.MIN_SIZE_TEST = 800
    Preprocessor.from_config(cfg, 32).check(sizes, [0, 1])


def test_normalize_is_zero_beyond_the_images():
    cfg = get_cfg()
    cfg.MODEL.PIXEL_STD = [2.0, 1.0, 1.0]
    images = np.full([2, 5, 6, 3], 200, np.uint8)
    result = normalize_batch(
        images, np.array([[5, 4], [3, 6]], np.int32), cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, 4
    ).numpy()
    assert result.shape == (2, 8, 8, 3)
    assert not result[0, :, 4:].any()
    assert not result[1, 3:].any()
    # One subtraction and one division.
    np.testing.assert_allclose(result[0, 4, 3], [(200 - 103.53) / 2, 83.72, 76.325], rtol=1e-6)
