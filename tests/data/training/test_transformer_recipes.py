"""The augmentation of projects/ViTDet and projects/MViTv2, as Detectron2's DatasetMapper has it.

recipe_images.json.gz is made by tests/recorders/transformer_recipes.py.
"""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from tests.support.paths import DATA
from tests.support.training_data import demo_cfg
from tfdetect.data.training.augmentation import build_augmentation, crops, draw_transforms
from tfdetect.data.training.input import training_dataset
from tfdetect.data.training.mapper import TrainingMapper
from tfdetect.data.training.records import training_records

FLIP = ["RandomFlip", {"horizontal": True}]
SCALE = {"min_scale": 0.1, "max_scale": 2.0, "target_height": 1024, "target_width": 1024}
CROP = [
    ["ResizeShortestEdge", {"short_edge_length": [400, 500, 600], "sample_style": "choice"}],
    ["RandomCrop", {"crop_type": "absolute_range", "crop_size": [384, 600]}],
]
EDGES = {
    "short_edge_length": list(range(480, 801, 32)),
    "sample_style": "choice",
    "max_size": 1333,
}
RECIPES = {
    "vitdet": [FLIP, ["ResizeScale", SCALE], ["FixedSizeCrop", {"crop_size": 1024, "pad": False}]],
    "mvitv2_lsj": [FLIP, ["ResizeScale", SCALE], ["FixedSizeCrop", {"crop_size": 1024}]],
    "mvitv2": [
        ["RandomApply", {"tfm_or_aug": ["AugmentationList", {"augs": CROP}], "prob": 0.5}],
        ["ResizeShortestEdge", EDGES],
        FLIP,
    ],
}


def recorded(name):
    with gzip.open(DATA / "vitdet" / name) as file:
        return json.load(file)


@pytest.mark.parametrize("name", RECIPES)
def test_images_and_boxes_are_detectron2s(name):
    cfg = demo_cfg(INPUT__AUGMENTATIONS=RECIPES[name], MODEL__KEYPOINT_ON=False)
    augmentors, records = build_augmentation(cfg), training_records(cfg)
    assert crops(augmentors)
    mapper = TrainingMapper("RGB", "polygon", name != "mvitv2", None)
    for expected in recorded("recipe_images.json.gz")[name]:
        record = records[expected["image"]]
        random = np.random.RandomState(expected["seed"])
        size = (record.height, record.width)
        found = mapper(record, draw_transforms(augmentors, size, random))
        assert list(found.image.shape[:2]) == expected["size"]
        # Pillow's versions differ by one level in some pixels.
        np.testing.assert_allclose(found.image.mean((0, 1)), expected["mean"], atol=0.01)
        assert found.classes.tolist() == expected["classes"]
        # float32 coordinates up to 1333.
        boxes = np.reshape(expected["boxes"], (-1, 4))
        np.testing.assert_allclose(found.boxes, boxes, atol=2e-4)


class Draws:
    """A generator that gives one number."""

    def __init__(self, number):
        self.number = number

    def uniform(self, low, high):
        return low + (high - low) * self.number


def test_sizes_of_resize_scale():
    (augmentor,) = build_augmentation(demo_cfg(INPUT__AUGMENTATIONS=[["ResizeScale", SCALE]]))
    rows = recorded("recipe.json.gz")["resize_scale_h_w_scale_newh_neww"]
    for height, width, scale, new_height, new_width in rows:
        augmentor.rng = Draws((scale - 0.1) / 1.9)
        size = augmentor.get_transform(np.zeros((height, width))).output_size
        assert size == (new_height, new_width)


@pytest.mark.parametrize("pad", [False, True])
def test_offsets_of_fixed_size_crop(pad):
    entry = ["FixedSizeCrop", {"crop_size": 1024, "pad": pad}]
    (augmentor,) = build_augmentation(demo_cfg(INPUT__AUGMENTATIONS=[entry]))
    rows = recorded("recipe.json.gz")["fixed_size_crop_h_w_uniform_x0_y0_w_h_padright_padbottom"]
    for height, width, share, x0, y0, crop_width, crop_height, right, bottom in rows:
        augmentor.rng = Draws(share)
        transform = augmentor.get_transform(np.zeros((height, width)))
        crop = transform.transforms[0] if pad else transform
        assert (crop.x0, crop.y0, crop.width, crop.height) == (x0, y0, crop_width, crop_height)
        assert transform.output_size == ((1024, 1024) if pad else (1024 - bottom, 1024 - right))


def test_boxes_are_recomputed_unless_told_not_to():
    """Of 5 pixels of the image, boxes that are cut off begin where the object's box does."""
    options = {
        "INPUT__AUGMENTATIONS": [
            ["RandomCrop", {"crop_type": "relative", "crop_size": [1.0, 0.5]}]
        ],
        "MODEL__KEYPOINT_ON": False,
    }
    found = [
        next(iter(training_dataset(demo_cfg(**options, INPUT__RECOMPUTE_BOXES=which), seed=0)))
        for which in (True, False)
    ]
    np.testing.assert_array_equal(found[0]["gt_polygons"], found[1]["gt_polygons"])
    recomputed, cut = (batch["gt_boxes"].numpy() for batch in found)
    assert recomputed.shape == cut.shape
    assert (np.abs(recomputed - cut) > 1).any()
    # What is left of a mask is within what is left of its box.
    assert (recomputed[..., :2] >= cut[..., :2] - 1e-3).all()
    assert (recomputed[..., 2:] <= cut[..., 2:] + 1e-3).all()
