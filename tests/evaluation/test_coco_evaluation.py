"""COCO metrics: Detectron2's numbers from Detectron2's detections, and errors of the input."""

from __future__ import annotations

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
from pycocotools import mask as mask_codec

from tests.support.paths import DATA, DEMO
from tests.support.records import detections_of
from tfdetect.data.coco import ground_truth, read_coco
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.coco import (
    check_oks_sigmas,
    evaluate,
    format_table,
    to_results,
)

TINY = DATA / "tiny"
EXPECTED = json.loads((TINY / "detectron2_coco_ap.json").read_text())


@pytest.fixture(scope="module")
def dataset():
    return read_coco(DEMO / "annotations.json")


@pytest.fixture(scope="module")
def joint(dataset):
    records = json.loads((TINY / "joint_rcnn.json").read_text())
    return [r for record in records for r in _results(record, dataset)]


def _results(record, dataset):
    return to_results(detections_of(record), record["image_id"], dataset.category_ids)


@pytest.mark.parametrize("model", EXPECTED)
def test_detectron2s_scores_from_detectron2s_detections(model, dataset, capfd):
    records = json.loads((TINY / f"{model}.json").read_text())
    results = [r for record in records for r in _results(record, dataset)]
    before = copy.deepcopy(results)
    metrics = evaluate(dataset, results, list(EXPECTED[model]))
    assert list(metrics) == sorted(EXPECTED[model])
    for task, values in EXPECTED[model].items():
        assert list(metrics[task]) == list(values)
        # The same detections through the same definitions: equal but for summation order.
        np.testing.assert_allclose(
            list(metrics[task].values()), list(values.values()), rtol=0, atol=1e-9
        )
    assert results == before
    assert capfd.readouterr() == ("", "")


def test_result_record():
    mask = np.zeros((1, 4, 5), bool)
    mask[0, 1:3, 2] = True
    detections = Detections(
        height=4,
        width=5,
        boxes=np.array([[1.1, 1, 3.3, 3.5]], np.float32),
        scores=np.array([0.9], np.float32),
        classes=np.array([1]),
        masks=mask,
        keypoints=np.array([[[1.5, 2.5, 0.5], [0.0, 0.1, 0.25]]], np.float32),
    )
    (result,) = to_results(detections, 7, [3, 90])
    assert result["image_id"] == 7
    assert result["category_id"] == 90
    # float32 differences, not rounded, as Python floats.
    assert result["bbox"] == [np.float32(1.1), 1, np.float32(3.3) - np.float32(1.1), 2.5]
    assert result["score"] == np.float32(0.9)
    assert result["keypoints"] == [1.0, 2.0, 0.5, -0.5, np.float32(0.1) - np.float32(0.5), 0.25]
    np.testing.assert_array_equal(mask_codec.decode(result["segmentation"]), mask[0])
    assert json.loads(json.dumps(result)) == result


def test_a_class_without_a_category(joint):
    detections = Detections(4, 5, np.zeros((1, 4)), np.ones(1), np.array([2]))
    with pytest.raises(InputError, match="class 2"):
        to_results(detections, 7, [3, 90])


def test_no_results_are_nan_without_categories(dataset):
    metrics = evaluate(dataset, [], ["segm", "bbox", "keypoints"])
    assert list(metrics) == ["bbox", "keypoints", "segm"]
    assert list(metrics["keypoints"]) == ["AP", "AP50", "AP75", "APm", "APl"]
    assert all(math.isnan(value) for values in metrics.values() for value in values.values())


def test_no_ground_truth_is_nan(dataset, joint):
    empty = dataclasses.replace(dataset, annotations=())
    metrics = evaluate(empty, joint, ["bbox", "keypoints", "segm"])
    assert all(math.isnan(value) for values in metrics.values() for value in values.values())
    assert "AP-circle" in metrics["segm"]


