"""The order of what happens around iterations, hooks that fail, and a loss that is not finite."""

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
from tfdetect.training.devices import Workers
from tfdetect.training.evaluation import Outcome
from tfdetect.training.hooks import Hook, TrainingState
from tfdetect.training.hooks.builtin import (
    EvalHook,
    PeriodicCheckpointer,
    PeriodicWriter,
    PreciseBN,
)
from tfdetect.training.loop import Loop
from tfdetect.training.run import class_image_counts


@pytest.fixture(scope="module", autouse=True)
def demo():
    register_coco_dataset("run_demo", DEMO / "annotations.json", DEMO / "images")


def config(**keys):
    opts = {"DATASETS.TRAIN": "('run_demo',)", "SOLVER.MAX_ITER": 6} | keys
    opts = [word for pair in opts.items() for word in pair]
    return load_config(DEMO / "joint_rcnn" / "config.yaml", opts)


class Recorder(Hook):
    """Stands for everything that a loop calls, and writes down what was."""

    def __init__(self, losses=(), failures=()):
        self.calls = []
        self.failures = list(failures)
        self.final = -1
        self._losses = dict(losses)

    def step(self, batch, iteration):
        self.calls.append(f"step {iteration}")
        return {"loss_a": 1.0, "loss_b": self._losses.get(iteration, 2.0)}

    def save(self, progress, final):
        self.calls.append(f"save {progress.iteration}{' as final' if final else ''}")
        self.hooks = progress.hooks

    def has_final(self, iteration):
        return iteration == self.final

    def evaluate(self):
        self.calls.append("evaluate")
        if self.failures:
            raise self.failures.pop(0)
        return Outcome({"AP": 1.0})

    def statistics(self, iteration):
        self.calls.append(f"statistics from {iteration}")

    def add(self, iteration, metrics):
        self.calls.append(f"add {iteration}")
        self.last_added = iteration
        assert metrics["total_loss"] == metrics["loss_a"] + metrics["loss_b"]

    def flush(self, iteration):
        assert iteration == self.last_added

    def write(self, iteration, scalars):
        self.calls.append(f"write {iteration} {scalars}")


def loop_of(cfg, recorder, folder, user_hooks=(), start=0):
    state = TrainingState(
        cfg=cfg,
        model=None,
        workers=Workers(tf.distribute.get_strategy(), 0, 1, 1),
        folder=folder,
        events=recorder,
        start=start,
        max_iter=cfg.SOLVER.MAX_ITER,
        iteration=start,
    )
    checkpointer = PeriodicCheckpointer(recorder, 7, lambda: {})
    eval_hook = EvalHook(recorder.evaluate)
    hooks = [PeriodicWriter(), PreciseBN(recorder.statistics, recorder), checkpointer, eval_hook]
    loop = Loop(
        state, recorder.step, hooks, user_hooks, save=checkpointer.save, advice=lambda: "advice"
    )
    return loop, eval_hook


BATCHES = [{"record": tf.constant([number % 3, 3])} for number in range(6)]


def test_statistics_then_checkpoint_then_evaluation(tmp_path):
    cfg = config(**{"SOLVER.CHECKPOINT_PERIOD": 3, "TEST.EVAL_PERIOD": 2})
    recorder = Recorder()
    loop, eval_hook = loop_of(cfg, recorder, tmp_path, start=1)
    loop.run(BATCHES)
    assert loop.state.evaluation.metrics == {"AP": 1.0}
    assert not eval_hook.failed
    assert recorder.calls == [
        *("step 1", "add 1", "statistics from 2", "evaluate", "write 1 {'AP': 1.0}"),
        *("step 2", "add 2", "save 3"),
        *("step 3", "add 3", "statistics from 4", "evaluate", "write 3 {'AP': 1.0}"),
        *("step 4", "add 4", "step 5", "add 5"),
        *("statistics from 6", "save 6 as final", "evaluate", "write 5 {'AP': 1.0}"),
    ]


@pytest.mark.parametrize("failure", [InputError("gone"), MemoryError("none left"), KeyError("x")])
def test_an_evaluation_that_fails_stops_nothing(failure, caplog, tmp_path):
    cfg = config(**{"SOLVER.CHECKPOINT_PERIOD": 5, "TEST.EVAL_PERIOD": 2})
    recorder = Recorder(failures=[failure])
    loop, eval_hook = loop_of(cfg, recorder, tmp_path, start=1)
    loop.run(BATCHES)
    assert loop.state.evaluation.metrics == {"AP": 1.0}
    assert eval_hook.failed
    end = ["statistics from 6", "save 6 as final", "evaluate"]
    assert recorder.calls[-4:-1] == end
    assert "save 5" in recorder.calls
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "evaluation failed" in record.getMessage()
    # The one in the end fails when the model is on disk.
    recorder = Recorder(failures=[failure] * 3)
    loop, _ = loop_of(cfg, recorder, tmp_path, start=1)
    loop.run(BATCHES)
    (error,) = loop.state.evaluation.errors
    assert isinstance(error, InputError)
    assert recorder.calls[-3:] == end


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops(value, tmp_path):
    cfg = config(**{"SOLVER.CHECKPOINT_PERIOD": 1})
    recorder = Recorder({2: value})
    with pytest.raises(InputError) as raised:
        loop_of(cfg, recorder, tmp_path)[0].run(BATCHES)
    calls = [call for call in recorder.calls if not call.startswith("add")]
    assert calls == ["step 0", "save 1", "step 1", "save 2", "step 2"]
    records = training_records(cfg)
    message = str(raised.value)
    assert message.startswith(f"iteration 2: a loss is not finite (loss_a=1, loss_b={value})")
    assert f"on the images {records[2].file_name}, {records[3].file_name}; advice" in message


