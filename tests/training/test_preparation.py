"""A metric that is asked for is one that the data sets' formats have; hooks are hooks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import random_lvis, random_voc
from tests.support.paths import DEMO
from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.evaluation.registry import open_dataset
from tfdetect.modeling.registries import BOX_LOSSES, check_box_losses
from tfdetect.training import Hook, train
from tfdetect.training.preparation import check_metric
from tfdetect.training.test_data import EvaluationData


def opened(name, path, tasks, class_names=("a", "b")):
    dataset = open_dataset(path, tasks, class_names)
    return EvaluationData(name, dataset, Path(), frozenset())


@pytest.fixture
def coco():
    content = json.loads((DEMO / "annotations.json").read_text())
    names = [category["name"] for category in content["categories"]]
    return opened("val", DEMO / "annotations.json", ["bbox", "segm"], names)


@pytest.fixture
def lvis(tmp_path):
    content, _ = random_lvis.make(1)
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(content))
    return opened("lvis", path, ["bbox"], [category["name"] for category in content["categories"]])


def test_of_one_data_set(coco):
    for metric in ("", None, "bbox/AP", "segm/APl", "bbox/AP-person"):
        check_metric("KEY", metric, [coco])
    for metric in ("AP", "bbox", "bbox/", "bbox/APr", "keypoints/AP", "val/bbox/AP", "-"):
        with pytest.raises(InputError, match=r"^KEY: .* is not measured; give one of bbox/AP, "):
            check_metric("KEY", metric, [coco])


def test_of_two(coco, lvis):
    check_metric("KEY", "val/bbox/AP", [coco, lvis])
    check_metric("KEY", "lvis/bbox/APr", [coco, lvis])
    with pytest.raises(InputError, match=r"val/segm/APm, .*lvis/bbox/APf"):
        check_metric("KEY", "bbox/AP", [coco, lvis])


def test_of_other_formats(tmp_path):
    random_voc.make(tmp_path / "VOC2007", 1, 2007)
    path = tmp_path / "VOC2007" / "ImageSets" / "Main" / "test.txt"
    voc = opened("voc", path, ["bbox"], random_voc.CLASSES)
    check_metric("KEY", "bbox/AP50", [voc])
    check_metric("KEY", "bbox/AP50-boat", [voc])
    proposals = opened("val", DEMO / "annotations.json", ["box_proposals"], ["object"])
    check_metric("KEY", "box_proposals/AR@1000", [proposals])


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("COCO-Detection/faster_rcnn_R_50_FPN_1x", "RPN"),
        ("Misc/cascade_mask_rcnn_R_50_FPN_1x", "ROI_BOX_HEAD"),
        ("COCO-Detection/retinanet_R_50_FPN_1x", "RETINANET"),
    ],
)
def test_box_losses(name, section, monkeypatch):
    """An unknown one is rejected at the start of a training, of every part that has one."""
    key = f"MODEL.{section}.BBOX_REG_LOSS_TYPE"
    for loss in ("smooth_l1", "ciou"):
        check_box_losses(load_config(name, [key, loss]))
    cfg = load_config(name, [key, "my_iou"])
    with pytest.raises(InputError, match=rf"^{key}: 'my_iou' is not supported; use .*smooth_l1"):
        check_box_losses(cfg)
    with pytest.raises(InputError, match=rf"^{key}"):
        train(cfg)
    monkeypatch.setitem(BOX_LOSSES._entries, "my_iou", lambda *arguments: None)
    check_box_losses(cfg)


@pytest.mark.parametrize("hook", [Hook, object(), None])
def test_what_is_no_hook(hook):
    cfg = load_config(DEMO / "joint_rcnn" / "config.yaml")
    with pytest.raises(InputError, match=r"^hooks: is .*, no tfdetect\.training\.Hook$"):
        train(cfg, [Hook(), hook])
