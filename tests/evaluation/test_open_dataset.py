"""Data sets of every format behind one interface: the content tells which it is."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tests.support import random_lvis, random_panoptic, random_voc
from tests.support.paths import DEMO, ROOT
from tfdetect.config import load_config
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import model_tasks
from tfdetect.evaluation.registry import EVALUATORS, open_dataset

ALL = ["bbox", "segm", "keypoints", "panoptic_seg", "sem_seg"]


def _nothing(height, width):
    zero = np.zeros
    return Detections(
        height, width, zero((0, 4), np.float32), zero(0, np.float32), zero(0, np.int64)
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("COCO-Detection/faster_rcnn_R_50_FPN_1x", ["bbox"]),
        ("COCO-Detection/retinanet_R_50_FPN_1x", ["bbox"]),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", ["bbox", "segm"]),
        ("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x", ["bbox", "keypoints"]),
        (
            "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x",
            ["bbox", "segm", "panoptic_seg", "sem_seg"],
        ),
        ("Misc/semantic_R_50_FPN_1x", ["sem_seg"]),
    ],
)
def test_what_a_model_gives(config, expected):
    assert model_tasks(load_config(ROOT / "configs" / f"{config}.yaml")) == expected


def test_coco(tmp_path):
    dataset = open_dataset(DEMO / "annotations.json", ["segm", "bbox"], [])
    assert (dataset.form, dataset.tasks, dataset.image_folder) == ("COCO", ["bbox", "segm"], None)
    assert dataset.file_names[0] == "000000.jpg"
    found = dataclasses.replace(
        _nothing(212, 327),
        boxes=np.array([[1, 2, 4, 8]], np.float32),
        scores=np.array([0.5], np.float32),
        classes=np.array([2]),
        masks=np.zeros((1, 212, 327), bool),
    )
    (record,) = dataset.to_results(0, found)
    assert (record["image_id"], record["category_id"], record["bbox"]) == (1, 3, [1, 2, 3, 6])
    metrics = dataset.evaluate([record])
    assert list(metrics) == ["bbox", "segm"]
    assert "square" in dataset.format_table(metrics)
    (path,) = dataset.write_results(tmp_path, [record])
    assert path.name == "coco_instances_results.json"
    assert json.loads(path.read_text()) == [record]


def test_lvis(tmp_path):
    root, results = random_lvis.make(0)
    (tmp_path / "x.json").write_text(json.dumps(root))
    dataset = open_dataset(tmp_path / "x.json", ALL, [])
    assert (dataset.form, dataset.tasks) == ("LVIS", ["bbox", "segm"])
    assert dataset.file_names[0] == "val2017/000000000001.jpg"
    assert dataset.to_results(0, _nothing(9, 9)) == []
    metrics = dataset.evaluate(results)
    assert metrics["bbox"]["AP"] > 0
    assert "APr" in dataset.format_table(metrics)
    (path,) = dataset.write_results(tmp_path, results)
    assert (path.name, json.loads(path.read_text())) == ("lvis_instances_results.json", results)


@pytest.mark.parametrize("name", ["", "ImageSets/Main/test.txt"])
def test_voc(tmp_path, name):
    detections = random_voc.make(tmp_path / "VOC2007", 0, 2007)
    dataset = open_dataset(tmp_path / "VOC2007" / name, ALL, random_voc.CLASSES)
    assert (dataset.form, dataset.tasks) == ("Pascal VOC", ["bbox"])
    assert dataset.file_names[1] == "000001.jpg"
    assert dataset.image_folder == tmp_path / "VOC2007" / "JPEGImages"
    results = []
    for index, found in enumerate(detections.values()):
        results += dataset.to_results(index, found)
    metrics = dataset.evaluate(results)
    assert "aeroplane" in dataset.format_table(metrics)
    paths = dataset.write_results(tmp_path / "out", results)
    assert [path.name for path in paths] == [
        f"comp4_det_test_{name}.txt" for name in random_voc.CLASSES
    ]
    first = next(result for result in results if result["category_id"] == 0)
    name, score, *box = paths[0].read_text().splitlines()[0].split(" ")
    assert (name, float(score), [float(x) for x in box]) == (
        first["image_id"],
        first["score"],
        first["bbox"],
    )
    assert sum(len(path.read_text().splitlines()) for path in paths) == len(results)


def test_panoptic(tmp_path):
    predictions = random_panoptic.make(tmp_path, 0)
    dataset = open_dataset(tmp_path / "panoptic.json", ALL, [])
    assert (dataset.form, dataset.tasks) == ("COCO panoptic", ["panoptic_seg", "sem_seg"])
    results = []
    for index, prediction in enumerate(predictions):
        sem_seg = np.zeros_like(prediction.ids)
        found = dataclasses.replace(_nothing(*sem_seg.shape), sem_seg=sem_seg, panoptic=prediction)
        results += dataset.to_results(index, found)
    metrics = dataset.evaluate(results)
    assert list(metrics) == ["panoptic_seg", "sem_seg"]
    assert metrics["sem_seg"]["ACC-things"] == 100
    table = dataset.format_table(metrics)
    assert "PQ_th" in table
    assert "mIoU" in table
    paths = dataset.write_results(tmp_path / "out", results)
    assert [path.name for path in paths] == ["panoptic.json", "sem_seg_predictions.json"]
    only = open_dataset(tmp_path / "panoptic.json", ["sem_seg"], [])
    assert list(only.evaluate(results)) == ["sem_seg"]


def test_no_detection_at_all(tmp_path):
    random_panoptic.make(tmp_path, 0)
    random_voc.make(tmp_path / "voc", 0, 2012)
    (tmp_path / "lvis.json").write_text(json.dumps(random_lvis.make(0)[0]))
    for path in ("panoptic.json", "voc", "lvis.json", DEMO / "annotations.json"):
        names = random_voc.CLASSES if path == "voc" else []
        dataset = open_dataset(tmp_path / path, ALL[:2] + ALL[3:], names)
        assert "task" in dataset.format_table(dataset.evaluate([]))
        dataset.write_results(tmp_path / "out", [])


def test_what_cannot_be_measured_is_named(tmp_path):
    random_panoptic.make(tmp_path, 0)
    with pytest.raises(InputError, match=r"panoptic\.json: COCO panoptic annotations cover"):
        open_dataset(tmp_path / "panoptic.json", ["bbox"], [])
    with pytest.raises(
        InputError,
        match=r"annotations\.json: COCO .*but the model predicts "
        r"sem_seg",
    ):
        open_dataset(DEMO / "annotations.json", ["sem_seg"], [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not one of Pascal VOC, YOLO, labelme, DOTA, Cityscapes"):
        open_dataset(tmp_path / "empty", ALL, [])
    with pytest.raises(InputError, match="masks do not say where their images are"):
        open_dataset(tmp_path / "panoptic", ALL, [])
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        open_dataset(tmp_path / "none.json", ALL, [])
    (tmp_path / "gtFine" / "aachen").mkdir(parents=True)
    (tmp_path / "gtFine" / "aachen" / "aachen_0_0_gtFine_polygons.json").touch()
    with pytest.raises(InputError, match="Cityscapes' annotations do not say where its images are"):
        open_dataset(tmp_path / "gtFine", ALL, [])


@pytest.mark.parametrize("last", [True, False])
def test_a_registered_evaluator_is_asked_before_cocos(tmp_path, monkeypatch, last):
    """Also one that was registered before this project's, by a file of --import."""
    path = tmp_path / "boxes.csv"
    path.write_text("mine")
    opened = object()
    own = {"csv": lambda path, content, *_: opened if content == b"mine" else None}
    built_in = {name: EVALUATORS.get("format", name) for name in EVALUATORS}
    monkeypatch.setattr(EVALUATORS, "_entries", built_in | own if last else own | built_in)
    assert open_dataset(path, ALL, []) is opened
    assert open_dataset(DEMO / "annotations.json", ["bbox"], []).form == "COCO"
