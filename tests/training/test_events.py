"""metrics.json, the log and TensorBoard's files."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.errors import InputError
from tfdetect.training.events import Events, logging_to
from tfdetect.training.writers import JSONWriter, TensorBoardWriter


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def events_in(folder, start, **options):
    return Events([JSONWriter(folder, start), TensorBoardWriter(folder)], start=start, **options)


def run(folder, start, stop, period=2, max_iter=6):
    events = events_in(folder, start, max_iter=max_iter, period=period)
    for iteration in range(start, stop):
        losses = {"loss_cls": float(iteration), "loss_box_reg": 1.0}
        times = {"time": 0.5, "data_time": 0.1}
        total = {"total_loss": sum(losses.values())}
        events.add(iteration, {**total, **losses, **times, "lr": 0.1 * iteration})
    events.close()


def test_a_line_for_every_period(tmp_path):
    with logging_to(tmp_path):
        run(tmp_path, 0, 6)
    written = lines(tmp_path)
    assert [line["iteration"] for line in written] == [1, 3, 5]
    assert written[1] == {
        "iteration": 3,
        "total_loss": 3.5,
        "loss_cls": 2.5,
        "loss_box_reg": 1.0,
        "time": 0.5,
        "data_time": 0.1,
        "lr": pytest.approx(0.3),
        "eta_seconds": 1.0,
    }
    log = (tmp_path / "log.txt").read_text()
    assert "eta: 0:00:01  iter: 3  total_loss: 3.5" in log
    assert "max_mem: " in log
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_resumed_lines_take_the_place_of_earlier_ones(tmp_path):
    run(tmp_path, 0, 6)
    with (tmp_path / "metrics.json").open("a") as file:
        file.write('{"iteration": 7, "tot')
    run(tmp_path, 2, 6)
    assert [line["iteration"] for line in lines(tmp_path)] == [1, 3, 5]


def test_a_period_that_is_cut_short(tmp_path):
    events = events_in(tmp_path, 0, max_iter=9, period=3)
    times = {"time": 0.5, "data_time": 0.1, "lr": 0.1}
    for iteration in range(5):
        events.add(iteration, {"total_loss": 1.0 * iteration, **times})
    events.flush(4)
    events.flush(4)
    events.close()
    assert [line["iteration"] for line in lines(tmp_path)] == [2, 4]
    assert lines(tmp_path)[1]["total_loss"] == 3.5


def test_metrics_and_pictures(tmp_path):
    events = events_in(tmp_path, 0, max_iter=4, period=2)
    events.write(3, {"bbox/AP": 12.5, "bbox/APl": float("nan")})
    events.add_image(3, "image", np.zeros([4, 5, 3], np.uint8))
    events.close()
    assert lines(tmp_path) == [{"iteration": 3, "bbox/AP": 12.5, "bbox/APl": None}]
    (file,) = tmp_path.glob("events.out.tfevents.*")
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    assert tags == {"bbox/AP", "image"}


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(InputError, match=r"metrics\.json"):
        run(tmp_path, 0, 2)
    with pytest.raises(InputError, match="LOG_PERIOD"):
        Events([], start=0, max_iter=2, period=0)


def test_a_bar_on_a_terminal(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    run(tmp_path, 2, 6)
    assert "Training: 100%" in terminal.getvalue()
    assert "6/6" in terminal.getvalue()
