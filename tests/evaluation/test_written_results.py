"""What is done with results: written before they are measured, and what was left out is counted."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.support import random_voc
from tests.support.paths import DEMO
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.registry import open_dataset
from tfdetect.evaluation.report import METRICS, write_and_measure

NAMES = ["person", "circle", "square", "triangle"]


@pytest.fixture
def content():
    """The demo's annotations of its first 3 images."""
    root = json.loads((DEMO / "annotations.json").read_text())
    root["images"] = root["images"][:3]
    ids = {image["id"] for image in root["images"]}
    root["annotations"] = [a for a in root["annotations"] if a["image_id"] in ids]
    return root


def opened(tmp_path, root, tasks=("bbox",), names=NAMES, **options):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(root))
    return open_dataset(path, tasks, names, **options)


def perfect(root, dataset, indices, names=NAMES):
    """The records of a model that finds everything, whose classes have `names`."""
    categories = {c["id"]: c["name"] for c in root["categories"]}
    results = []
    for index in indices:
        image = next(i for i in root["images"] if str(i["id"]) == dataset.image_ids[index])
        found = [a for a in root["annotations"] if a["image_id"] == image["id"]]
        boxes = np.array([a["bbox"] for a in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([names.index(categories[a["category_id"]]) for a in found], int)
        scores = np.linspace(1, 0.5, len(found)).astype(np.float32)
        results += dataset.to_results(
            index, Detections(image["height"], image["width"], boxes, scores, classes)
        )
    return results


def test_counts_and_files(tmp_path, content):
    dataset = opened(tmp_path, content)
    done = write_and_measure(dataset, perfect(content, dataset, range(3)), range(3), tmp_path)
    assert done.metrics["bbox"]["AP"] == pytest.approx(100)
    assert "skipped" not in done.text
    written = json.loads((tmp_path / METRICS).read_text())
    total = len(content["annotations"])
    assert done.counts == {
        "images": 3,
        "images_skipped": 0,
        "annotations": total,
        "annotations_skipped": 0,
    }
    assert list(written) == ["bbox"]
    assert written["bbox"]["AP"] == done.metrics["bbox"]["AP"]
    assert [path.name for path in done.written] == ["coco_instances_results.json"]


def test_images_that_were_skipped_are_not_measured_but_counted(tmp_path, content):
    dataset = opened(tmp_path, content)
    done = write_and_measure(dataset, perfect(content, dataset, [0, 2]), [0, 2], tmp_path)
    assert done.metrics["bbox"]["AP"] == pytest.approx(100)
    written = json.loads((tmp_path / METRICS).read_text())
    assert list(written) == ["bbox", "counts"]
    assert written["counts"] == done.counts
    ids = {int(dataset.image_ids[index]) for index in (0, 2)}
    used = sum(a["image_id"] in ids for a in content["annotations"])
    total = len(content["annotations"])
    assert done.counts == {
        "images": 2,
        "images_skipped": 1,
        "annotations": used,
        "annotations_skipped": total - used,
    }
    assert done.text.endswith(
        f"evaluated on 2 of 3 images (1 skipped) and {used} of {total} annotations"
        f" ({total - used} skipped)"
    )
    # One that was read and where nothing was found is measured.
    done = write_and_measure(dataset, perfect(content, dataset, [0, 2]), range(3), None)
    assert done.metrics["bbox"]["AP"] < 95


def test_broken_annotations_that_are_skipped_are_counted(tmp_path, content):
    del content["annotations"][0]["area"]
    content["annotations"][1]["bbox"] = "none"
    content["annotations"].append({**content["annotations"][2], "id": 9999, "image_id": 777})
    with pytest.raises(InputError, match="bbox"):
        opened(tmp_path, content)
    said = []
    dataset = opened(tmp_path, content, report=said.append)
    assert len(said) == 2
    assert any("1 annotations belong to images" in note for note in dataset.notes)
    done = write_and_measure(dataset, [], range(3), None)
    total = len(content["annotations"])
    assert done.counts["annotations"] == total - 3
    assert done.counts["annotations_skipped"] == 3
    assert f"{total - 3} of {total} annotations (3 skipped)" in done.text


@pytest.mark.parametrize("error", [InputError("cannot"), KeyError("x"), MemoryError("much")])
def test_results_are_written_though_they_cannot_be_measured(tmp_path, content, monkeypatch, error):
    dataset = opened(tmp_path, content)

    def evaluate(*arguments):
        assert (tmp_path / "coco_instances_results.json").exists()
        raise error

    monkeypatch.setattr(dataset, "evaluate", evaluate)
    results = perfect(content, dataset, range(3))
    done = write_and_measure(dataset, results, range(3), tmp_path)
    (said,) = done.errors
    assert isinstance(said, InputError)
    assert done.metrics == {}
    assert json.loads((tmp_path / "coco_instances_results.json").read_text()) == results
    assert json.loads((tmp_path / METRICS).read_text()) == {}


def test_metrics_are_given_though_results_cannot_be_written(tmp_path, content):
    dataset = opened(tmp_path, content)
    (tmp_path / "coco_instances_results.json").mkdir()
    done = write_and_measure(dataset, perfect(content, dataset, range(3)), range(3), tmp_path)
    (said,) = done.errors
    assert "coco_instances_results.json" in str(said)
    assert done.metrics["bbox"]["AP"] == pytest.approx(100)
    assert (tmp_path / METRICS).exists()


def test_no_annotations_at_all(tmp_path, content):
    """As test-dev: what is found is written, and nothing measured."""
    del content["annotations"]
    dataset = opened(tmp_path, content, ("bbox", "segm", "keypoints"))
    assert not dataset.has_ground_truth
    assert "predicting without evaluation" in dataset.notes[0]
    content["annotations"] = []
    done = write_and_measure(dataset, perfect(content, dataset, range(3)), range(3), tmp_path)
    assert (done.metrics, done.errors, done.text) == ({}, [], "")
    assert json.loads((tmp_path / METRICS).read_text()) == {}


@pytest.mark.parametrize("empty", ["missing", None, []])
def test_tasks_without_ground_truth_are_left_out(tmp_path, content, empty):
    for entry in content["annotations"]:
        for field in ("segmentation", "keypoints", "num_keypoints"):
            entry.pop(field, None)
            if empty != "missing" and field != "num_keypoints":
                entry[field] = empty
    dataset = opened(tmp_path, content, ("bbox", "segm", "keypoints"))
    assert dataset.tasks == ["bbox"]
    assert [note.split(": ", 1)[1] for note in dataset.notes] == [
        "no annotation has 'segmentation': segm is not evaluated",
        "no annotation has 'keypoints': keypoints is not evaluated",
    ]
    done = write_and_measure(dataset, perfect(content, dataset, range(3)), range(3), None)
    assert list(done.metrics) == ["bbox"]


def test_some_without_segmentation_is_an_error(tmp_path, content):
    del content["annotations"][3]["segmentation"]
    identity = content["annotations"][3]["id"]
    with pytest.raises(InputError, match=f"annotation {identity}: has no 'segmentation'"):
        opened(tmp_path, content, ("bbox", "segm"))


@pytest.mark.parametrize("first", [0, -3, 10**12])
def test_any_ids_of_annotations_give_one_ap(tmp_path, content, first):
    """pycocotools takes a match with id 0 for none."""
    for number, entry in enumerate(content["annotations"]):
        entry["id"] = first + number
    dataset = opened(tmp_path, content)
    found = dataset.evaluate(perfect(content, dataset, range(3)))
    assert found["bbox"]["AP"] == pytest.approx(100)


def test_a_repeated_annotation_of_minival_is_an_object_of_its_own(tmp_path, content):
    first, second = content["annotations"][:2]
    second["id"] = first["id"]
    path = tmp_path / "instances_minival.json"
    path.write_text(json.dumps(content))
    dataset = open_dataset(path, ["bbox"], NAMES)
    found = dataset.evaluate(perfect(content, dataset, range(3)))
    assert found["bbox"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("change", ["order", "unused", "renamed", "superset"])
def test_classes_by_name(tmp_path, content, change):
    names = list(NAMES)
    if change == "order":
        names = names[::-1]
    elif change == "unused":
        content["categories"].insert(0, {"id": 0, "name": "shapes"})
    elif change == "renamed":
        for category in content["categories"]:
            category["name"] = f" {category['name'].upper()}"
    else:
        names = ["cat", *names, "dog"]
    dataset = opened(tmp_path, content, names=names)
    (note,) = dataset.notes
    assert "matched by name" in note
    model = names if change != "renamed" else [f" {name.upper()}" for name in names]
    results = perfect(content, dataset, range(3), model)
    assert dataset.evaluate(results)["bbox"]["AP"] == pytest.approx(100)
    # A class that the annotations do not have is in no file of results.
    if change == "superset":
        box = Detections(9, 9, np.zeros((1, 4)), np.ones(1), np.array([5]))
        assert dataset.to_results(0, box) == []


def test_equal_names_have_rows_of_their_own(tmp_path, content):
    for category in content["categories"][1:3]:
        category["name"] = "shape"
    names = ["person", "shape", "shape", "triangle"]
    dataset = opened(tmp_path, content, names=names)
    results = []
    for entry in content["annotations"]:
        results.append({k: entry[k] for k in ("image_id", "category_id", "bbox")} | {"score": 1.0})
    metrics = dataset.evaluate([r for r in results if r["category_id"] != 3])["bbox"]
    assert metrics["AP-shape (id 2)"] == pytest.approx(100)
    assert metrics["AP-shape (id 3)"] == 0
    assert dataset.format_table({"bbox": metrics}).count("shape (id ") == 2


def test_box_proposals(tmp_path, content):
    dataset = opened(tmp_path, content, ["box_proposals"], ["object"])
    assert (dataset.tasks, dataset.notes) == (["box_proposals"], [])
    results = []
    for index, image in enumerate(content["images"]):
        found = [a["bbox"] for a in content["annotations"] if a["image_id"] == image["id"]]
        boxes = np.array(found, np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        logits = np.zeros(len(boxes), np.float32)
        proposals = Detections(image["height"], image["width"], boxes, logits, logits.astype(int))
        results += dataset.to_results(index, proposals)
    done = write_and_measure(dataset, results, range(3), tmp_path)
    assert list(done.metrics) == ["box_proposals"]
    assert done.metrics["box_proposals"]["AR@100"] == pytest.approx(100)
    assert "ARs@1000" in done.text
    assert [path.name for path in done.written] == ["box_proposals.pkl"]


def test_images_of_another_size(tmp_path, content):
    dataset = opened(tmp_path, content)
    height, width = dataset.image_sizes[1]
    dataset.check_size(1, height, width)
    with pytest.raises(InputError, match=f"{dataset.file_names[1]}: has {height} x {width}"):
        dataset.check_size(1, width, height)


def test_voc_is_measured_on_part_of_its_images(tmp_path):
    detections = list(random_voc.make(tmp_path / "VOC2007", 0, 2007).values())
    dataset = open_dataset(tmp_path / "VOC2007", ["bbox"], random_voc.CLASSES)
    part = range(1, len(detections))
    results = [r for i in part for r in dataset.to_results(i, detections[i])]
    done = write_and_measure(dataset, results, part, None)
    assert done.counts["images_skipped"] == 1
    assert not math.isnan(done.metrics["bbox"]["AP50"])
