"""Pascal VOC's average precision against Detectron2's functions, and against cases by hand.

`voc_detectron2.json` has what Detectron2's `voc_eval` gave for `random_voc.make(folder, seed,
year)`, from result files that its evaluator would have written.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.support import random_voc
from tfdetect.data.voc import VocDataset, VocImage, VocObject, read_voc
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.voc import average_precision, evaluate, format_table, to_results

RECORDED = json.loads(Path(__file__).with_name("voc_detectron2.json").read_text())


@pytest.mark.parametrize("year", [2007, 2012])
@pytest.mark.parametrize("seed", [0, 1])
def test_detectron2_gives_the_same(tmp_path, seed, year):
    detections = random_voc.make(tmp_path, seed, year)
    dataset = read_voc(tmp_path, random_voc.CLASSES)
    assert dataset.year == year
    results = [record for name, found in detections.items() for record in to_results(found, name)]
    metrics = evaluate(dataset, results)["bbox"]
    # The same sums of some hundred terms, in percent: rounding alone.
    assert metrics == pytest.approx(RECORDED[f"{seed}_{year}"], abs=1e-9)


def test_the_definitions_of_the_mean():
    # Hit, miss, hit, of three objects: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3.
    recall, precision = np.array([1, 1, 2]) / 3, np.array([1, 1 / 2, 2 / 3])
    assert average_precision(recall, precision, False) == pytest.approx(1 / 3 + 2 / 9)
    # Recalls 0 to 0.3 reach precision 1, 0.4 to 0.6 reach 2/3, the other four reach none.
    assert average_precision(recall, precision, True) == pytest.approx((4 + 3 * 2 / 3) / 11)


def _dataset(*objects, year=2012):
    image = VocImage("a", "a.jpg", 100, 100, objects)
    return VocDataset(Path("test.txt"), Path(), year, ("cat", "dog"), (image,))


def _result(box, score, label=0):
    return {"image_id": "a", "category_id": label, "score": score, "bbox": box}


# In the file: 11, 11, 30, 30; 20 pixels wide.
CAT = VocObject(0, (10, 10, 30, 30), False)
RIGHT = [11, 11, 30, 30]


def test_a_second_detection_of_an_object_is_wrong():
    metrics = evaluate(_dataset(CAT), [_result(RIGHT, 0.9), _result(RIGHT, 0.8)])["bbox"]
    assert (metrics["AP50"], metrics["AP50-cat"]) == (100, 100)
    other = VocObject(0, (60, 60, 80, 80), False)
    found = [
        _result(RIGHT, 0.9),
        _result(RIGHT, 0.8),
        _result([61, 61, 80, 80], 0.7),
    ]
    assert evaluate(_dataset(CAT, other), found)["bbox"]["AP50"] == pytest.approx(50 + 100 / 3)


def test_difficult_objects_count_neither_for_nor_against():
    difficult = VocObject(0, (60, 60, 80, 80), True)
    found = [_result([61, 61, 80, 80], 0.9), _result([61, 61, 80, 80], 0.8), _result(RIGHT, 0.7)]
    assert evaluate(_dataset(CAT, difficult), found)["bbox"]["AP50"] == 100


def test_an_overlap_of_exactly_the_threshold_is_too_little():
    # 20 x 10 of 20 x 20 pixels: an IoU of 0.5, the last pixel included.
    assert evaluate(_dataset(CAT), [_result([11, 11, 30, 20], 0.9)])["bbox"]["AP50"] == 0
    assert evaluate(_dataset(CAT), [_result([11, 11, 30, 21], 0.9)])["bbox"]["AP50"] == 100


def test_classes_without_objects_are_left_out():
    metrics = evaluate(_dataset(CAT), [_result(RIGHT, 0.9), _result(RIGHT, 0.9, label=1)])["bbox"]
    assert metrics["AP50"] == 100
    assert math.isnan(metrics["AP50-dog"])
    assert format_table({"bbox": metrics}).splitlines()[-1].split() == ["dog", "-"]
    assert math.isnan(evaluate(_dataset(), [])["bbox"]["AP50"])


def test_no_detection_of_a_class():
    assert evaluate(_dataset(CAT), [])["bbox"]["AP50"] == 0
    assert evaluate(_dataset(CAT, year=2007), [])["bbox"]["AP50"] == 0


def test_numbers_are_those_of_the_result_files():
    found = Detections(
        height=100,
        width=100,
        boxes=np.array([[10.26, 0, 29.94, 99.5]], np.float32),
        scores=np.array([0.12345], np.float32),
        classes=np.array([1]),
    )
    assert to_results(found, "a") == [_result([11.3, 1.0, 29.9, 99.5], 0.123, label=1)]


def test_results_of_another_data_set_are_named():
    with pytest.raises(InputError, match="no image b"):
        evaluate(_dataset(CAT), [{**_result(RIGHT, 1.0), "image_id": "b"}])
    with pytest.raises(InputError, match="class 2"):
        evaluate(_dataset(CAT), [_result(RIGHT, 1.0, label=2)])