def test_one_category_has_no_table_of_categories(dataset, joint):
    person = dataclasses.replace(
        dataset,
        category_ids=(1,),
        category_names=("person",),
        annotations=tuple(a for a in dataset.annotations if a["category_id"] == 1),
    )
    metrics = evaluate(person, [r for r in joint if r["category_id"] == 1], ["bbox"])
    assert list(metrics["bbox"]) == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert metrics["bbox"]["AP"] == pytest.approx(EXPECTED["joint_rcnn"]["bbox"]["AP-person"])


def test_sigmas_of_other_skeletons(dataset, joint):
    def cut(entries):
        return tuple({**e, "keypoints": e["keypoints"][:6]} for e in entries)

    two = dataclasses.replace(dataset, annotations=cut(dataset.annotations))
    metrics = evaluate(two, cut(joint), ["keypoints"], [0.05, 0.05])
    assert 0 < metrics["keypoints"]["AP"] < 100
    with pytest.raises(InputError, match="6 numbers, must have 51"):
        evaluate(two, joint, ["keypoints"])
    with pytest.raises(InputError, match="is for 17 keypoints, but the model predicts 2"):
        evaluate(two, cut(joint), ["keypoints"])
    with pytest.raises(InputError, match="model predicts 17"):
        evaluate(two, joint, ["keypoints"], [0.05, 0.05])


@pytest.mark.parametrize("sigma", [0, -0.1, math.nan, math.inf, True, "0.05", None])
def test_sigmas_that_nothing_can_be_divided_by(sigma):
    check_oks_sigmas([0.05, 1])
    with pytest.raises(InputError, match=r"^TEST\.KEYPOINT_OKS_SIGMAS: "):
        check_oks_sigmas([0.05, sigma])


def field(**values):
    return values


MEASURED = [
    *[field(area=value) for value in (None, "much", math.nan, math.inf, -1, True, [1], {}, 1e30)],
    *[
        field(segmentation=value)
        for value in (
            *(None, [], {}, "", "text", 5, True, [None], ["x"], [[]], [[1, 2]], [[1, 2, 3, 4]]),
            *([1, 2, 3, 4], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, 6, 7]], [[1, 2], [3, 4], [5, 6]]),
            *([[[1, 2], [3, 4], [5, 6]]], [[1, 2, 3, 4, 5, math.nan]], [[1, 2, 3, 4, 5, True]]),
            *([[1, 2, 3, 4, 5, 1e30]], {"size": [212, 327]}, {"counts": [212 * 327]}),
            *({"size": [9, 9], "counts": [81]}, {"size": [212, 327], "counts": [5]}),
            *({"size": [212, 327], "counts": "~~"}, {"size": [212, 327], "counts": None}),
        )
    ],
    *[
        field(keypoints=value)
        for value in ([None] * 51, [0] * 50, ["x"] * 51, [math.nan] * 51, "none", 7, {"x": 1})
    ],
    *[field(num_keypoints=value) for value in ("many", -1, 1.5, math.nan, True, [17], 1e300)],
    field(keypoints=None, num_keypoints=3),
    field(bbox=[1, 2, -3, 4]),
]
TASKS = {"segmentation": "segm", "keypoints": "keypoints", "num_keypoints": "keypoints"}


@pytest.mark.parametrize("change", MEASURED, ids=str)
def test_raw_values_never_reach_pycocotools(dataset, joint, change):
    """With the file, the entry and the field; what is asked by other tasks only is not an error."""
    first, *rest = dataset.annotations
    changed = dataclasses.replace(dataset, annotations=({**first, **change}, *rest))
    (name,) = [key for key in change if key != "num_keypoints"] or ["num_keypoints"]
    task = TASKS.get(name, "bbox")
    with pytest.raises(InputError, match=rf"annotations\.json: annotation 1: .*'{name}'"):
        ground_truth(changed, [task])
    if task != "bbox":
        assert ground_truth(changed, ["bbox"]) == ground_truth(dataset, ["bbox"])
    broken = []
    kept = ground_truth(changed, [task], report=broken.append)
    assert (len(kept), len(broken)) == (len(dataset.annotations) - 1, 1)


