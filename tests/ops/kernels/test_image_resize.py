"""The native resize of arrays against Pillow's, to the bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.support.native import require_native, using_ops
from tfdetect.ops.kernels.image_resize import native_image_resize


@pytest.fixture(scope="module")
def resize():
    require_native()
    with using_ops("native"):
        return native_image_resize()


def pillow(image, size):
    """One axis after the other, as every version does it when it is asked to."""

    def of_channel(channel):
        wide = Image.fromarray(np.ascontiguousarray(channel))
        wide = wide.resize((size[1], channel.shape[0]), Image.Resampling.BILINEAR)
        return np.asarray(wide.resize(size[::-1], Image.Resampling.BILINEAR))

    return np.stack([of_channel(image[..., c]) for c in range(image.shape[2])], axis=2)


def random_image(rng, height, width, channels=3):
    image = rng.integers(0, 256, (height, width, channels), np.uint8)
    image[rng.random((height, width)) < 0.3] = 255  # sums that round up to 256
    return image


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_pillow(resize, channels):
    rng = np.random.default_rng(channels)
    for _ in range(80):
        height, width, *size = (int(2**x) for x in rng.uniform(0, 8, 4))
        image = random_image(rng, height, width, channels)
        np.testing.assert_array_equal(resize(image, tuple(size)), pillow(image, tuple(size)))


@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[3:30, 5:40],
        lambda image: image[:, ::-1],
        lambda image: image[::-1],
        lambda image: image[:, :, ::-1],
        lambda image: image[::2, ::3],
        lambda image: image.transpose(1, 0, 2),
    ],
)
def test_views(resize, view):
    image = view(random_image(np.random.default_rng(0), 47, 61))
    np.testing.assert_array_equal(resize(image, (50, 90)), pillow(image, (50, 90)))


def test_threads(resize):
    image = random_image(np.random.default_rng(0), 120, 160)
    expected = pillow(image, (200, 267))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: resize(image, (200, 267)), range(40)):
            np.testing.assert_array_equal(found, expected)


def test_pointers_are_checked(resize):
    for image in (np.zeros((4, 5, 3), np.float32), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(AssertionError):
            resize(image, (3, 3))


def test_none_of_portable_operators():
    with using_ops("portable"):
        assert native_image_resize() is None
