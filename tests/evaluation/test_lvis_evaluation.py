"""LVIS's average precision against the package `lvis`, and against cases worked out by hand.

`lvis_package.json` has what lvis 0.5.3 gave for `random_lvis.make(seed)` with `numpy.float` put
back, for seeds 0, 1 and 2.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest

from tests.support import random_lvis
from tfdetect.data.lvis import read_lvis
from tfdetect.errors import InputError
from tfdetect.evaluation.lvis import METRICS, evaluate, format_table

RECORDED = json.loads(Path(__file__).with_name("lvis_package.json").read_text())


def _dataset(tmp_path, root):
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(root))
    return read_lvis(path)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_package_gives_the_same(tmp_path, seed):
    root, results = random_lvis.make(seed)
    metrics = evaluate(_dataset(tmp_path, root), results, ["segm", "bbox"])
    assert list(metrics) == ["bbox", "segm"]
    for task, expected in RECORDED[str(seed)].items():
        # The same sums in the same order: equal but for the rounding of another NumPy.
        assert metrics[task] == pytest.approx(expected, abs=1e-9)


ONE = {
    "images": [
        {
            "id": 1,
            "coco_url": "http://x/val2017/1.jpg",
            "height": 100,
            "width": 100,
            "neg_category_ids": [],
            "not_exhaustive_category_ids": [],
        }
    ],
    "categories": [
        {"id": 1, "name": "a", "frequency": "r"},
        {"id": 2, "name": "b", "frequency": "f"},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10, 10, 40, 40],
            "area": 1600,
            "segmentation": [[10, 10, 50, 10, 50, 50, 10, 50]],
        }
    ],
}


def _result(category, box, score):
    return {"image_id": 1, "category_id": category, "bbox": box, "score": score}


WRONG = [60, 60, 20, 20]
RIGHT = [10, 10, 40, 40]


def test_a_mistake_before_the_hit_halves_precision(tmp_path):
    results = [_result(1, WRONG, 0.9), _result(1, RIGHT, 0.8)]
    metrics = evaluate(_dataset(tmp_path, ONE), results, ["bbox"])["bbox"]
    assert metrics["AP"] == pytest.approx(50)
    assert metrics["APr"] == pytest.approx(50)
    # The wrong one is small and matches nothing: it does not count among the medium ones.
    assert metrics["APm"] == pytest.approx(100)
    assert all(math.isnan(metrics[name]) for name in ("APs", "APl", "APc", "APf"))


def test_where_not_all_are_marked_a_mistake_is_none(tmp_path):
    root = copy.deepcopy(ONE)
    root["images"][0]["not_exhaustive_category_ids"] = [1]
    results = [_result(1, WRONG, 0.9), _result(1, RIGHT, 0.8)]
    metrics = evaluate(_dataset(tmp_path, root), results, ["bbox"])["bbox"]
    assert metrics["AP"] == pytest.approx(100)


def test_a_category_counts_only_where_it_was_looked_for(tmp_path):
    root = copy.deepcopy(ONE)
    root["images"].append({**root["images"][0], "id": 2, "neg_category_ids": [2]})
    root["annotations"].append({**root["annotations"][0], "id": 2, "image_id": 2, "category_id": 1})
    good = [_result(1, RIGHT, 0.8), {**_result(1, RIGHT, 0.8), "image_id": 2}]
    # Category 2 was not looked for in image 1, and is not in image 2 at all.
    extra = [_result(2, RIGHT, 0.9), {**_result(2, RIGHT, 0.9), "image_id": 2}]
    metrics = evaluate(_dataset(tmp_path, root), good + extra, ["bbox"])["bbox"]
    assert metrics["AP"] == pytest.approx(100)
    assert math.isnan(metrics["APf"])
    root["annotations"].append({**root["annotations"][0], "id": 3, "image_id": 2, "category_id": 2})
    root["annotations"][-1]["bbox"] = WRONG
    metrics = evaluate(_dataset(tmp_path, root), good + extra, ["bbox"])["bbox"]
    assert (metrics["APr"], metrics["APf"]) == (pytest.approx(100), 0)


def test_300_detections_of_an_image_count(tmp_path):
    results = [_result(2, WRONG, 0.9)] * 299
    assert evaluate(_dataset(tmp_path, ONE), [*results, _result(1, RIGHT, 0.1)], ["bbox"])["bbox"][
        "AP"
    ] == pytest.approx(100)
    results.append(_result(2, WRONG, 0.9))
    metrics = evaluate(_dataset(tmp_path, ONE), [*results, _result(1, RIGHT, 0.1)], ["bbox"])
    assert metrics["bbox"]["AP"] == 0


def test_no_result_at_all(tmp_path):
    metrics = evaluate(_dataset(tmp_path, ONE), [], ["bbox"])
    assert list(metrics["bbox"]) == list(METRICS)
    assert all(math.isnan(value) for value in metrics["bbox"].values())
    assert format_table(metrics).splitlines()[0].split() == ["task", *METRICS]


@pytest.mark.parametrize(
    ("change", "results", "tasks", "message"),
    [
        ({"annotations": None}, [], ["bbox"], "no 'annotations'"),
        ({"categories": [{"id": 1, "name": "a"}]}, [], ["bbox"], "no 'frequency'"),
        ({}, [{**_result(1, RIGHT, 1.0), "image_id": 5}], ["bbox"], "no image with id 5"),
        ({}, [], ["keypoints"], "not keypoints"),
    ],
)
def test_what_cannot_be_measured_is_named(tmp_path, change, results, tasks, message):
    root = {key: value for key, value in {**ONE, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message) as caught:
        evaluate(_dataset(tmp_path, root), results, tasks)
    assert "lvis.json" in str(caught.value)
    assert "\n" not in str(caught.value)
