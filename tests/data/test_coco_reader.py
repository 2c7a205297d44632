"""Reading COCO annotation files: what Detectron2 makes of them, and errors that name the file."""

from __future__ import annotations

import copy
import json
import math

import pytest

from tests.support.damaged_json import check_rejected, replaced
from tests.support.paths import DEMO
from tfdetect.data import annotation_fields as fields
from tfdetect.data.coco import CocoImage, read_coco
from tfdetect.data.json_format import read_object
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
    # What no tool need write is there for all.
    assert dataset.annotations == tuple({**entry, "iscrowd": 0} for entry in VALID["annotations"])


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
        (["images", 1, "id"], "two", r"images\[1\].id is 'two'"),
        (["images", 1, "id"], 2.5, r"images\[1\].id"),
        (["images", 1, "id"], 2**63, r"images\[1\].id"),
        (["images", 1, "id"], True, r"images\[1\].id is true"),
        (["images", 1, "id"], "9", "id 9 twice"),
        (["images", 1, "id"], 9, "id 9 twice"),
        (["images", 0, "file_name"], None, "file_name"),
        (["images", 0, "file_name"], "", "file_name"),
        (["images", 0, "file_name"], "a\0b", "file_name"),
        (["images", 0, "file_name"], "\ud800", "file_name"),
        (["images", 0, "height"], 1.5, "height"),
        (["images", 0, "height"], 0, "height"),
        (["images", 0, "height"], -4, "height"),
        (["images", 0, "width"], 10**9, "width"),
        (["images", 0, "width"], None, "width is null"),
        (["images", 0, "width"], "wide", "width"),
        (["categories"], None, "'categories'"),
        (["categories", 0, "name"], None, "name is null"),
        (["categories", 0, "name"], ["cat"], "name is a list of 1"),
        (["categories", 0, "name"], "\ud800", "name"),
        (["categories", 0, "id"], 3, "id 3 twice"),
        (["annotations"], None, "'annotations'"),
        (["annotations", 0, "category_id"], 4, "category_id 4"),
        (["annotations", 0, "image_id"], None, "image_id"),
        (["annotations", 0, "id"], None, "id is null"),
        (["annotations", 0, "bbox"], [], "bbox"),
        (["annotations", 0, "bbox"], None, "bbox is null"),
        (["annotations", 0, "bbox"], "1, 2, 3, 4", "bbox"),
        (["annotations", 0, "bbox"], [1, 2, 3, "x"], "bbox"),
        (["annotations", 0, "bbox"], [1, 2, 3, True], "bbox"),
        (["annotations", 0, "bbox"], [[1, 2], [3, 4]], "bbox"),
        (["annotations", 0, "bbox"], [1, 2, 3, 1e300], "bbox"),
        (["annotations", 0, "iscrowd"], None, "iscrowd is null"),
        (["annotations", 0, "iscrowd"], 2, "iscrowd is 2"),
        (["annotations", 0, "iscrowd"], -1, "iscrowd is -1"),
        (["annotations", 0, "iscrowd"], math.nan, "iscrowd"),
        (["annotations", 0, "iscrowd"], "no", "iscrowd is 'no'"),
        (["annotations", 0, "iscrowd"], [0], "iscrowd is a list of 1"),
        (["annotations", 0, "bbox"], [1, 2, 3, float("nan")], "bbox"),
        (["annotations"], VALID["annotations"] * 2, "id 1 twice"),
    ],
)
def test_what_is_not_coco_is_named(tmp_path, where, value, message):
    path = _write(tmp_path, replaced(VALID, where, value))
    check_rejected(read_coco, path, message)


def test_what_tools_write_otherwise_is_understood(tmp_path):
    root = {
        "images": [{"id": "9", "file_name": "b.jpg", "height": "4", "width": 5.0}],
        "categories": [{"id": 90.0, "name": 7}, {"id": "3", "name": 1.5}],
        "annotations": [
            {"id": "a1b2", "image_id": 9.0, "category_id": "90", "bbox": ["0", 0, "1.5", 2e0]}
            | {"iscrowd": "1", "score": math.nan},
            {"id": 2.0, "image_id": "9", "category_id": 3, "bbox": [0, 0, 1, 1], "iscrowd": False},
        ],
    }
    dataset = read_coco(_write(tmp_path, root))
    assert dataset.images == (CocoImage(9, "b.jpg", 4, 5),)
    assert dataset.category_ids == (3, 90)
    assert dataset.category_names == ("1.5", "7")
    first, second = dataset.annotations
    assert (first["id"], first["image_id"], first["category_id"]) == ("a1b2", 9, 90)
    assert (first["bbox"], first["iscrowd"]) == ([0, 0, 1.5, 2], 1)
    assert (second["id"], second["iscrowd"]) == (2, 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings(tmp_path, encoding):
    root = copy.deepcopy(VALID)
    root["categories"][0]["name"] = "Stra\u00dfe"
    path = tmp_path / "annotations.json"
    path.write_bytes(json.dumps(root, ensure_ascii=False).encode(encoding))
    assert read_coco(path).category_names == ("dog", "Stra\u00dfe")


def test_broken_images_and_annotations_are_reported(tmp_path):
    root = copy.deepcopy(VALID)
    root["images"].append({"id": 10, "file_name": "c.jpg", "height": None, "width": 4})
    root["annotations"].append(None)
    root["annotations"].append({"id": 2, "image_id": 10, "category_id": 3, "bbox": None})
    reported = []
    dataset = read_coco(_write(tmp_path, root), reported.append)
    assert [image.id for image in dataset.images] == [2, 9]
    assert [entry["id"] for entry in dataset.annotations] == [1]
    assert [str(error).split(": ")[1].split(" ")[0] for error in reported] == [
        "images[2].height",
        "annotations[1]",
        "annotations[2].bbox",
    ]


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


@pytest.mark.parametrize(
    "polygons",
    [
        [[1, 2.5, 3, 4, 5, 6]],
        [1, 2.5, 3, 4, 5, 6],
        [[1, 2, 3, 4, 5, 6], ["7", 8, 9, 10, 11, 12]],
        [[]],
        [[1, 2, 3, 4, 5, 10**400]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, 1e300]],
        [[1, 2, 3, 4, 5, True]],
        [[1, 2], {"a": 1}],
        [[[1, 2, 3, 4, 5, 6]]],
        None,
        "text",
    ],
)
def test_compact_polygons_are_what_lists_are(polygons, tmp_path):
    """Polygons that are read into arrays give the same numbers, and the same errors."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"annotations": [{"segmentation": polygons}]}))
    found = []
    for compact in (False, True):
        (entry,) = read_object(path, "COCO", compact=compact)["annotations"]
        try:
            found.append(fields.segmentation(entry, (100, 100)))
        except InputError as error:
            found.append(str(error))
    assert found[0] == found[1]
