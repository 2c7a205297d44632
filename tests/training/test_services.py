"""Weights & Biases and MLflow, by packages that write down what they are told."""

from __future__ import annotations

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.paths import DEMO
from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.training.preparation import import_writer
from tfdetect.training.services import open_services


class Calls:
    """Any method: writes down its call; `log` and the like raise once `broken`."""

    def __init__(self, said, broken=False):
        self.said, self.broken = said, broken
        self.id = "run-1"
        self.info = SimpleNamespace(run_id="run-1")

    def __getattr__(self, name):
        def call(*arguments, **keywords):
            if self.broken and name.startswith("log"):
                raise ConnectionError("gone")
            self.said.append((name, arguments, keywords))
            return self

        return call


def open_one(monkeypatch, name, folder, *, resumed=False, package=None):
    said = []
    monkeypatch.setitem(sys.modules, name, package or Calls(said))
    cfg = load_config(DEMO / "joint_rcnn" / "config.yaml", ["TRAIN.WRITERS", f"['{name}']"])
    (writer,) = open_services(cfg, folder, resumed=resumed)
    return writer, said


IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def test_wandb(monkeypatch, tmp_path):
    writer, said = open_one(monkeypatch, "wandb", tmp_path)
    (_, _, options) = said[0]
    assert (options["name"], options["id"], options["resume"]) == (tmp_path.name, None, "allow")
    assert options["config"]["SOLVER"]["BASE_LR"] > 0
    del said[:]
    writer.write(3, {"loss": 1.5, "bbox/AP": math.nan})
    writer.write(3, {"bbox/APl": math.nan})
    writer.add_image(3, "picture", IMAGE)
    writer.close()
    assert [name for name, *_ in said] == ["log", "Image", "log", "finish"]
    assert said[0][1] == ({"iteration": 3, "loss": 1.5},)
    np.testing.assert_array_equal(said[1][1][0], IMAGE[..., ::-1])


def test_mlflow(monkeypatch, tmp_path):
    writer, said = open_one(monkeypatch, "mlflow", tmp_path)
    assert said[0] == ("start_run", (), {"run_id": None, "run_name": tmp_path.name})
    parameters = {key: v for name, a, _ in said if name == "log_params" for key, v in a[0].items()}
    assert parameters["SOLVER.IMS_PER_BATCH"] == "16"
    del said[:]
    writer.write(3, {"loss": 1.5, "bbox/AP-traffic light (red)": 2.0, "bbox/APl": math.nan})
    writer.close()
    assert said[0][1] == ({"loss": 1.5, "bbox/AP-traffic light _red_": 2.0},)
    assert [name for name, *_ in said] == ["log_metrics", "end_run"]


@pytest.mark.parametrize(("name", "key"), [("wandb", "id"), ("mlflow", "run_id")])
def test_a_resumed_training_goes_on_in_its_run(monkeypatch, tmp_path, name, key):
    open_one(monkeypatch, name, tmp_path)
    assert json.loads((tmp_path / "runs.json").read_text()) == {name: "run-1"}
    for resumed, expected in ((True, "run-1"), (False, None)):
        _, said = open_one(monkeypatch, name, tmp_path, resumed=resumed)
        assert said[0][2][key] == expected


def test_a_service_that_is_gone_is_said_once(monkeypatch, tmp_path, caplog):
    package = Calls([])
    writer, _ = open_one(monkeypatch, "wandb", tmp_path, package=package)
    package.broken = True
    for iteration in range(3):
        writer.write(iteration, {"loss": 1.0})
    writer.close()
    (record,) = caplog.records
    assert "wandb: ConnectionError: gone; the training goes on without" in record.getMessage()


def test_a_run_that_cannot_be_started(monkeypatch, tmp_path):
    with pytest.raises(InputError, match=r"^TRAIN\.WRITERS: mlflow cannot start a run \(Connect"):
        open_one(monkeypatch, "mlflow", tmp_path, package=Calls([], broken=True))


def test_a_package_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"^TRAIN\.WRITERS: wandb cannot be imported \(.*pip ins"):
        import_writer("wandb")