class Watcher(Hook):
    """Of a user: writes down its moments, raises or stops at one of them."""

    def __init__(self, calls, fails=None, stops=None, error=None):
        self._calls = calls
        self._fails, self._stops = fails, stops
        self._error = error or ValueError("broken")

    def _at(self, moment, state):
        here = f"{moment} {state.iteration}"
        self._calls.append(here)
        if here == self._stops:
            state.stop("enough")
        if here == self._fails:
            raise self._error

    def before_train(self, state):
        self._at("before_train", state)

    def before_step(self, state):
        self._at("before_step", state)

    def after_step(self, state):
        self._at("after_step", state)

    def after_train(self, state):
        self._at("after_train" if state.finished else "unfinished", state)


def test_moments_of_a_hook(tmp_path):
    cfg = config(**{"SOLVER.MAX_ITER": 2, "TEST.EVAL_PERIOD": 1})
    recorder = Recorder()
    loop_of(cfg, recorder, tmp_path, [Watcher(recorder.calls)])[0].run(BATCHES)
    said = ("write 0 {'AP': 1.0}", "write 1 {'AP': 1.0}")
    assert recorder.calls == [
        *("before_train 0", "before_step 0", "step 0", "add 0"),
        *("statistics from 1", "evaluate", said[0], "after_step 0"),
        *("before_step 1", "step 1", "add 1", "after_step 1"),
        *("statistics from 2", "save 2 as final", "evaluate", said[1], "after_train 2"),
    ]


def test_a_hook_ends_the_training(tmp_path):
    """As if the iteration were the last; what was evaluated after it is not evaluated again."""
    cfg = config(**{"TEST.EVAL_PERIOD": 2})
    for iteration in (1, 2):
        recorder = Recorder()
        hook = Watcher(recorder.calls, stops=f"after_step {iteration}")
        loop_of(cfg, recorder, tmp_path, [hook])[0].run(BATCHES)
        end = recorder.calls[recorder.calls.index(f"after_step {iteration}") + 1 :]
        done = iteration + 1
        if iteration == 1:
            assert end == [f"save {done} as final", f"after_train {done}"]
        else:
            evaluated = ["evaluate", f"write {iteration} {{'AP': 1.0}}"]
            saved = [f"statistics from {done}", f"save {done} as final"]
            assert end == [*saved, *evaluated, f"after_train {done}"]


def test_a_training_that_has_ended_is_only_evaluated(tmp_path):
    recorder = Recorder()
    recorder.final = 6
    recorder.last_added = 5
    loop_of(config(), recorder, tmp_path, start=6)[0].run([])
    assert recorder.calls == ["evaluate", "write 5 {'AP': 1.0}"]


@pytest.mark.parametrize(
    ("moment", "saved"),
    [
        ("before_train 2", None),
        ("before_step 2", None),
        ("before_step 4", "save 4"),
        ("after_step 3", "save 4"),
        ("after_step 5", "save 6"),
        ("after_train 6", "save 6 as final"),
    ],
)
@pytest.mark.parametrize("error", [KeyError("broken"), InputError("broken")])
def test_a_hook_that_fails_costs_nothing(tmp_path, moment, saved, error):
    recorder = Recorder()
    hooks = [Watcher([]), Watcher(recorder.calls, fails=moment, error=error)]
    with pytest.raises(InputError) as raised:
        loop_of(config(), recorder, tmp_path, hooks, start=2)[0].run(BATCHES)
    name = moment.partition(" ")[0]
    message = str(raised.value)
    assert message.startswith(f"hook Watcher: {name} failed at iteration {moment[-1]} (")
    assert "broken" in message
    assert "\n" not in message
    assert "Traceback" in (tmp_path / "log.txt").read_text()
    saves = [call for call in recorder.calls if call.startswith("save")]
    assert saves == ([saved] if saved else [])
    if not moment.startswith("after_train"):
        assert recorder.calls[-1].startswith("unfinished")


def test_hooks_of_the_user_end_when_the_last_checkpoint_fails(tmp_path, monkeypatch):
    recorder = Recorder()

    def save(progress, final=False):
        raise InputError("no room")

    monkeypatch.setattr(recorder, "save", save)
    hooks = [Watcher(recorder.calls, fails="unfinished 6"), Watcher(recorder.calls)]
    with pytest.raises(InputError, match="no room"):
        loop_of(config(), recorder, tmp_path, hooks)[0].run(BATCHES)
    assert recorder.calls[-2:] == ["unfinished 6", "unfinished 6"]


def test_a_failing_hook_leaves_the_checkpoint_of_its_iteration(tmp_path):
    recorder = Recorder()
    hook = Watcher([], fails="after_step 3")
    cfg = config(**{"SOLVER.CHECKPOINT_PERIOD": 2})
    with pytest.raises(InputError, match="4 iterations are saved"):
        loop_of(cfg, recorder, tmp_path, [hook])[0].run(BATCHES)
    assert [call for call in recorder.calls if call.startswith("save")] == ["save 2", "save 4"]


def test_an_interruption_reaches_hooks_too(tmp_path):
    recorder = Recorder()
    hook = Watcher(recorder.calls, fails="before_step 1", error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        loop_of(config(), recorder, tmp_path, [hook])[0].run(BATCHES)
    assert recorder.calls[-2:] == ["before_step 1", "unfinished 1"]


def test_a_class_is_counted_once_an_image():
    content = json.loads((DEMO / "annotations.json").read_text())
    pairs = {(a["image_id"], a["category_id"]) for a in content["annotations"]}
    expected = np.bincount([category - 1 for _, category in pairs], minlength=4)
    np.testing.assert_array_equal(class_image_counts(config()), expected)
