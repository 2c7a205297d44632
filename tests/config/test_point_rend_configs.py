"""PointRend's configurations mean what Detectron2's of the same name mean."""

from __future__ import annotations

import pytest

from tests.support.point_rend import records, write_config
from tfdetect.config import load_config, zoo_models
from tfdetect.config.capabilities import capabilities
from tfdetect.config.ignored import ignored_in_training
from tfdetect.config.prediction import load_prediction_config
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


def test_augmentations_that_are_not_here_are_named():
    cfg = load_config(f"{PREFIX}SemanticSegmentation/pointrend_semantic_R_101_FPN_1x_cityscapes")
    assert [line.partition(": ")[0] for line in ignored_in_training(cfg)] == [
        "INPUT.COLOR_AUG_SSD",
        "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA",
    ]
