"""Reading LVIS's annotation files: what Detectron2 makes of them, and errors that name the file."""

from __future__ import annotations

import copy
import json

import pytest

from tests.support.damaged_json import check_rejected, replaced
from tfdetect.data.lvis import LvisImage, read_lvis

POLYGON = [[0, 0, 4, 0, 4, 4]]
VALID = {
    "images": [
        {
            "id": 9,
            "coco_url": "http://images.cocodataset.org/train2017/000000155379.jpg",
            "file_name": "COCO_val2014_000000155379.jpg",
            "height": 4,
            "width": 5,
            "neg_category_ids": [2],
            "not_exhaustive_category_ids": [1, 2],
        },
        {"id": 2, "coco_url": "http://x/val2017/a.jpg", "height": 6, "width": 7},
    ],
    "categories": [
        {"id": 2, "name": "zebra", "frequency": "f"},
        {"id": 1, "name": "acorn", "frequency": "r"},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 9,
            "category_id": 2,
            "bbox": [0, 0, 1.5, 2],
            "area": 2,
            "segmentation": POLYGON,
        }
    ],
}


def _write(tmp_path, value):
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(value))
    return path


def test_the_file_is_named_by_its_url(tmp_path):
    dataset = read_lvis(_write(tmp_path, VALID))
    assert dataset.images == (
        LvisImage(2, "val2017/a.jpg", 6, 7, frozenset(), frozenset()),
        LvisImage(9, "train2017/000000155379.jpg", 4, 5, frozenset({2}), frozenset({1, 2})),
    )
    assert dataset.category_ids == (1, 2)
    assert dataset.category_names == ("acorn", "zebra")
    assert dataset.frequencies == ("r", "f")
    assert dataset.annotations == tuple({**entry, "iscrowd": 0} for entry in VALID["annotations"])


def test_a_test_set_has_neither_annotations_nor_frequencies(tmp_path):
    value = copy.deepcopy(VALID)
    del value["annotations"]
    del value["categories"][0]["frequency"]
    dataset = read_lvis(_write(tmp_path, value))
    assert (dataset.annotations, dataset.frequencies) == (None, None)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["images"], {}, "'images'"),
        (["images", 1], 5, r"images\[1\]"),
        (["images", 1, "id"], 9, "id 9 twice"),
        (["images", 0, "coco_url"], None, "coco_url"),
        (["images", 0, "coco_url"], "a.jpg", "FOLDER/FILE"),
        (["images", 0, "coco_url"], "http://x/../a.jpg", "FOLDER/FILE"),
        (["images", 0, "neg_category_ids"], 3, "neg_category_ids"),
        (["images", 0, "not_exhaustive_category_ids"], ["x"], "not_exhaustive_category_ids"),
        (["categories", 0, "frequency"], "x", "frequency is 'x'"),
        (["categories", 0, "frequency"], [], "frequency is an empty list"),
        (["categories", 0, "id"], 1, "id 1 twice"),
        (["annotations", 0, "category_id"], 4, "category_id 4"),
        (["annotations", 0, "bbox"], [], "bbox"),
        (["annotations", 0, "area"], None, "area"),
        (["annotations", 0, "segmentation"], [], "'segmentation'"),
        (["annotations", 0, "segmentation"], [[1, 2]], "'segmentation'"),
        (["annotations", 0, "segmentation"], [[1, 2, 3, 4]], "not of three points"),
        (["annotations", 0, "segmentation"], [[1, 2, 3, 4, 5, 6, 7]], "an odd number"),
        (["annotations"], VALID["annotations"] * 2, "id 1 twice"),
    ],
)
def test_what_is_not_lvis_is_named(tmp_path, where, value, message):
    path = _write(tmp_path, replaced(VALID, where, value))
    check_rejected(read_lvis, path, message)
