"""What augmentations draw and do is what Detectron2's did (tests/recorders/augmentations.py).

Pixels and labels are equal. Coordinates are float64, rounded in another order; those of boxes, and
all of `ExtentTransform`, are float32 in Detectron2: an ulp at 64 pixels, 8e-6.
"""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.support.training_data import demo_cfg
from tfdetect.data.training.augmentation import AUGMENTATIONS, build_augmentation, draw_transforms
from tfdetect.data.training.transforms import TransformList

RECORD = ROOT / "tests" / "arrays" / "ops" / "augmentations.npz"
with np.load(RECORD) as _record:
    CASES = json.loads(str(_record["cases"]))


@pytest.fixture(scope="module")
def record():
    with np.load(RECORD) as found:
        return dict(found)


def augmentor_of(name, arguments):
    if name == "RandomCrop_CategoryAreaConstraint":  # which no model of boxes alone can have
        return AUGMENTATIONS.get("", name)(**arguments)
    (augmentor,) = build_augmentation(demo_cfg(INPUT__AUGMENTATIONS=[[name, arguments]]))
    return augmentor


@pytest.mark.parametrize("case", range(len(CASES)))
def test_same_as_detectron2(record, case):
    name, arguments, seed = CASES[case]
    image, labels, boxes = record["image"], record["sem_seg"], record["boxes"].astype(np.float64)
    (transform,) = draw_transforms(
        [augmentor_of(name, arguments)],
        image.shape[:2],
        np.random.RandomState(seed),
        boxes,
        lambda: labels,
    )
    before = image.copy()
    found = transform.apply_image(image)
    assert found.shape[:2] == transform.output_size
    np.testing.assert_array_equal(image, before)
    expected = record[f"{case}_image"]
    if "Rotation" in str(CASES[case]) and not cv2.__version__.startswith("5."):
        # OpenCV 4 rounds positions in another way: up to 3 levels in a seventh of the pixels.
        assert np.abs(found.astype(int) - expected).max() <= 3
    else:
        np.testing.assert_array_equal(found, expected)
        if name != "RandomExtent":  # see `ExtentTransform`
            np.testing.assert_array_equal(
                transform.apply_segmentation(labels), record[f"{case}_sem_seg"]
            )
    float32 = 8e-6
    points = transform.apply_coords(record["points"])
    atol = float32 if name == "RandomExtent" else 1e-12
    np.testing.assert_allclose(points, record[f"{case}_points"], rtol=0, atol=atol)
    corners = transform.apply_coords(boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 2))
    corners = corners.reshape(-1, 4, 2)
    around = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    np.testing.assert_allclose(around, record[f"{case}_boxes"], rtol=0, atol=float32)
    if f"{case}_polygon_0" in record:
        polygons = [record["polygon_0"], record["polygon_1"]]
        for index, polygon in enumerate(transform.apply_polygons(polygons)):
            expected = record[f"{case}_polygon_{index}"]
            np.testing.assert_allclose(polygon, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_color_aug_ssd(order):
    """projects/PointRend's, of the same random numbers (tests/recorders/color_aug_ssd.py)."""
    with np.load(ROOT / "tests" / "arrays" / "pointrend" / "color_aug_ssd.npz") as arrays:
        recorded = dict(arrays)
    image = recorded.pop("image")
    augmentor = AUGMENTATIONS.get("", "ColorAugSSD")(order)
    seeds = [int(key[4:]) for key in recorded if key.startswith(order)]
    assert len(seeds) == 24
    for seed in seeds:
        augmentor.rng = np.random.RandomState(seed)
        found = augmentor.get_transform(image).apply_image(image)
        np.testing.assert_array_equal(found, recorded[f"{order}_{seed}"])


def test_labels_of_an_extent_are_those_before(record):
    """Detectron2's are blended, which gives labels that are not in the image."""
    cases = [n for n, (name, *_) in enumerate(CASES) if name == "RandomExtent"]
    blended = set()
    for case in cases:
        name, arguments, seed = CASES[case]
        random = np.random.RandomState(seed)
        (transform,) = draw_transforms([augmentor_of(name, arguments)], (30, 40), random)
        found = transform.apply_segmentation(record["sem_seg"])
        known = {0, *np.unique(record["sem_seg"]).tolist()}
        assert set(np.unique(found).tolist()) <= known
        blended |= set(np.unique(record[f"{case}_sem_seg"]).tolist()) - known
        same = found == record[f"{case}_sem_seg"]
        assert same.mean() > 0.6
    assert blended


def test_every_augmentation_is_among_them():
    names = {name for name, *_ in CASES}
    built_in = {n for n in AUGMENTATIONS if AUGMENTATIONS.get("", n).__module__.startswith("tfdet")}
    # These have records of their own: above, and in test_transformer_recipes.py.
    assert names == built_in - {"ColorAugSSD", "AugmentationList"}


def test_both_outcomes_are_among_them(record):
    """Of what happens or not, and of what crops or pads."""
    for name in ("RandomFlip", "RandomApply", "MinIoURandomCrop"):
        same = {
            record[f"{number}_image"].shape == record["image"].shape
            and bool((record[f"{number}_image"] == record["image"]).all())
            for number, case in enumerate(CASES)
            if case[0] == name
        }
        assert same == {True, False}, name


def test_a_list_mirrors_if_an_odd_number_of_it_does():
    from tfdetect.data.training.transforms import HFlipTransform, VFlipTransform

    flips = [HFlipTransform(4, 6), VFlipTransform(4, 6), HFlipTransform(4, 6)]
    assert [TransformList(tuple(flips[:n])).mirrors for n in (1, 2, 3)] == [True, True, False]
