"""Checkpoints are whole or not there, the newest are kept, and training resumes bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.support import toy
from tfdetect.errors import InputError
from tfdetect.training import checkpoints
from tfdetect.training.checkpoints import Checkpoints, Progress, saved

METADATA = {"class_names": ["thing"]}


def start(folder, cfg=None, model=None):
    cfg = cfg or toy.config()
    step, model = toy.trainer(cfg, model)
    return step, model, Checkpoints(folder, cfg, model, METADATA, step.state)


@pytest.mark.parametrize(
    ("kind", "solver"),
    [(toy.Toy, {}), (toy.WithState, {}), (toy.WithDropPath, {"OPTIMIZER": "AdamW"})],
)
def test_goes_on_bit_for_bit(tmp_path, kind, solver):
    cfg = toy.config(**solver)
    step, model, places = start(tmp_path, cfg, kind())
    for number in range(6):
        step(toy.batch(number), number)
        if number == 2:
            places.save(Progress(3, 7))
    again, resumed, places = start(tmp_path, cfg, kind())
    assert places.restore() == Progress(3, 7)
    for number in range(3, 6):
        again(toy.batch(number), number)
    for a, b in zip(model.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_newest_are_kept(tmp_path):
    _, _, places = start(tmp_path, toy.config(CHECKPOINTS_KEPT=2))
    for iteration in (2, 4, 6, 8):
        places.save(Progress(iteration, 7))
    places.save(Progress(10, 7), final=True)
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert names == ["model_0000005", "model_0000007", "model_final"]
    assert [progress.iteration for progress, _ in saved(tmp_path)] == [6, 8, 10]
    assert places.latest() == tmp_path / "model_final"


def test_what_a_killed_process_left_is_removed(tmp_path):
    _, _, places = start(tmp_path)
    places.save(Progress(2, 7))
    (tmp_path / ".unfinished-abc" / "model_0000005").mkdir(parents=True)
    assert places.restore() == Progress(2, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["model_0000001"]


def test_a_failed_write_leaves_the_earlier_ones(tmp_path, monkeypatch):
    _, _, places = start(tmp_path)
    places.save(Progress(2, 7))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_flush", full)
    with pytest.raises(InputError, match=r"model_0000003.*No space left"):
        places.save(Progress(4, 7))
    assert [path.name for path in tmp_path.iterdir()] == ["model_0000001"]


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    _, model, places = start(tmp_path)
    places.save(Progress(2, 7))
    model.bias.assign(np.full([32], np.nan))
    with pytest.raises(InputError, match=r"not finite.*model_0000001.*BASE_LR"):
        places.save(Progress(4, 7))
    assert [path.name for path in tmp_path.iterdir()] == ["model_0000001"]


@pytest.mark.parametrize("name", ["training.index", "model.index", "training.json"])
def test_damage_is_named(tmp_path, name):
    _, _, places = start(tmp_path)
    (places.save(Progress(2, 7)) / name).write_bytes(b"{}")
    with pytest.raises(InputError, match=name):
        places.restore()


@pytest.mark.parametrize(
    ("key", "value"), [("NUM_CLASSES", 5), ("SCORE_THRESH_TEST", 0.5)], ids=["shape", "no shape"]
)
def test_another_model_is_not_called_damaged(tmp_path, key, value):
    """But damage is, whatever else has changed that no variable depends on."""
    _, _, places = start(tmp_path)
    path = places.save(Progress(2, 7))
    cfg = toy.config()
    cfg.MODEL.ROI_HEADS[key] = value
    step, model = toy.trainer(cfg)
    if key == "NUM_CLASSES":
        model.more = tf.Variable(tf.ones([value]))
        words = r"--resume: .*model_0000001 .*MODEL\.ROI_HEADS\.NUM_CLASSES 80 instead of 5"
    else:
        content = path / "model.data-00000-of-00001"
        content.write_bytes(content.read_bytes()[:100])
        words = "is damaged"
    with pytest.raises(InputError, match=words):
        Checkpoints(tmp_path, cfg, model, METADATA, step.state).restore()


def test_nothing_there(tmp_path):
    _, _, places = start(tmp_path / "new")
    assert places.restore() is None
    (tmp_path / "new" / "model_0000001").mkdir(parents=True)
    assert places.restore() is None


def test_progress_is_json(tmp_path):
    _, _, places = start(tmp_path)
    content = json.loads((places.save(Progress(2, 7)) / "training.json").read_text())
    assert content == {"iteration": 2, "seed": 7}
