"""The best checkpoint and early stop: wherever a training is cut off, it ends the same."""

from __future__ import annotations

import json
import math

import pytest
import tensorflow as tf

from tests.support import toy
from tfdetect.errors import InputError
from tfdetect.files import REPLACED
from tfdetect.training.checkpoints import Checkpoints
from tfdetect.training.devices import Workers
from tfdetect.training.evaluation import Outcome
from tfdetect.training.events import Events
from tfdetect.training.hooks import TrainingState
from tfdetect.training.hooks.builtin import EvalHook
from tfdetect.training.hooks.selection import BestCheckpointer, EarlyStopping
from tfdetect.training.loop import Loop
from tfdetect.training.writers import JSONWriter

# By iteration, with one evaluation after every other; None fails.
APS = {1: 10.0, 3: 30.0, 5: None, 7: 20.0, 9: 30.0, 11: 25.0, 13: 40.0}
ITERATIONS = 15


class Killed(BaseException):
    pass


def config(mode="max", patience=3):
    cfg = toy.config(MAX_ITER=ITERATIONS)
    cfg.TEST.EVAL_PERIOD = 2
    cfg.TRAIN.BEST.METRIC = cfg.TRAIN.EARLY_STOP.METRIC = "bbox/AP"
    cfg.TRAIN.BEST.MODE = cfg.TRAIN.EARLY_STOP.MODE = mode
    cfg.TRAIN.EARLY_STOP.PATIENCE = patience
    return cfg


def run(folder, cfg, start=0, aps=APS, killed_in=None, killed_after=None):
    """The iterations that were done and why, and model_best's record; or killed on the way."""
    model = toy.Toy()
    checkpoints = Checkpoints(folder, cfg, model, {"class_names": ["thing"]}, tf.train.Checkpoint())

    def evaluate():
        iteration = state.iteration if state.metrics else state.iteration - 1
        if killed_in == iteration:
            raise Killed
        ap = aps.get(iteration, 1.0)
        if ap is None:
            return Outcome(errors=[InputError("no evaluation")])
        return Outcome({"bbox/AP": ap, "bbox/APs": math.nan})

    def step(batch, iteration):
        if killed_after == iteration - 1:
            raise Killed
        # What a user's hook writes is not an evaluation.
        state.events.write(iteration, {"mine": 1.0, "other/AP": 90.0})
        return {"loss": 1.0}

    state = TrainingState(
        cfg=cfg,
        model=model,
        workers=Workers(tf.distribute.get_strategy(), 0, 1, 1),
        folder=folder,
        events=Events([JSONWriter(folder, start)], start=start, max_iter=ITERATIONS, period=1),
        start=start,
        max_iter=ITERATIONS,
        iteration=start,
    )
    hooks = [EvalHook(evaluate, needed=["bbox/AP"]), BestCheckpointer(cfg, checkpoints)]
    hooks.append(EarlyStopping(cfg))
    loop = Loop(state, step, hooks, [], save=None, advice=lambda: "")
    batches = [{"record": tf.constant([0])}] * ITERATIONS
    loop.run(batches)
    return (
        state.iteration,
        state.stop_reason,
        json.loads((folder / "model_best/best.json").read_text()),
    )


def test_ends_after_patience(tmp_path):
    done, reason, best = run(tmp_path, config())
    # 20, 30 (no better) and 25; the one that failed does not count.
    assert done == 12
    assert reason.startswith("bbox/AP has not been better than 30 in 3 evaluations")
    assert best == {"metric": "bbox/AP", "value": 30.0, "iteration": 3}
    assert (tmp_path / "model_best" / "config.yaml").is_file()


def test_goes_on_while_it_gets_better(tmp_path):
    done, reason, best = run(tmp_path, config(patience=4))
    assert (done, reason) == (ITERATIONS, None)
    assert best == {"metric": "bbox/AP", "value": 40.0, "iteration": 13}


def test_less_may_be_better(tmp_path):
    done, _, best = run(tmp_path, config(mode="min"))
    assert done == 10
    assert best == {"metric": "bbox/AP", "value": 10.0, "iteration": 1}


def test_nan_is_never_the_best(tmp_path):
    done, reason, best = run(tmp_path, config(), aps={1: math.nan, 3: 5.0, 5: math.nan})
    assert done == 10
    assert "better than 5 " in reason
    assert best["iteration"] == 3


@pytest.mark.parametrize(
    ("start", "moment", "iteration", "patience"),
    [
        *((e + 1, "killed_in", e, 3) for e in (1, 3, 7, 11)),
        *((start, "killed_after", 10, 3) for start in (1, 4, 8, 10, 11)),
        (3, "killed_in", 7, 3),
        # Its best one is of an iteration that is done again.
        (4, "killed_after", 13, 4),
    ],
)
def test_resumed_it_ends_the_same(tmp_path, start, moment, iteration, patience):
    """From the checkpoint before iteration `start`, the evaluation of which may be lost."""
    (tmp_path / "whole").mkdir()
    cfg = config(patience=patience)
    with pytest.raises(Killed):
        run(tmp_path, cfg, **{moment: iteration})
    assert run(tmp_path, cfg, start=start) == run(tmp_path / "whole", cfg)


def test_a_metric_that_evaluations_do_not_give(tmp_path):
    cfg = config()
    cfg.TRAIN.BEST.METRIC = "bbox/AP-cat"
    words = r"TRAIN\.BEST\.METRIC: .*'bbox/AP-cat'; give one of bbox/AP, bbox/APs"
    with pytest.raises(InputError, match=words):
        run(tmp_path, cfg)


def test_a_record_that_is_damaged(tmp_path):
    run(tmp_path, config())
    (tmp_path / "model_best" / "best.json").write_text("{")
    with pytest.raises(InputError, match=r"best\.json: .*remove its folder"):
        run(tmp_path, config(), start=4)


def test_of_two_renames_one_was_done(tmp_path):
    """Killed when the best one was to be replaced: it is put back."""
    run(tmp_path, config())
    (tmp_path / ".unfinished-x").mkdir()
    (tmp_path / "model_best").rename(tmp_path / ".unfinished-x" / REPLACED)
    cfg = config()
    Checkpoints(tmp_path, cfg, toy.Toy(), {}, tf.train.Checkpoint()).restore()
    assert (tmp_path / "model_best" / "best.json").is_file()
    assert not list(tmp_path.glob(".unfinished-*"))
