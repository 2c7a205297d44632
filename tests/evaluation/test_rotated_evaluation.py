"""COCO's average precision of rotated boxes, against Detectron2's `RotatedCOCOEvaluator`."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest

from tests.support.paths import DATA
from tfdetect.data.coco import read_coco
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.coco import evaluate, to_results
from tfdetect.evaluation.registry import open_dataset


@pytest.fixture(scope="module")
def recorded():
    return json.loads(gzip.decompress((DATA / "rotated" / "coco_ap.json.gz").read_bytes()))


@pytest.fixture
def annotations(recorded, tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(recorded["coco_json"]))
    return path


@pytest.mark.parametrize("case", ["rotated", "horizontal_boxes_given_as_4_numbers", "empty"])
def test_scores(recorded, annotations, case):
    """Averages of the same matches: no IoU is so near to a threshold that rounding moves it."""
    found = evaluate(read_coco(annotations), recorded[case]["results_json"], ["bbox"], rotated=True)
    expected = {name: float(score) for name, score in recorded[case]["scores"].items()}
    assert found["bbox"] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_through_an_evaluation_dataset(recorded, annotations, tmp_path):
    """What evaluation writes is what Detectron2 writes: COCO's records with five numbers."""
    dataset = open_dataset(annotations, ["bbox"], ["a", "b", "c"], rotated=True)
    results = []
    for index, image in enumerate(recorded["coco_json"]["images"]):
        of_image = [
            result
            for result in recorded["rotated"]["results_json"]
            if result["image_id"] == image["id"]
        ]
        boxes = np.array([result["bbox"] for result in of_image], np.float32).reshape(-1, 5)
        detections = Detections(
            height=image["height"],
            width=image["width"],
            boxes=boxes,
            scores=np.array([result["score"] for result in of_image]),
            classes=np.array([result["category_id"] for result in of_image], np.int64),
        )
        results += dataset.to_results(index, detections)
    (path,) = dataset.write_results(tmp_path, results)
    assert path.name == "coco_instances_results.json"
    assert json.loads(path.read_text()) == recorded["rotated"]["results_json"]
    expected = recorded["rotated"]["scores"]
    assert dataset.evaluate(results)["bbox"] == pytest.approx(expected, abs=1e-9)


def test_crowds_take_any_number_of_detections(tmp_path):
    """Detectron2 rejects them; here a detection within one is neither right nor wrong."""
    entries = [
        {"bbox": [50, 50, 40, 20, 30], "iscrowd": 0},
        {"bbox": [150, 50, 80, 60, -30], "iscrowd": 1},
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 100, "width": 200}],
        "categories": [{"id": 1, "name": "ship"}],
        "annotations": [
            {"id": index, "image_id": 1, "category_id": 1, "area": 800, **entry}
            for index, entry in enumerate(entries)
        ],
    }
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    boxes = [[150, 50, 10, 10, 0], [150, 50, 20, 10, 45], [50, 50, 40, 20, 30]]
    detections = Detections(
        height=100,
        width=200,
        boxes=np.array(boxes, np.float32),
        scores=np.array([0.9, 0.8, 0.7], np.float32),
        classes=np.zeros(3, np.int64),
    )
    results = to_results(detections, 1, [1])
    assert evaluate(read_coco(path), results, ["bbox"], rotated=True)["bbox"][
        "AP"
    ] == pytest.approx(100)
    beside = [{**result, "bbox": [20, 80, 10, 10, 0]} for result in results[:2]] + results[2:]
    assert evaluate(read_coco(path), beside, ["bbox"], rotated=True)["bbox"]["AP"] < 50


def test_horizontal_models_are_refused(annotations):
    with pytest.raises(InputError, match=r"annotation 1: 'bbox' has five numbers"):
        open_dataset(annotations, ["bbox"], ["a", "b", "c"])


def test_what_is_not_measured(annotations, tmp_path):
    with pytest.raises(InputError, match="recall of rotated proposals"):
        open_dataset(annotations, ["box_proposals"], [], rotated=True)
    content = json.loads(annotations.read_text())
    for image in content["images"]:
        image |= {
            "coco_url": "http://a/val2017/1.jpg",
            "neg_category_ids": [],
            "not_exhaustive_category_ids": [],
        }
    for annotation in content["annotations"]:
        annotation["bbox"] = annotation["bbox"][:4]
        annotation["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    for category in content["categories"]:
        category |= {"frequency": "f", "image_count": 1, "instance_count": 1}
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="LVIS has no rotated boxes"):
        open_dataset(path, ["bbox"], ["a", "b", "c"], rotated=True)


def test_no_results_give_nan(annotations):
    found = evaluate(read_coco(annotations), [], ["bbox"], rotated=True)["bbox"]
    assert all(math.isnan(value) for value in found.values())
