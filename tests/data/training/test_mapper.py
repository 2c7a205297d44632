"""A record becomes what Detectron2's `DatasetMapper` makes of it."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest

from tfdetect.data.geometry import coco_keypoints, xywh_to_xyxy
from tfdetect.data.training.mapper import TrainingMapper
from tfdetect.data.training.record import Annotation, Record
from tfdetect.data.training.transforms import (
    CropTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    ResizeTransform,
)
from tfdetect.errors import InputError

PIXELS = np.arange(40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)
SQUARE = np.array([10.0, 5, 30, 5, 30, 35, 10, 35])
STAY = [NoOpTransform(40, 60)]


def mapper(mask_format="polygon", recompute_boxes=False, flip_indices=None, image_format="BGR"):
    return TrainingMapper(image_format, mask_format, recompute_boxes, flip_indices)


def annotation(box=(10, 5, 30, 35), class_index=0, iscrowd=False, polygons=(SQUARE,), **other):
    other = {"rle": None, "keypoints": None} | other
    return Annotation(np.array(box, np.float64), class_index, iscrowd, polygons, **other)


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), PIXELS)

    def record(*annotations, height=40, width=60):
        return Record(str(path), height, width, 1, annotations)

    return record


def test_recorded_geometry(oracle, tmp_path):
    """Boxes become float32, as in Detectron2: their error is a rounding of that, 2^-24."""
    data = oracle("augment_geometry")
    (height, width), (new_height, new_width) = data["in_hw"], data["out_hw"]
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((height, width, 3), np.uint8))
    found = annotation(
        xywh_to_xyxy(data["bbox_xywh"]),
        polygons=(data["segmentation"],),
        keypoints=coco_keypoints(data["coco_keypoints"]),
    )
    record = Record(str(tmp_path / "image.png"), height, width, 1, (found,))
    transforms = [
        ResizeTransform(height, width, new_height, new_width),
        HFlipTransform(new_height, new_width),
    ]
    example = mapper(flip_indices=data["flip_indices"])(record, transforms)
    assert example.image.shape == (new_height, new_width, 3)
    np.testing.assert_allclose(example.boxes, data["out_bbox"][None], rtol=1e-7)
    np.testing.assert_allclose(example.keypoints, data["out_keypoints"][None], rtol=1e-7)
    # Double precision, in another order of multiplication and division.
    np.testing.assert_allclose(example.polygons[0][0], data["out_segmentation"], rtol=1e-14)


def test_recorded_proposals(oracle, record):
    """float32 there all the way, here float64 rounded in the end: a few units of the last place."""
    data = oracle("augmentations")
    found = dataclasses.replace(record(height=30, width=40), proposals=data["proposals_in"])
    cv2.imwrite(found.file_name, PIXELS[:30, :40])
    transforms = [
        ResizeTransform(30, 40, 47, 66),
        HFlipTransform(47, 66),
        CropTransform(9, 5, 40, 50, 47, 66),
    ]
    best = dataclasses.replace(mapper(None), proposal_topk=12)
    expected = data["proposals_out"]
    example = best(found, transforms)
    assert example.proposals.dtype == np.float32
    np.testing.assert_allclose(example.proposals, expected, rtol=0, atol=1e-5)
    # Those that the crop leaves nothing of are not among the twelve.
    assert len(expected) == 12
    everything = dataclasses.replace(best, proposal_topk=100)(found, transforms).proposals
    assert 12 < len(everything) < 40
    without = dataclasses.replace(found, proposals=None)
    assert best(without, transforms).proposals is None


def test_types_and_channel_order(record):
    example = mapper()(record(annotation(class_index=3)), STAY)
    np.testing.assert_array_equal(example.image, PIXELS)
    assert (example.boxes.dtype, example.classes.dtype) == (np.float32, np.int32)
    assert example.classes.tolist() == [3]
    assert example.bitmasks is None
    assert example.keypoints is None
    example = mapper(None, image_format="RGB")(record(annotation()), STAY)
    np.testing.assert_array_equal(example.image, PIXELS[..., ::-1])
    assert example.polygons is None


def test_crowds_and_empty_boxes_go(record):
    example = mapper(None)(
        record(
            annotation(iscrowd=True),
            annotation(class_index=1),
            annotation((10, 5, 10, 35)),
            annotation((70, 5, 90, 35)),  # outside: clipping leaves nothing
            annotation((50, 5, 90, 35), class_index=2),
        ),
        STAY,
    )
    assert example.classes.tolist() == [1, 2]
    np.testing.assert_array_equal(example.boxes, [[10, 5, 30, 35], [50, 5, 60, 35]])


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask", None])
def test_an_image_may_have_no_objects(record, mask_format):
    flips = np.arange(17)
    example = mapper(mask_format, mask_format is not None, flips)(record(), STAY)
    assert example.boxes.shape == (0, 4)
    assert example.keypoints.shape == (0, 17, 3)
    assert example.polygons == ([] if mask_format == "polygon" else None)
    assert mask_format != "bitmask" or example.bitmasks.shape == (0, 40, 60)


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_boxes_are_drawn_again_around_what_a_crop_leaves(record, mask_format):
    """Detectron2's example: of a triangle cut in half, the box is smaller than the boxes' overlap.

    The diagonal passes through pixels: the bitmap's box is the polygon's, rounded outwards.
    """
    pytest.importorskip("shapely")
    triangle = annotation((0, 0, 20, 20), polygons=(np.array([0.0, 0, 20, 0, 0, 20]),))
    gone = annotation((0, 0, 8, 8), class_index=1, polygons=(np.array([0.0, 0, 8, 0, 0, 8]),))
    crop = [CropTransform(10, 0, 20, 20, 40, 60)]
    example = mapper(mask_format, recompute_boxes=True)(record(triangle, gone), crop)
    assert example.classes.tolist() == [0]
    np.testing.assert_allclose(
        example.boxes, [[0, 0, 10, 10]], atol=1e-6 if mask_format == "polygon" else 1
    )


def test_bitmasks_of_polygons_and_rle_agree(record):
    encoded = coco_mask.frPyObjects([SQUARE.tolist()], 40, 60)[0]
    both = record(annotation(), annotation(polygons=None, rle=encoded))
    transforms = [
        HFlipTransform(40, 60),
        CropTransform(20, 0, 40, 40, 40, 60),
        PadTransform(50, 50, 128),
    ]
    example = mapper("bitmask", recompute_boxes=True)(both, transforms)
    expected = np.zeros((50, 50), dtype=bool)
    expected[5:35, 10:30] = True
    np.testing.assert_array_equal(example.bitmasks, [expected, expected])
    np.testing.assert_array_equal(example.boxes, [[10, 5, 30, 35]] * 2)
    assert example.image[-1, -1].tolist() == [128] * 3


def test_empty_bitmasks_go(record):
    outside = np.array([100.0, 100, 110, 100, 110, 110])
    example = mapper("bitmask")(record(annotation(polygons=(outside,)), annotation()), STAY)
    assert len(example.boxes) == len(example.bitmasks) == 1


def test_broken_files_are_named(record, tmp_path):
    for found, message in (
        (record(annotation(), height=41), r"image.png: has 60 x 40 pixels, .* 60 x 41"),
        (Record(str(tmp_path / "gone.png"), 40, 60, 1, ()), r"gone.png: cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            mapper("bitmask")(found, STAY)
