"""A user's file through train.py --import, with every hook that can be asked for."""

from __future__ import annotations

import json

import pytest

from tests.support.train_runs import SMALL, lines, losses, train, training, words
from tfdetect.data.shapes import write_shapes

HOOK = """
import os
from tfdetect.training import HOOKS, Hook

@HOOKS.register()
class CountSteps(Hook):
    def __init__(self, period):
        self.period = period
        self.steps = 0

    @classmethod
    def from_config(cls, cfg):
        return cls(cfg.SOLVER.LOG_PERIOD)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]

    def after_step(self, state):
        self.steps += 1
        state.events.write(state.iteration, {"steps": self.steps})
        if str(state.iteration) == os.environ.get("FAILS_AT"):
            raise ValueError("broken")
"""
OPTIONS = {
    **SMALL,
    "DATASETS.TEST": "('train',)",
    "SOLVER.MAX_ITER": 4,
    "TEST.EVAL_PERIOD": 2,
    "TRAIN.HOOKS": "['CountSteps']",
    "TRAIN.EMA.ENABLED": True,
    "TRAIN.EMA.DECAY": 0.5,
    "TRAIN.BEST.METRIC": "bbox/AP",
    "TRAIN.EARLY_STOP.METRIC": "segm/AP",
}


def content(folder, name):
    return (folder / "model_final" / f"{name}.data-00000-of-00001").read_bytes()


@pytest.mark.full
def test_a_hook_that_fails_costs_nothing(tmp_path):
    """Resumed, the training ends bit for bit as one in which nothing has failed."""
    data = tmp_path / "data"
    write_shapes(data, 4, 3)
    module = tmp_path / "my_module.py"
    module.write_text(HOOK)
    arguments = ("--import", str(module))
    train(tmp_path / "whole", data, *arguments, opts=words(OPTIONS))
    run = {"opts": words(OPTIONS), "environment": {"FAILS_AT": "2"}}
    with training(tmp_path / "cut", data, *arguments, **run) as failing:
        assert failing.process.wait(240) == 2
    said = failing.said.read_text()
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(
        "error: hook CountSteps: after_step failed at iteration 2 (ValueError: broken; "
    )
    assert 'raise ValueError("broken")' in (tmp_path / "cut" / "log.txt").read_text()
    assert json.loads((tmp_path / "cut/model_0000002/training.json").read_text()) == {
        "iteration": 3,
        "seed": 1,
        "hooks": {"CountSteps": {"steps": 3}},
    }
    train(tmp_path / "cut", data, "--resume", *arguments, opts=words(OPTIONS))
    for name in ("model", "training"):
        assert content(tmp_path / "cut", name) == content(tmp_path / "whole", name)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    counts = [line["steps"] for line in lines(tmp_path / "cut") if "steps" in line]
    assert counts == [1, 2, 3, 4]
    record = json.loads((tmp_path / "cut" / "model_best" / "best.json").read_text())
    found = [line for line in lines(tmp_path / "cut") if "bbox/AP" in line]
    assert [line["iteration"] for line in found] == [1, 3]
    assert record["value"] == max(line["bbox/AP"] or 0 for line in found)
