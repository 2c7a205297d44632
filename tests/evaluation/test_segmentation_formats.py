"""Evaluation on folders of masks, on separated panoptic data and on Cityscapes."""

from __future__ import annotations

import json
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.toy_segmentation import STUFF, write_cityscapes, write_toy
from tfdetect.config import load_config
from tfdetect.data.registry import (
    dataset_files,
    dataset_metadata,
    register_dataset,
    register_separated_dataset,
)
from tfdetect.detections import Detections, PanopticSegmentation, Segment
from tfdetect.errors import InputError
from tfdetect.evaluation import cityscapes
from tfdetect.evaluation.registered import open_files
from tfdetect.evaluation.report import write_and_measure

SEMANTIC = ["MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "3"]
PANOPTIC = [*SEMANTIC, "MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.MASK_ON", "True"]
PANOPTIC += ["MODEL.ROI_HEADS.NUM_CLASSES", "2"]
NAMES = {"class_names": ["cat", "dog"], "stuff_class_names": STUFF}


@pytest.fixture
def toy(tmp_path):
    return write_toy(tmp_path / "toy")


def open_toy(name, opts, names=NAMES):
    cfg = load_config("Base-RCNN-FPN", opts)
    return open_files(dataset_files(name, "DATASETS.TEST"), cfg, names, raised)


def raised(error):
    raise error


def found(labels, with_things=False):
    """What a model gives that finds everything: the unlabelled row is grass to it."""
    height, width = labels.shape
    sem_seg = np.where(labels == 255, 1, labels).astype(np.int32)
    boxes, masks, segments = [], [], []
    ids = np.select([labels == 1, labels == 2], [3, 4], 0).astype(np.int32)
    for index, half in enumerate((slice(0, width // 2), slice(width // 2, width))):
        mask = np.zeros(labels.shape, bool)
        mask[:, half] = (labels == 0)[:, half]
        rows, columns = np.nonzero(mask)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        masks.append(mask)
        ids[mask] = index + 1
        segments.append(Segment(index + 1, index, True, 1.0, index, int(mask.sum())))
    segments += [Segment(3, 1, False, 0.0, 0, 0), Segment(4, 2, False, 0.0, 0, 0)]
    if not with_things:
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int)
        return Detections(height, width, *nothing, None, None, sem_seg=sem_seg)
    return Detections(
        height,
        width,
        np.array(boxes, np.float32),
        np.ones(2, np.float32),
        np.array([0, 1]),
        np.array(masks),
        None,
        sem_seg=sem_seg,
        panoptic=PanopticSegmentation(ids, tuple(segments)),
    )


def measure(dataset, toy, folder, **options):
    results = []
    for index, name in enumerate(dataset.file_names):
        labels = toy.labels[name.split(".")[0]]
        results += dataset.to_results(index, found(labels, **options))
    return write_and_measure(dataset, results, range(len(dataset.file_names)), folder)


def test_masks(toy, tmp_path):
    register_dataset("masks_measured", toy.masks, toy.images)
    dataset = open_toy("masks_measured", SEMANTIC)
    done = measure(dataset, toy, tmp_path)
    assert done.metrics["sem_seg"]["mIoU"] == 100
    assert done.metrics["sem_seg"]["IoU-sky"] == 100
    assert not done.errors
    written = json.loads((tmp_path / "sem_seg_predictions.json").read_text())
    assert {record["image_id"] for record in written} == set(toy.labels)
    assert {record["category_id"] for record in written} == {0, 1, 2}


def test_masks_with_the_models_classes_in_another_order(toy, tmp_path):
    """By name: what the model calls class 2 is the data set's class 1."""
    register_dataset("masks_other_order", toy.masks, toy.images)
    other = NAMES | {"stuff_class_names": ["things", "sky", "grass"]}
    dataset = open_toy("masks_other_order", SEMANTIC, other)
    assert "matched by name" in dataset.notes[0]
    results = []
    for index, name in enumerate(dataset.file_names):
        detections = found(toy.labels[name.split(".")[0]])
        detections.sem_seg[:] = np.array([0, 2, 1])[detections.sem_seg]
        results += dataset.to_results(index, detections)
    assert dataset.evaluate(results)["sem_seg"]["mIoU"] == 100


@pytest.mark.parametrize("panoptic", [True, False])
def test_separated(toy, tmp_path, panoptic):
    """Objects, stuff and, where there are panoptic annotations, both together."""
    name = f"separated_measured_{panoptic}"
    path = toy.panoptic if panoptic else ""
    register_separated_dataset(name, toy.instances, path, toy.masks, toy.images)
    dataset = open_toy(name, PANOPTIC)
    done = measure(dataset, toy, tmp_path, with_things=True)
    assert not done.errors
    assert done.metrics["bbox"]["AP"] == pytest.approx(100)
    assert done.metrics["segm"]["AP"] == pytest.approx(100)
    assert done.metrics["sem_seg"]["mIoU"] == 100
    assert ("panoptic_seg" in done.metrics) == panoptic
    if panoptic:
        assert done.metrics["panoptic_seg"]["PQ"] == 100
        assert (tmp_path / "panoptic.json").is_file()
    assert (tmp_path / "coco_instances_results.json").is_file()
    assert (tmp_path / "sem_seg_predictions.json").is_file()
    assert "sem_seg" in done.text
    # On a part of the images.
    results = dataset.to_results(2, found(toy.labels["003"], with_things=True))
    part = dataset.evaluate(results, [2])
    assert part["sem_seg"]["mIoU"] == 100
    assert part["segm"]["AP"] == pytest.approx(100)


def test_wrong_masks_are_said_first(toy):
    labels = toy.labels["002"].copy()
    labels[0] = 77
    Image.fromarray(labels).save(toy.masks / "002.png")
    register_dataset("masks_wrong", toy.masks, toy.images)
    with pytest.raises(InputError, match=r"002\.png: has the value 77"):
        open_toy("masks_wrong", SEMANTIC)


@pytest.fixture
def city(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(write_cityscapes(tmp_path, split="val")))
    names = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    opts = ["MODEL.MASK_ON", "True", "MODEL.ROI_HEADS.NUM_CLASSES", "8"]

    def opened():
        return open_toy("cityscapes_fine_instance_seg_val", opts, {"class_names": names})

    return opened


def test_cityscapes_without_its_package(city, monkeypatch):
    """One line says what to install, before anything is predicted."""
    monkeypatch.setattr(cityscapes, "_TOOL", "no_such_package.evaluation")
    with pytest.raises(InputError, match=r"pip install 'tfdetect\[cityscapes\]'") as caught:
        city()
    assert "\n" not in str(caught.value)


def test_cityscapes_results(city, monkeypatch, tmp_path):
    """The files that the package reads, and its numbers in percent."""
    seen = {}

    def match(predicted, truth, gt_instances, args):
        for path in predicted:
            lines = Path(path).read_text().splitlines()
            seen[path.rpartition("/")[2]] = [line.split() for line in lines]
            for line in lines:
                png = np.asarray(Image.open(f"{args.predictionPath}/{line.split()[0]}"))
                assert set(np.unique(png)) == {0, 255}
        assert all(path.endswith("_gtFine_instanceIds.png") for path in truth)

    classes = {"car": {"ap": 0.5, "ap50%": 1.0}}
    tool = types.SimpleNamespace(
        args=types.SimpleNamespace(),
        setInstanceLabels=lambda args: None,
        getGtInstances=lambda truth, args: None,
        matchGtWithPreds=match,
        evaluateMatches=lambda matches, args: None,
        computeAverages=lambda scores, args: {"allAp": 0.25, "allAp50%": 0.5, "classes": classes},
    )
    monkeypatch.setattr(cityscapes, "import_tool", lambda: tool)
    dataset = city()
    height, width = dataset.image_sizes[0]
    mask = np.zeros((1, height, width), bool)
    mask[0, 10:30, 5:30] = True
    box = np.array([[5, 10, 30, 30]], np.float32)
    one = Detections(height, width, box, np.array([0.75], np.float32), np.array([2]), mask, None)
    done = write_and_measure(dataset, dataset.to_results(0, one), [0, 1], tmp_path / "out")
    assert not done.errors
    assert done.metrics["segm"] == {"AP": 25, "AP50": 50, "AP-car": 50}
    assert seen["aachen_000000_000019_pred.txt"] == [
        ["aachen_000000_000019_0_26.png", "26", "0.75"]
    ]
    # A file for every image, also one in which nothing was found.
    assert seen["aachen_000001_000019_pred.txt"] == []
    assert (tmp_path / "out" / "cityscapes" / "aachen_000001_000019_pred.txt").is_file()


def test_cityscapes_by_its_package(city):
    """A car found exactly, and someone missed."""
    pytest.importorskip("cityscapesscripts")
    dataset = city()
    results = []
    for index, (height, width) in enumerate(dataset.image_sizes):
        mask = np.zeros((1, height, width), bool)
        mask[0, 10:30, 5:30] = True
        mask[0, 8:34, 35:50] = False
        box = np.array([[5, 10, 30, 30]], np.float32)
        score = np.array([0.75], np.float32)
        one = Detections(height, width, box, score, np.array([2]), mask, None)
        results += dataset.to_results(index, one)
    metrics = dataset.evaluate(results)["segm"]
    assert metrics["AP-car"] == pytest.approx(100)
    assert metrics["AP-person"] == pytest.approx(0)
    assert metrics["AP"] == pytest.approx(50)


def test_cityscapes_panoptic(tmp_path, monkeypatch):
    """All segments found but the pedestrian of the second image; the road is found there, too."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(write_cityscapes(tmp_path, split="val")))
    files = dataset_files("cityscapes_fine_panoptic_val", "DATASETS.TEST")
    known = dataset_metadata(files)
    names = {"class_names": known.thing_classes, "stuff_class_names": known.stuff_classes}
    opts = [*PANOPTIC, "MODEL.ROI_HEADS.NUM_CLASSES", "8", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "12"]
    dataset = open_toy("cityscapes_fine_panoptic_val", opts, names)
    assert dataset.file_names[1] == "aachen/aachen_000001_000019_leftImg8bit.png"
    road, sky = map(known.stuff_classes.index, ("road", "sky"))
    results = []
    for index, (height, width) in enumerate(dataset.image_sizes):
        ids = np.zeros((height, width), np.int32)
        ids[: height // 2] = 1
        ids[height // 2 : height - 4] = 2
        ids[8:34, 35:50] = 4 if index == 0 else 0
        ids[10:30, 5:30] = 3
        segments = [Segment(1, sky, False, 0.0, 0, 0), Segment(2, road, False, 0.0, 0, 0)]
        segments += [Segment(3, 2, True, 1.0, 0, 0), Segment(4, 0, True, 1.0, 1, 0)]
        detections = Detections(
            height,
            width,
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, int),
            None,
            None,
            sem_seg=np.choose(ids, [road, sky, road, 0, 0]).astype(np.int32),
            panoptic=PanopticSegmentation(ids, tuple(segments)),
        )
        results += dataset.to_results(index, detections)
    done = write_and_measure(dataset, results, [0, 1], tmp_path / "out")
    assert not done.errors
    scores = done.metrics["panoptic_seg"]
    # A pedestrian of two: RQ is 1 / (1 + 0.5).
    assert (scores["SQ"], scores["PQ_st"]) == (100, 100)
    assert scores["PQ_th"] == pytest.approx((100 + 200 / 3) / 2)
    assert scores["PQ"] == pytest.approx((300 + 200 / 3) / 4)
    written = json.loads((tmp_path / "out" / "panoptic.json").read_text())["annotations"]
    found = [{segment["category_id"] for segment in image["segments_info"]} for image in written]
    assert found == [{7, 23, 24, 26}, {7, 23, 26}]
    assert written[1]["image_id"] == "aachen_000001_000019"
