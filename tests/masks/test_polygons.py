"""Polygon masks and the mask head's targets against Detectron2's, recorded."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tfdetect.masks.polygons import (
    crop_polygons,
    polygon_areas,
    polygon_boxes,
    rasterize_polygons,
)


@pytest.fixture
def recorded(oracle):
    arrays = oracle("mask_targets")
    objects: list[list[np.ndarray]] = [[] for _ in arrays["boxes"]]
    for key in sorted(arrays):
        if key.startswith("poly"):
            objects[int(key[4:].split("_")[0])].append(arrays[key])
    return arrays, objects


def test_targets_are_detectron2s_pixel_for_pixel(recorded):
    arrays, objects = recorded
    targets = [crop_polygons(o, box, 28) for o, box in zip(objects, arrays["boxes"], strict=True)]
    np.testing.assert_array_equal(targets, arrays["crop28"])


def test_rasters_are_pycocotools_pixel_for_pixel(recorded):
    arrays, objects = recorded
    rasters = [rasterize_polygons(polygons, 100, 100) for polygons in objects]
    np.testing.assert_array_equal(rasters, arrays["bitmask"])


def test_boxes_and_areas(recorded):
    arrays, objects = recorded
    np.testing.assert_array_equal(polygon_boxes(objects), arrays["bounding_boxes"])
    # Sums of a dozen double-precision products, in the same order up to the BLAS behind np.dot.
    np.testing.assert_allclose(polygon_areas(objects), arrays["area"], rtol=1e-12)


def test_objects_without_polygons():
    assert not rasterize_polygons([], 3, 4).any()
    assert not crop_polygons([], np.array([0, 0, 5, 5]), 28).any()
    np.testing.assert_array_equal(polygon_boxes([[]]), np.zeros((1, 4)))
    np.testing.assert_array_equal(polygon_areas([[]]), [0])
    assert polygon_boxes([]).shape == (0, 4)
    assert polygon_areas([]).shape == (0,)


@pytest.mark.parametrize(
    "box", [[5, 5, 5, 5], [9, 9, 2, 2], [1e6, 1e6, 1e6, 1e6], [-3e8, 0, 3e8, 1e-3]]
)
def test_degenerate_boxes_give_a_mask_and_end_soon(box):
    square = np.array([0.0, 0.0, 1e4, 0.0, 1e4, 1e4, 0.0, 1e4])
    start = time.monotonic()
    assert crop_polygons([square], np.array(box), 28).shape == (28, 28)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_box_that_is_not_finite_sees_nothing(bad):
    square = np.array([0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0])
    assert not crop_polygons([square], np.array([0, 0, bad, 10]), 28).any()


def test_huge_polygons_take_bounded_memory_and_keep_what_is_inside():
    everywhere = np.array([-1e30, -1e30, 1e30, -1e30, 1e30, 1e30, -1e30, 1e30])
    assert rasterize_polygons([everywhere], 10, 10).all()


def test_the_input_is_left_as_it_was():
    triangle = np.array([1.0, 1.0, 9.0, 1.0, 5.0, 9.0])
    crop_polygons([triangle], np.array([0, 0, 10, 20]), 28)
    np.testing.assert_array_equal(triangle, [1, 1, 9, 1, 5, 9])
