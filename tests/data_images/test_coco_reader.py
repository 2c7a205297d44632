"""Reading COCO annotation files: what Detectron2 makes of them, and errors that name the file."""

from __future__ import annotations

import copy
import json

import pytest
from conftest import DEMO

from tfdetect.data.coco import CocoImage, read_coco
from tfdetect.errors import InputError

VALID = {
    "images": [
        {"id": 9, "file_name": "b.jpg", "height": 4, "width": 5},
        {"id": 2, "file_name": "a.jpg", "height": 6, "width": 7},
    ],
    "categories": [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}],
    "annotations": [{"id": 1, "image_id": 9, "category_id": 90, "bbox": [0, 0, 1.5, 2]}],
}


def _write(tmp_path, value):
    path = tmp_path / "annotations.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_demo():
    dataset = read_coco(DEMO / "annotations.json")
    assert len(dataset.images) == 60
    assert dataset.images[0] == CocoImage(1, "000000.jpg", 212, 327)
    assert dataset.category_names == ("person", "circle", "square", "triangle")
    assert dataset.annotations[0]["area"] == 6701.0


def test_images_and_categories_are_sorted_by_id(tmp_path):
    dataset = read_coco(_write(tmp_path, VALID))
    assert [image.id for image in dataset.images] == [2, 9]
    assert dataset.category_ids == (3, 90)
    assert dataset.category_names == ("dog", "cat")
    assert dataset.annotations == tuple(VALID["annotations"])


def test_a_test_set_has_no_annotations(tmp_path):
    value = {key: VALID[key] for key in ("images", "categories")}
    assert read_coco(_write(tmp_path, value)).annotations is None
    assert read_coco(_write(tmp_path, value | {"annotations": []})).annotations == ()


def test_minival_may_repeat_annotations(tmp_path):
    value = VALID | {"annotations": VALID["annotations"] * 2}
    path = tmp_path / "instances_minival2014.json"
    path.write_text(json.dumps(value))
    assert len(read_coco(path).annotations) == 2


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["images"], {}, "'images'"),
        (["images"], [], "'images'"),
        (["images", 1], 5, r"images\[1\]"),
        (["images", 1, "id"], "2", r"images\[1\].id"),
        (["images", 1, "id"], True, r"images\[1\].id"),
        (["images", 1, "id"], 9, "id 9 twice"),
        (["images", 0, "file_name"], None, "file_name"),
        (["images", 0, "height"], 1.5, "height"),
        (["categories"], None, "'categories'"),
        (["categories", 0, "name"], 1, "name"),
        (["categories", 0, "id"], 3, "id 3 twice"),
        (["annotations"], None, "'annotations'"),
        (["annotations", 0, "category_id"], 4, "category_id 4"),
        (["annotations", 0, "image_id"], None, "image_id"),
        (["annotations", 0, "bbox"], [], "bbox"),
        (["annotations", 0, "bbox"], [1, 2, 3, float("nan")], "bbox"),
        (["annotations"], VALID["annotations"] * 2, "id 1 twice"),
    ],
)
def test_what_is_not_coco_is_named(tmp_path, where, value, message):
    root = copy.deepcopy(VALID)
    parent = root
    for key in where[:-1]:
        parent = parent[key]
    parent[where[-1]] = value
    path = _write(tmp_path, root)
    with pytest.raises(InputError, match=message) as info:
        read_coco(path)
    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("text", ["", "no", "[]", '{"images": [', "[" * 100_000, "\x00"])
def test_what_is_not_json_is_named(tmp_path, text):
    path = _write(tmp_path, text)
    with pytest.raises(InputError) as info:
        read_coco(path)
    assert str(path) in str(info.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match=r"missing\.json"):
        read_coco(tmp_path / "missing.json")
    with pytest.raises(InputError, match=str(tmp_path)):
        read_coco(tmp_path)
