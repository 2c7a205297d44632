"""Annotations come out of the columns as they went in, with little memory in between."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields

import numpy as np
import pytest

from tfdetect.data.training.annotation_table import AnnotationTable
from tfdetect.data.training.record import Annotation


def annotation(rng, **changes):
    """An object with one polygon of 25 points."""
    found = {
        "box": rng.uniform(size=4),
        "class_index": int(rng.integers(80)),
        "iscrowd": False,
        "polygons": (rng.uniform(size=50),),
        "rle": None,
        "keypoints": None,
    }
    return Annotation(**{**found, **changes})


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for field in fields(Annotation):
            a, b = getattr(one, field.name), getattr(other, field.name)
            assert type(a) is type(b), field.name
            if isinstance(b, tuple):
                assert len(a) == len(b)
                assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
            else:
                assert np.array_equal(a, b), field.name


def test_annotations_come_back():
    rng = np.random.default_rng(0)
    given = [
        (2**62, annotation(rng)),
        (-5, annotation(rng, polygons=(rng.uniform(size=6), rng.uniform(size=8)))),
        (2**62, annotation(rng, polygons=None, iscrowd=True)),
        (7, annotation(rng, polygons=())),
        (-5, annotation(rng, polygons=None, rle={"size": [4, 5], "counts": b"d0"})),
        (2**62, annotation(rng, keypoints=rng.uniform(size=(17, 3)))),
        (2**62, annotation(rng, polygons=(rng.uniform(size=10),))),
    ]
    table = AnnotationTable()
    for image, added in given:
        table.append(image, added)
    by_image = table.by_image()
    assert set(by_image) == {2**62, -5, 7}
    for image, rows in by_image.items():
        assert_same(rows, [added for other, added in given if other == image])
    rows, expected = by_image[2**62], [added for image, added in given if image == 2**62]
    assert_same(rows[1:3], expected[1:3])
    assert_same([rows[-1]], expected[-1:])
    with pytest.raises(IndexError):
        rows[4]


def test_rotated_boxes():
    table = AnnotationTable()
    table.append(1, annotation(np.random.default_rng(0), box=np.arange(5.0)))
    np.testing.assert_array_equal(table.by_image()[1][0].box, np.arange(5.0))


def test_none():
    assert AnnotationTable().by_image() == {}


def test_nobody_writes_to_them():
    table = AnnotationTable()
    table.append(1, annotation(np.random.default_rng(0)))
    (found,) = table.by_image()[1]
    for values in (found.box, found.polygons[0]):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1


def test_memory():
    """Of an object little more than its 432 bytes of coordinates, and 19 kB of an image's 40."""
    rng = np.random.default_rng(0)
    table = AnnotationTable()
    tracemalloc.start()
    try:
        for index in range(8000):
            table.append(index // 40, annotation(rng))
        by_image = table.by_image()
        assert tracemalloc.get_traced_memory()[0] / len(by_image) < 22_000
    finally:
        tracemalloc.stop()
