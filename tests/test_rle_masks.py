"""Run-length encoded masks against pycocotools, and against the arrays that they are of."""

from __future__ import annotations

import numpy as np
import pytest

from tfdetect.masks.rle import encode_mask
from tfdetect.rle_masks import RLEMasks, concatenate, encode_part, unite


def random_masks(seed, count, height, width):
    """Blobs, noise, full and empty masks, and lines along the sides."""
    random = np.random.default_rng(seed)
    masks = random.random((count, height, width)) < random.random((count, 1, 1))
    for mask in masks[::2]:
        top, left = random.integers(0, [height, width])
        mask[:] = False
        mask[top : top + random.integers(1, height + 1), left : left + 3] = True
    masks[0], masks[1] = False, True
    masks[2] = False
    masks[2, :, width // 2] = True  # a run as long as a column
    masks[3, 0], masks[3, -1] = True, True
    return masks


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 5), (40, 61)])
def test_as_pycocotools_and_back(size):
    masks = random_masks(sum(size), 24, *size)
    encoded = RLEMasks.encode(masks)
    assert encoded.shape == masks.shape
    assert encoded.to_coco() == [encode_mask(mask) for mask in masks]
    np.testing.assert_array_equal(encoded.decode(), masks)
    np.testing.assert_array_equal(encoded.areas(), masks.sum((1, 2)))
    for index, mask in enumerate(masks):
        top, left, part = encoded.part(index)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            assert left == columns[0]
            assert part.shape[1] == columns[-1] + 1 - left
            assert (top, part.shape[0]) in ((rows[0], rows[-1] + 1 - rows[0]), (0, size[0]))
        assert mask[top : top + part.shape[0], left : left + part.shape[1]].sum() == part.sum()


def test_a_part_of_an_image():
    """Also where the part reaches from the top to the bottom, so that columns join."""
    random = np.random.default_rng(1)
    for _ in range(200):
        height, width = random.integers(1, 12, 2)
        image = np.zeros((height, width), bool)
        top, left = random.integers(0, [height, width])
        rows, columns = random.integers(1, [height - top + 1, width - left + 1])
        part = random.random((rows, columns)) < random.random()
        image[top : top + rows, left : left + columns] = part
        runs = encode_part(part, top, left, height)
        assert RLEMasks(height, width, [runs]).to_coco() == [encode_mask(image)]
    assert encode_part(np.zeros((0, 0), bool), 3, 3, 9).tolist() == []


def test_union():
    for seed in range(20):
        masks = random_masks(seed, 8, 13, 17)
        encoded = RLEMasks.encode(masks)
        for count in range(1, 9):
            united = RLEMasks(13, 17, [unite(encoded.runs[-count:])])
            np.testing.assert_array_equal(united.decode()[0], masks[-count:].any(0))
            assert united.to_coco() == [encode_mask(masks[-count:].any(0))]


def test_select_and_concatenate():
    masks = random_masks(3, 6, 8, 9)
    encoded = RLEMasks.encode(masks)
    for keep in (np.array([4, 0, 4]), masks[:, 0, 0], np.zeros(0, int)):
        np.testing.assert_array_equal(encoded.select(keep).decode(), masks[keep])
    both = concatenate([encoded, encoded.select(np.array([1]))])
    np.testing.assert_array_equal(both.decode(), np.concatenate([masks, masks[1:2]]))


def test_a_mask_of_a_huge_image_is_its_outline():
    """48 megapixels: nothing of the image's size is made."""
    disk = np.hypot(*np.mgrid[-50:51, -50:51]) <= 50
    runs = encode_part(disk, 5800, 7800, 6000)
    masks = RLEMasks(6000, 8000, [runs])
    assert runs.nbytes < 2000
    top, left, part = masks.part(0)
    assert (top, left) == (5800, 7800)
    np.testing.assert_array_equal(part, disk)
    assert len(masks.to_coco()[0]["counts"]) < 500
    assert masks.areas().tolist() == [disk.sum()]
