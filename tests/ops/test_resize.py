"""The uint8 resize against Pillow, to the bit, and the size rule against Detectron2."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdetect.ops.resize import resize_bilinear_uint8, shortest_edge_size


@pytest.mark.parametrize("case", range(6))
def test_recorded(oracle, implementation, case):
    data = oracle("resize")
    expected = data[f"out{case}"]
    resized = resize_bilinear_uint8(data[f"in{case}"], np.array(expected.shape[:2], np.int32))
    np.testing.assert_array_equal(resized, expected)


@pytest.mark.parametrize("case", range(6))
def test_float_images_need_no_operator_of_ours(oracle, case):
    """Detectron2 resizes float images without a filter: `tf.image.resize` is that, within 1e-5."""
    data = oracle("resize")
    expected = data[f"float_out{case}"]
    resized = tf.image.resize(data[f"in{case}"].astype(np.float32), expected.shape[:2])
    np.testing.assert_allclose(resized, expected, rtol=0, atol=1e-5 * 255)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((1, 1), (7, 5)),
        ((7, 5), (1, 1)),
        ((1000, 5), (100, 50)),
        ((1, 300), (200, 3)),
        ((333, 500), (800, 1201)),
        ((257, 129), (64, 128)),
        ((50, 60), (50, 7)),
        ((50, 60), (9, 60)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pillow(implementation, old, new, channels):
    rng = np.random.default_rng(old[0] + new[1])
    image = rng.integers(0, 256, (*old, channels), np.uint8)
    image[rng.random(old) < 0.3] = 255  # saturated pixels: sums that round up to 256
    resized = resize_bilinear_uint8(image, np.array(new, np.int32)).numpy()
    for channel in range(channels):
        expected = Image.fromarray(image[..., channel]).resize(new[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(resized[..., channel], np.asarray(expected))


def test_size_rule(oracle):
    data = oracle("resize")
    for (height, width, short_edge, max_size), expected in zip(
        data["sizes_in"], data["sizes_out"], strict=True
    ):
        size = tf.constant([height, width], tf.int32)
        result = shortest_edge_size(size, int(short_edge), int(max_size))
        np.testing.assert_array_equal(result, expected)


def test_size_rule_of_a_batch():
    sizes = shortest_edge_size(tf.constant([[400, 600], [600, 400], [1, 5000]]), 800, 1333)
    np.testing.assert_array_equal(sizes, [[800, 1200], [1200, 800], [1, 1333]])
    np.testing.assert_array_equal(shortest_edge_size(tf.constant([[5, 9]]), 0, 100), [[5, 9]])
