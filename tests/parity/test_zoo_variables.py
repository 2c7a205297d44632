"""Every R-CNN of the zoo has exactly the variables that the real model's state dict has.

RetinaNet and the semantic and panoptic models are in test_dense.py.
"""

from __future__ import annotations

import gzip
import json

import pytest
import tensorflow as tf

from tests.support.paths import DATA, ROOT
from tests.support.point_rend import state_dicts
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.modeling.build import build_model


def recorded():
    result = {}
    for name in ("zoo_state_dicts", "new_baselines_state_dicts"):
        with gzip.open(DATA / f"{name}.json.gz", "rt") as file:
            result |= json.load(file)
    return {config.rpartition(".")[0]: shapes for config, shapes in result.items()}


RECORDED = recorded()
DENSE = ("retinanet", "semantic", "panoptic")
RCNNS = [config for config in RECORDED if not any(word in config for word in DENSE)]


def test_all_are_there():
    assert len(RECORDED) == 59 + 13
    assert all((ROOT / "configs" / f"{config}.yaml").is_file() for config in RECORDED)


@pytest.mark.parametrize("config", RCNNS)
def test_names_and_shapes(config):
    with tf.device("cpu"):
        model = build_model(load_config(ROOT / "configs" / f"{config}.yaml"))
    ours = {named.name: list(named.foreign_shape) for named in named_variables(model)}
    # A counter of PyTorch's BatchNorm, which nothing reads.
    expected = {
        name: shape
        for name, shape in RECORDED[config].items()
        if not name.endswith("num_batches_tracked")
    }
    assert ours == expected


QUICK = ("pointrend_rcnn_R_50_FPN_1x_coco", "pointrend_semantic_R_101_FPN_1x_cityscapes")


@pytest.mark.parametrize(
    "config",
    [
        name if name.endswith(QUICK) else pytest.param(name, marks=pytest.mark.full)
        for name in state_dicts()
        if not name.startswith("narrow_")
    ],
)
def test_names_and_shapes_of_point_rend(config):
    with tf.device("cpu"):
        model = build_model(load_config(f"PointRend/{config}"))
    ours = {named.name: list(named.foreign_shape) for named in named_variables(model)}
    assert ours == state_dicts()[config]
