"""Padding, channel order and normalisation of the network's input."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from PIL import Image

from tfdetect.config import get_cfg
from tfdetect.modeling.preprocess import Preprocessor, pad_bottom_right, padded_size


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
        images, resized = Preprocessor(cfg, 32)(tf.constant(batch), tf.constant(sizes))
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
