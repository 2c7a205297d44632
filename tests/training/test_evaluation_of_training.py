"""Evaluation in training: shared by workers, and TEST.EXPECTED_RESULTS."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import tensorflow as tf

import tfdetect.training.evaluation
from tests.support.paths import DEMO
from tfdetect.config import load_config
from tfdetect.data.registry import register_coco_dataset
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.training.devices import Workers
from tfdetect.training.evaluation import Evaluation, expected_results
from tfdetect.training.test_data import open_test_data

NAMES = {"class_names": ["person", "circle", "square", "triangle"]}


class Worker(Workers):
    """One of several that do not run at the same time: it is given what the others have said."""

    said: list[str]
    others: tuple[str, ...] = ()

    def gather(self, lines):
        object.__setattr__(self, "said", list(lines))
        return [*lines, *self.others]


class FindsEverything:
    """Gives the ground truth of one image after the other."""

    def __init__(self, indices):
        content = json.loads((DEMO / "annotations.json").read_text())
        self._images = [content["images"][index] for index in indices]
        self._annotations = content["annotations"]
        self._calls = itertools.count()

    def predict_batch(self, images, proposals=None):
        image = self._images[next(self._calls)]
        assert images[0].shape[:2] == (image["height"], image["width"])
        found = [a for a in self._annotations if a["image_id"] == image["id"]]
        boxes = np.array([a["bbox"] for a in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([a["category_id"] - 1 for a in found], int)
        scores = np.ones(len(found), np.float32)
        size = image["height"], image["width"]
        return [Detections(*size, boxes, scores, classes, None, None)]


@pytest.fixture
def evaluation(tmp_path, monkeypatch):
    """Makes one for worker `index` of `count`."""
    register_coco_dataset("evaluation_demo", DEMO / "annotations.json", DEMO / "images")
    opts = ["DATASETS.TEST", "('evaluation_demo',)", "OUTPUT_DIR", str(tmp_path)]
    opts += ["MODEL.MASK_ON", "False", "MODEL.KEYPOINT_ON", "False"]
    opts += ["TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 30.0, 0.5], ['segm', 'AP', 20.0, 0.5]]"]
    cfg = load_config(DEMO / "joint_rcnn" / "config.yaml", opts)
    images = len(json.loads((DEMO / "annotations.json").read_text())["images"])

    def make(index, count, others=()):
        model = FindsEverything(range(index, images, count))
        monkeypatch.setattr(
            tfdetect.training.evaluation.Predictor, "of_model", lambda *arguments: model
        )
        worker = Worker(tf.distribute.get_strategy(), index, count, 1)
        object.__setattr__(worker, "others", others)
        return worker, Evaluation(cfg, None, NAMES, worker, open_test_data(cfg, NAMES))

    return make


def test_workers_share_the_images(evaluation, tmp_path):
    results = tmp_path / "inference" / "evaluation_demo" / "coco_instances_results.json"
    _, alone = evaluation(0, 1)
    expected = alone().metrics
    assert expected["bbox/AP"] == pytest.approx(100)
    content = results.read_text()
    results.unlink()
    second, on_second = evaluation(1, 2)
    on_second()
    assert not results.exists()
    # It has predicted half of the images.
    images = json.loads((DEMO / "annotations.json").read_text())["images"]
    assert [json.loads(line)[0] for line in second.said] == list(range(1, len(images), 2))
    _, on_first = evaluation(0, 2, tuple(second.said))
    assert on_first().metrics == pytest.approx(expected, nan_ok=True)
    assert results.read_text() == content


def test_expected_results(evaluation, caplog):
    _, one = evaluation(0, 1)
    good = {"bbox/AP": 30.4, "segm/AP": 19.6}
    assert one.holds(good)
    assert not caplog.records
    for wrong in ({"bbox/AP": 30.6}, {"bbox/AP": math.nan}):
        caplog.clear()
        assert not one.holds({**good, **wrong})
        (record,) = caplog.records
        assert record.getMessage().startswith("TEST.EXPECTED_RESULTS: bbox/AP is ")
        assert "instead of 30 +- 0.5" in record.getMessage()
    assert not one.holds({"bbox/AP": 30.0})


@pytest.mark.parametrize("entry", [["bbox", "AP", 30.0], ["bbox", "AP", "much", 1], 3])
def test_expected_results_that_are_not_understood(entry):
    cfg = load_config(DEMO / "joint_rcnn" / "config.yaml", ["TEST.EXPECTED_RESULTS", repr([entry])])
    with pytest.raises(InputError, match=r"TEST\.EXPECTED_RESULTS: "):
        expected_results(cfg)
