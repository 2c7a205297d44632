"""Clients that know nothing of this project: all find what predict.py finds, to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.tools import saved_model_utils

from tests.support.native import require_native
from tests.support.paths import ROOT
from tests.support.servables import IMAGES, assert_predicted, exported, predicted

CLIENTS = ROOT / "tests" / "support"
CLI = ("-m", "tensorflow.python.tools.saved_model_cli")


def run(*command, folder):
    """A process of its own, in a folder that is not this project's."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.full
def test_saved_model_cli(tmp_path):
    """`show` lists signatures, types and shapes; `run` takes its inputs from files."""
    servable = str(exported("portable").path)
    shown = run(*CLI, "show", "--dir", servable, "--all", folder=tmp_path)
    for name in ("serving_default", "image_tensor", "full_masks", "od_api"):
        assert f"signature_def['{name}']" in shown
    for tensor, dtype, shape in (
        ("inputs['image_bytes']", "DT_STRING", "(-1)"),
        ("inputs['images']", "DT_UINT8", "(-1, -1, -1, 3)"),
        ("outputs['pred_boxes']", "DT_FLOAT", "(-1, 100, 4)"),
        ("outputs['image_sizes']", "DT_INT32", "(-1, 2)"),
    ):
        details = [part.split("name:")[0] for part in shown.split(f"{tensor} tensor_info:")[1:]]
        assert any(f"dtype: {dtype}" in part and f"shape: {shape}\n" in part for part in details)

    np.save(tmp_path / "in.npy", np.array([path.read_bytes() for path in IMAGES[:1]]))
    arguments = ["--tag_set", "serve", "--signature_def", "serving_default"]
    arguments += ["--inputs", f"image_bytes={tmp_path}/in.npy", "--outdir", str(tmp_path / "out")]
    run(*CLI, "run", "--dir", servable, *arguments, folder=tmp_path)
    found = {path.stem: np.load(path) for path in (tmp_path / "out").glob("*.npy")}
    assert_predicted(found, 0, predicted(IMAGES[:1], "portable")[0])


@pytest.mark.full
def test_tensorflow_alone(tmp_path):
    """A process that imports nothing of this project."""
    arguments = [str(exported("portable").path), "full_masks", "found.npz", *map(str, IMAGES)]
    run(str(CLIENTS / "tensorflow_client.py"), *arguments, folder=tmp_path)
    with np.load(tmp_path / "found.npz") as found:
        for index, record in enumerate(predicted(IMAGES, "portable")):
            assert_predicted(dict(found), index, record)


@pytest.mark.full
def test_c_api(tmp_path):
    """libtensorflow's own entry points, without Python's TensorFlow.

    A damaged image fails its run, and the next one works. A native SavedModel fails to load, naming
    an operator, until its library has been loaded.
    """
    require_native()
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(IMAGES[0].read_bytes()[:3000])
    batches = [[str(IMAGES[0]), str(damaged)], list(map(str, IMAGES))]
    native = _step("native", batches[1:])
    steps = [
        _step("portable", batches),
        native,
        {"op_library": str(exported("native").library)},
        native,
    ]
    folder = Path(tf.__file__).parent
    names = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")
    libraries = [str(folder / name) for name in names]
    result = tmp_path / "found"
    request = {"libraries": libraries, "steps": steps, "result": str(result)}
    (tmp_path / "request.json").write_text(json.dumps(request))
    run(str(CLIENTS / "c_api_client.py"), "request.json", folder=tmp_path)

    said = Path(f"{result}_0_0.txt").read_text()
    assert said.startswith(f"{tf.errors.INVALID_ARGUMENT}: ")
    assert "image_bytes[1] is damaged or truncated" in said
    assert "Op type not registered 'Tfdetect" in Path(f"{result}_1.txt").read_text()
    for ops, place in (("portable", "0_1"), ("native", "3_0")):
        with np.load(f"{result}_{place}.npz") as found:
            for index, record in enumerate(predicted(IMAGES, ops)):
                assert_predicted(dict(found), index, record)


def _step(ops, batches):
    path = str(exported(ops).path)
    signature = saved_model_utils.get_meta_graph_def(path, "serve").signature_def["serving_default"]
    return {
        "saved_model": path,
        "input": signature.inputs["image_bytes"].name,
        "outputs": {name: output.name for name, output in signature.outputs.items()},
        "images": batches,
    }
