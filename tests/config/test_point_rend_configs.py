"""PointRend's configurations mean what Detectron2's of the same name mean."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.point_rend import records, write_config
from tfdetect.config import load_config, zoo_models
from tfdetect.config.capabilities import capabilities
from tfdetect.config.ignored import ignored_in_training
from tfdetect.config.prediction import load_prediction_config
from tfdetect.data.training.augmentation import build_augmentation
from tfdetect.data.training.augmentations.ssd import ColorAugSSD
from tfdetect.errors import InputError

PREFIX = "PointRend/"
NAMES = [name.removeprefix(PREFIX) for name in zoo_models() if name.startswith(PREFIX)]


def test_all_are_there():
    published = {name for name in records()["configs"] if not name.startswith("narrow_")}
    assert set(NAMES) == published
    assert len(NAMES) == 8


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_detectron2(name, tmp_path):
    """Of the complete configuration, which Detectron2 wrote for a training."""
    expected = load_config(write_config(name, tmp_path))
    found = load_config(f"{PREFIX}{name}")
    assert found == expected
    assert capabilities(found).has_points


def test_the_size_of_pooled_regions_is_that_of_the_weights(tmp_path):
    """Unlike the one of a mask head of convolutions."""
    path = write_config("narrow_instance", tmp_path)
    with pytest.raises(InputError, match="the weights were trained with a different value"):
        load_prediction_config(path, ["MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 7])


def test_augmentations_of_the_semantic_model():
    """In the order of projects/PointRend's trainer; nothing else has them."""
    cfg = load_config(f"{PREFIX}SemanticSegmentation/pointrend_semantic_R_101_FPN_1x_cityscapes")
    assert ignored_in_training(cfg) == []
    assert [type(augmentor).__name__ for augmentor in build_augmentation(cfg)] == [
        "ResizeShortestEdge",
        "RandomCrop_CategoryAreaConstraint",
        "ColorAugSSD",
        "RandomFlip",
    ]
    options = ["INPUT.COLOR_AUG_SSD", True]
    cfg = load_config(f"{PREFIX}InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco", options)
    assert [line.partition(": ")[0] for line in ignored_in_training(cfg)] == options[:1]
    assert len(build_augmentation(cfg)) == 2


def test_color_aug_ssd():
    """Of one seed the same colours in both orders of channels."""
    rng = np.random.RandomState(0)
    image = rng.randint(0, 256, (9, 7, 3)).astype(np.uint8)
    seen = set()
    for seed in range(40):
        found = []
        for name in ("BGR", "RGB"):
            augmentor = ColorAugSSD(name)
            augmentor.rng = np.random.RandomState(seed)
            transform = augmentor.get_transform(image)
            given = image if name == "BGR" else image[:, :, ::-1]
            result = transform.apply_image(given)
            assert result.dtype == np.uint8
            found.append(result if name == "BGR" else result[:, :, ::-1])
            labels = image[:, :, 0]
            np.testing.assert_array_equal(transform.apply_segmentation(labels), labels)
        np.testing.assert_array_equal(*found)
        if not transform.steps:
            np.testing.assert_array_equal(found[0], image)
        seen |= {kind for kind, _ in transform.steps}
    assert seen == {"brightness", "contrast", "saturation", "hue"}
