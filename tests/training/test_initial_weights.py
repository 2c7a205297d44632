"""MODEL.WEIGHTS: names of Caffe2, parts of a model, and layers that do not fit."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest

from convert_d2.libraries.caffe2_names import rename_caffe2
from tests.support.paths import DEMO
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model
from tfdetect.training.weights import load_initial_weights

WEIGHTS = DEMO / "joint_rcnn" / "model_final.pkl"
BACKBONE = "backbone.bottom_up."
# Caffe2's kinds of arrays, by Detectron2's.
KINDS = {"weight": "w", "norm.weight": "bn_s", "norm.bias": "bn_b"}
BRANCHES = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}


@pytest.fixture(scope="module")
def recorded():
    return read_checkpoint(WEIGHTS).arrays


def load(caplog, weights, *opts):
    """The model's variables by name, in PyTorch's shapes, and what the log says."""
    cfg = load_config(
        DEMO / "joint_rcnn" / "config.yaml", ["MODEL.WEIGHTS", str(weights), *map(str, opts)]
    )
    model = build_model(cfg)
    with caplog.at_level(logging.INFO, "tfdetect.train"):
        load_initial_weights(cfg, model, 1)
    return {named.name: named for named in named_variables(model)}, caplog.text


def assert_loaded(named, array):
    np.testing.assert_array_equal(named.variable, named.from_foreign(array))


def caffe2_name(name):
    *layer, kind = name.removeprefix(BACKBONE).split(".")
    if layer[-1] == "norm":
        kind = f"norm.{kind}"
        layer = layer[:-1]
    if layer == ["stem", "conv1"]:
        return f"{'res_' if 'norm' in kind else ''}conv1_{KINDS[kind]}"
    return f"{layer[0]}_{layer[1]}_{BRANCHES[layer[2]]}_{KINDS[kind]}"


def test_imagenet_backbone_of_caffe2(tmp_path, caplog, recorded):
    backbone = {
        name: array
        for name, array in recorded.items()
        if name.startswith(BACKBONE) and "running" not in name
    }
    assert len(backbone) == 3 * 53
    file = tmp_path / "R-50.pkl"
    renamed = {caffe2_name(name): array for name, array in backbone.items()}
    extra = {"fc1000_w": np.zeros([3, 2], np.float32), "conv1_w_momentum": np.ones(1, np.float32)}
    file.write_bytes(pickle.dumps(renamed | extra))
    variables, log = load(caplog, file)
    for name, array in backbone.items():
        assert_loaded(variables[name], array)
    # Its scale and shift are the whole of batch normalisation.
    statistics = [v for name, v in variables.items() if name.endswith("running_var")]
    assert len(statistics) == 53
    assert all((named.variable.numpy() == 1).all() for named in statistics)
    assert "not used: fc1000_w" in log
    assert "has no backbone.fpn_lateral2.weight" in log
    assert "running_mean" not in log


@pytest.mark.parametrize(
    ("caffe2", "detectron2"),
    [
        ("conv1_w", "stem.conv1.weight"),
        ("conv1_b", "stem.conv1.bias"),
        ("res_conv1_bn_s", "stem.conv1.norm.weight"),
        ("conv1_gn_b", "stem.conv1.norm.bias"),
        ("res4_22_branch2b_bn_rm", "res4.22.conv2.norm.running_mean"),
        ("res4_22_branch2b_bn_riv", "res4.22.conv2.norm.running_var"),
        ("res2_0_branch1_w", "res2.0.shortcut.weight"),
        ("fc1000_b", "fc1000_b"),
    ],
)
def test_names_of_caffe2(caffe2, detectron2):
    assert list(rename_caffe2({caffe2: np.zeros(1)})) == [detectron2]


def test_backbone_alone_as_converted_from_torchvision(tmp_path, caplog, recorded):
    file = tmp_path / "R-50.pkl"
    part = {
        name.removeprefix(BACKBONE): array
        for name, array in recorded.items()
        if name.startswith(BACKBONE)
    }
    file.write_bytes(pickle.dumps({"model": part, "__author__": "torchvision"}))
    variables, _ = load(caplog, file)
    for name, array in part.items():
        assert_loaded(variables[BACKBONE + name], array)


def test_another_number_of_classes(caplog, recorded):
    variables, log = load(caplog, WEIGHTS, "MODEL.ROI_HEADS.NUM_CLASSES", 7)
    assert_loaded(
        variables["backbone.fpn_lateral2.weight"], recorded["backbone.fpn_lateral2.weight"]
    )
    score = "roi_heads.box_predictor.cls_score.weight"
    assert f"{score} [5, 128] for [8, 128]" in log
    assert np.std(variables[score].variable) == pytest.approx(0.01, rel=0.2)


def test_nothing_that_fits(tmp_path, caplog):
    file = tmp_path / "other.pkl"
    file.write_bytes(pickle.dumps({"model": {"head.weight": np.zeros(3, np.float32)}}))
    with pytest.raises(InputError, match=r"other\.pkl: MODEL\.WEIGHTS has nothing"):
        load(caplog, file)
    with pytest.raises(InputError, match=r"MODEL\.WEIGHTS: detectron2://"):
        load(caplog, "detectron2://R-50.pkl")


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["person", "circle", "square", "triangle"], [0, 1, 2, 3]),
        (["triangle", "Circle", "star", "person"], [3, 1, 2, 0]),
        (["cat", "dog", "cow", "pig"], [0, 1, 2, 3]),
    ],
)
def test_classes_of_a_model_directory_go_by_their_names(model_dir, caplog, names, order):
    cfg = load_config(model_dir / "config.yaml", ["MODEL.WEIGHTS", str(model_dir)])
    model = build_model(cfg)
    with caplog.at_level(logging.INFO, "tfdetect.train"):
        load_initial_weights(cfg, model, 1, names)
    _, source, _ = load_model(model_dir)
    given = {named.name: named.variable.numpy() for named in named_variables(source)}
    heads = "roi_heads.box_predictor.cls_score.bias", "roi_heads.mask_head.predictor.bias"
    for named in named_variables(model):
        expected = given[named.name]
        if named.name in heads:
            expected = expected[[*order, *range(4, len(expected))]]
            assert (order == [0, 1, 2, 3]) == np.array_equal(expected, given[named.name])
        elif "cls_score" in named.name or "bbox_pred" in named.name or "predictor" in named.name:
            continue  # tests/data/test_class_names.py has them all
        np.testing.assert_array_equal(named.variable, expected)
    assert ("matched by name" in caplog.text) == (order != [0, 1, 2, 3])