def test_what_tools_write_otherwise_is_measured_alike(dataset, joint):
    """Text, floats, flat polygons and further polygons without area change no number."""
    polygon = next(i for i, a in enumerate(dataset.annotations) if len(a["segmentation"]) == 1)

    def otherwise(index, entry):
        entry = {
            **entry,
            "area": str(entry["area"]),
            "num_keypoints": f"{entry['num_keypoints']}.0",
        }
        entry["keypoints"] = np.reshape(entry["keypoints"], (-1, 3)).tolist()
        if index == polygon:
            entry["segmentation"] = [str(x) for x in entry["segmentation"][0]]
        elif isinstance(entry["segmentation"], list):
            entry["segmentation"] = [[1, 2, 3, 4], *entry["segmentation"], [5, 6]]
        return entry

    changed = dataclasses.replace(
        dataset, annotations=tuple(otherwise(*pair) for pair in enumerate(dataset.annotations))
    )
    tasks = ["bbox", "segm", "keypoints"]
    for expected, found in zip(
        ground_truth(dataset, tasks), ground_truth(changed, tasks), strict=True
    ):
        assert found == expected


def test_polygons_of_any_size_take_no_memory(dataset):
    """pycocotools walks along every outline in steps of a fifth of a pixel."""
    far = {**dataset.annotations[0], "segmentation": [[-9e8, -9e8, 9e8, -9e8, 9e8, 9e8, -9e8, 9e8]]}
    (entry,) = ground_truth(dataclasses.replace(dataset, annotations=(far,)), ["segm"])
    rle = mask_codec.merge(mask_codec.frPyObjects(entry["segmentation"], 212, 327))
    assert mask_codec.area(rle) == 212 * 327


@pytest.mark.parametrize(
    ("change", "tasks", "message"),
    [
        ({"keypoints": None, "num_keypoints": 1}, ["keypoints"], "'keypoints'"),
        ({"segmentation": []}, ["segm"], "'segmentation'"),
        ({"segmentation": [[1, 2]]}, ["segm"], "'segmentation'"),
        ({"segmentation": {"size": [1]}}, ["segm"], "'segmentation'"),
    ],
)
def test_annotations_that_lack_what_a_task_needs(dataset, joint, change, tasks, message):
    first, *rest = dataset.annotations
    changed = dataclasses.replace(dataset, annotations=({**first, **change}, *rest))
    with pytest.raises(InputError, match=message) as info:
        evaluate(changed, joint, tasks)
    assert "annotations.json" in str(info.value)
    assert "bbox" in evaluate(changed, joint[:1], ["bbox"])


def test_no_annotations_no_area_and_unknown_images(dataset, joint):
    with pytest.raises(InputError, match="'annotations'"):
        evaluate(dataclasses.replace(dataset, annotations=None), joint, ["bbox"])
    with pytest.raises(InputError, match="id 1234"):
        evaluate(dataset, [{**joint[0], "image_id": 1234}], ["bbox"])
    first = {key: value for key, value in dataset.annotations[0].items() if key != "area"}
    with pytest.raises(InputError, match="'area'"):
        evaluate(dataclasses.replace(dataset, annotations=(first,)), joint, ["bbox"])


def test_table():
    nan = math.nan
    table = format_table(
        {
            "bbox": {"AP": 50, "AP50": 100, "AP75": 1.234, "APs": nan, "APm": 0, "APl": 9.999}
            | {"AP-person": 50.5, "AP-traffic light": 7},
            "keypoints": {"AP": 1, "AP50": 2, "AP75": 3, "APm": 4, "APl": nan}
            | {"AP-person": 1, "AP-traffic light": nan},
        }
    )
    assert table.splitlines() == [
        "task          AP    AP50  AP75  APs   APm    APl",
        "------------------------------------------------",
        "bbox       50.00  100.00  1.23    -  0.00  10.00",
        "keypoints   1.00    2.00  3.00    -  4.00      -",
        "",
        "category       bbox AP  keypoints AP",
        "------------------------------------",
        "person           50.50          1.00",
        "traffic light     7.00             -",
    ]
    assert "category" not in format_table({"bbox": {"AP": nan}})
