"""Average recall of box proposals: numbers made by hand, and a computation of its own."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from tfdetect.data.proposal_files import read_proposals
from tfdetect.detections import Detections
from tfdetect.evaluation.proposals import (
    METRICS,
    evaluate,
    format_table,
    ground_truth,
    to_result,
    write_results,
)


def result(image_id, boxes, logits=None):
    logits = list(range(len(boxes), 0, -1)) if logits is None else logits
    return {
        "image_id": image_id,
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "objectness_logits": np.array(logits, np.float32),
    }


def annotation(image_id, box, area=None, **more):
    area = box[2] * box[3] if area is None else area
    return {"image_id": image_id, "bbox": box, "area": area, **more}


def measured(annotations, *results):
    images = sorted({r["image_id"] for r in results})
    return evaluate(ground_truth(annotations, images), results)["box_proposals"]


def test_names_are_detectron2s():
    assert (
        *("AR@100", "ARs@100", "ARm@100", "ARl@100"),
        *("AR@1000", "ARs@1000", "ARm@1000", "ARl@1000"),
    ) == METRICS


def test_by_hand():
    # Of a box of 10 x 10, 7 of its 10 columns: IoU 0.7, which 0.5 to 0.7 reach, 5 of 10.
    found = measured([annotation(1, [0, 0, 10, 10])], result(1, [[0, 0, 7, 10]]))
    assert found["AR@100"] == found["AR@1000"] == found["ARs@100"] == pytest.approx(50)
    assert math.isnan(found["ARm@100"])
    assert math.isnan(found["ARl@100"])
    # The IoU 0.5 itself is reached.
    found = measured([annotation(1, [0, 0, 10, 10])], result(1, [[0, 0, 5, 10]]))
    assert found["AR@100"] == pytest.approx(10)
    # Both objects overlap the one proposal; it is given to the one that it overlaps more.
    two = [annotation(1, [0, 0, 10, 10]), annotation(1, [0, 0, 10, 8])]
    assert measured(two, result(1, [[0, 0, 10, 10]]))["AR@100"] == pytest.approx(50)
    # The bounds of areas belong to both ranges; the area is the annotation's, not the box's.
    edges = [annotation(1, [0, 0, 50, 50], 32**2), annotation(1, [60, 0, 5, 5], 96**2)]
    found = measured(edges, result(1, [[0, 0, 50, 50]]))
    assert [found[f"AR{s}@100"] for s in ("", "s", "m", "l")] == pytest.approx([50, 100, 50, 0])


def test_limits_go_by_the_logits():
    # The right proposal has the 101st logit, and comes first in the file.
    boxes = [[0, 0, 10, 10]] + [[50, 50, 60, 60]] * 100
    logits = [-1.0] + [1.0] * 100
    found = measured([annotation(1, [0, 0, 10, 10])], result(1, boxes, logits))
    assert found["AR@100"] == 0
    assert found["AR@1000"] == pytest.approx(100)


def test_crowds_and_images_without_proposals_do_not_count():
    entries = [annotation(1, [0, 0, 10, 10]), annotation(1, [20, 20, 9, 9], iscrowd=1)]
    entries += [annotation(2, [0, 0, 10, 10])]
    found = measured(entries, result(1, [[0, 0, 10, 10]]), result(2, []))
    assert found["AR@100"] == pytest.approx(100)
    assert all(math.isnan(value) for value in measured(entries, result(2, [])).values())


def _by_loops(annotations, results, limit, low, high):
    """The definition once more, in plain Python."""

    def iou(a, b):
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        if width <= 0 or height <= 0:
            return 0.0
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        return width * height / (sum(areas) - width * height)

    best = []
    for found in results:
        ranked = sorted(
            zip(found["objectness_logits"].tolist(), found["boxes"].tolist(), strict=True),
            key=lambda pair: -pair[0],
        )[:limit]
        objects = [
            [x, y, x + w, y + h]
            for entry in annotations
            if entry["image_id"] == found["image_id"] and low <= entry["area"] <= high
            for x, y, w, h in [entry["bbox"]]
        ]
        pairs = sorted(
            (
                (iou(box, true), i, j)
                for i, (_, box) in enumerate(ranked)
                for j, true in enumerate(objects)
            ),
            reverse=True,
        )
        used_boxes, used_objects = set(), {}
        for overlap, i, j in pairs:
            if i not in used_boxes and j not in used_objects:
                used_boxes.add(i)
                used_objects[j] = overlap
        best += [used_objects.get(j, 0.0) for j in range(len(objects))]
    recalls = [sum(b >= 0.5 + 0.05 * k for b in best) / len(best) for k in range(10)]
    return 100 * sum(recalls) / 10


def test_against_plain_loops():
    rng = random.Random(7)
    entries, results = [], []
    for image in range(12):
        boxes = []
        for _ in range(rng.randrange(1, 9)):
            x, y, w, h = (rng.uniform(1, 200) for _ in range(4))
            entries.append(annotation(image, [x, y, w, h], rng.uniform(0.5, 1) * w * h))
            for _ in range(rng.randrange(60)):
                dx, dy, dw, dh = (rng.gauss(0, 0.12) for _ in range(4))
                boxes.append([x + dx * w, y + dy * h, x + w + dw * w, y + h + dh * h])
        logits = [rng.gauss(0, 3) for _ in boxes]
        results.append(result(image, boxes or [[0, 0, 1, 1]], logits or [0.0]))
    found = measured(entries, *results)
    ranges = {"": (0, 1e10), "s": (0, 1024), "m": (1024, 9216), "l": (9216, 1e10)}
    for limit in (100, 1000):
        for suffix, (low, high) in ranges.items():
            expected = _by_loops(entries, results, limit, low, high)
            assert 0 < expected < 100
            # Overlaps in float32 and in float64 are on the same side of every threshold.
            assert found[f"AR{suffix}@{limit}"] == pytest.approx(expected, abs=1e-4)
    assert found["AR@100"] < found["AR@1000"]


def test_file_is_what_a_model_with_precomputed_proposals_takes(tmp_path):
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7.5, 8]], np.float32)
    found = Detections(9, 9, boxes, np.array([2.5, -1], np.float32), np.zeros(2, int))
    path = write_results(tmp_path, [to_result(found, 7), result(9, [])])
    assert path.name == "box_proposals.pkl"
    read = read_proposals(path)
    np.testing.assert_array_equal(read.boxes["7"], boxes)
    assert read.boxes["9"].shape == (0, 4)


def test_table():
    table = format_table({"box_proposals": dict.fromkeys(METRICS, 12.345)})
    assert table.splitlines()[0].split() == ["task", *METRICS]
    assert "12.35" in table or "12.34" in table
