"""The order of what happens after iterations, and a loss that is not finite."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import DEMO
from tfdetect.config import load_config
from tfdetect.data.registry import register_coco_dataset
from tfdetect.data.training.records import training_records
from tfdetect.errors import InputError
from tfdetect.training.evaluation import Outcome
from tfdetect.training.run import _Loop, class_image_counts


@pytest.fixture(scope="module", autouse=True)
def demo():
    register_coco_dataset("run_demo", DEMO / "annotations.json", DEMO / "images")


def config(**keys):
    opts = {"DATASETS.TRAIN": "('run_demo',)", "SOLVER.MAX_ITER": 6} | keys
    opts = [word for pair in opts.items() for word in pair]
    return load_config(DEMO / "joint_rcnn" / "config.yaml", opts)


class Recorder:
    """Stands for everything that a loop calls, and writes down what was."""

    def __init__(self, losses=(), failures=()):
        self.calls = []
        self.failures = list(failures)
        self._losses = dict(losses)

    def step(self, batch, iteration):
        self.calls.append(f"step {iteration}")
        return {"loss_a": 1.0, "loss_b": self._losses.get(iteration, 2.0)}

    def save(self, progress, final):
        self.calls.append(f"save {progress.iteration}{' as final' if final else ''}")

    def advice(self):
        return "advice"

    def __call__(self):
        self.calls.append("evaluate")
        if self.failures:
            raise self.failures.pop(0)
        return Outcome({"AP": 1.0})

    def statistics(self, iteration):
        self.calls.append(f"statistics from {iteration}")


def loop_of(cfg, recorder):
    loop = _Loop(cfg, recorder.step, recorder, recorder, None)
    loop.precise_statistics = recorder.statistics
    return loop


BATCHES = [{"record": tf.constant([number % 3, 3])} for number in range(6)]


def test_statistics_then_checkpoint_then_evaluation():
    cfg = config(**{"SOLVER.CHECKPOINT_PERIOD": 3, "TEST.EVAL_PERIOD": 2})
    recorder = Recorder()
    loop = loop_of(cfg, recorder)
    assert loop.run(BATCHES, 1, 7).metrics == {"AP": 1.0}
    assert not loop.failed
    assert recorder.calls == [
        *("step 1", "statistics from 2", "evaluate"),
        *("step 2", "save 3"),
        *("step 3", "statistics from 4", "evaluate", "step 4"),
        *("step 5", "statistics from 6", "save 6 as final", "evaluate"),
    ]


@pytest.mark.parametrize("failure", [InputError("gone"), MemoryError("none left"), KeyError("x")])
def test_an_evaluation_that_fails_stops_nothing(failure, caplog):
    cfg = config(**{"SOLVER.CHECKPOINT_PERIOD": 5, "TEST.EVAL_PERIOD": 2})
    recorder = Recorder(failures=[failure])
    loop = loop_of(cfg, recorder)
    assert loop.run(BATCHES, 1, 7).metrics == {"AP": 1.0}
    assert loop.failed
    assert recorder.calls[-3:] == ["statistics from 6", "save 6 as final", "evaluate"]
    assert "save 5" in recorder.calls
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "evaluation failed" in record.getMessage()
    # The one in the end fails when the model is on disk.
    recorder = Recorder(failures=[failure] * 3)
    (error,) = loop_of(cfg, recorder).run(BATCHES, 1, 7).errors
    assert isinstance(error, InputError)
    assert recorder.calls[-2:] == ["save 6 as final", "evaluate"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops(value):
    cfg = config(**{"SOLVER.CHECKPOINT_PERIOD": 1})
    recorder = Recorder({2: value})
    with pytest.raises(InputError) as raised:
        loop_of(cfg, recorder).run(BATCHES, 0, 7)
    assert recorder.calls == ["step 0", "save 1", "step 1", "save 2", "step 2"]
    records = training_records(cfg)
    message = str(raised.value)
    assert message.startswith(f"iteration 2: a loss is not finite (loss_a=1, loss_b={value})")
    assert f"on the images {records[2].file_name}, {records[3].file_name}; advice" in message


def test_a_class_is_counted_once_an_image():
    content = json.loads((DEMO / "annotations.json").read_text())
    pairs = {(a["image_id"], a["category_id"]) for a in content["annotations"]}
    expected = np.bincount([category - 1 for _, category in pairs], minlength=4)
    np.testing.assert_array_equal(class_image_counts(config()), expected)
