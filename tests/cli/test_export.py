"""The command `python -m tfdetect.export`, and what it leaves on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.support.servables import IMAGES, exported, model_dir
from tfdetect.cli import export as export_command
from tfdetect.errors import InputError
from tfdetect.export import saved_model as exporting

COMMAND = [sys.executable, "-m", "tfdetect.export"]
WEIGHTS = "variables/variables.data-00000-of-00001"


@pytest.mark.full
def test_what_is_written(capsys, tmp_path):
    """bfloat16, into a folder with a version 1: it becomes 2, and is half the size."""
    (tmp_path / "1").mkdir()
    (tmp_path / ".unfinished-left").mkdir()  # by an export that was killed
    export_command.main(
        ["--model", str(model_dir()), "--output", str(tmp_path), "--dtype", "bfloat16"]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
    report = capsys.readouterr().out
    size = sum(path.stat().st_size for path in (tmp_path / "2").rglob("*") if path.is_file())
    assert f"{tmp_path}/2: {size / 1e6:.1f} MB" in report
    assert "signatures: serving_default, image_tensor, full_masks, od_api" in report
    assert "load_op_library" not in report

    model = tf.saved_model.load(str(tmp_path / "2"))
    contents = tf.constant([IMAGES[0].read_bytes()])
    found = model.signatures["serving_default"](image_bytes=contents)
    assert found["pred_boxes"].dtype == found["scores"].dtype == tf.float32
    assert np.isfinite(found["pred_boxes"]).all()
    assert (found["scores"][0] > 0.5).numpy().any()
    types = [variable.dtype for variable in model.signatures["serving_default"].variables]
    assert types.count(tf.bfloat16) > 50
    folders = (tmp_path / "2", exported("portable").path)
    half, whole = ((path / WEIGHTS).stat().st_size for path in folders)
    assert half < 0.55 * whole


def test_the_contents():
    """Names as assets, no norm left to apply, and nothing that trains."""
    path = exported("portable").path
    assert path.name == "1"
    assert [file.name for file in path.parent.iterdir()] == ["1"]
    names = (path / "assets" / "class_names.txt").read_text().splitlines()
    assert names == ["person", "circle", "square", "triangle"]
    assert len((path / "assets" / "keypoint_names.txt").read_text().splitlines()) == 17
    assert not (path / "assets" / exporting.OP_LIBRARY).exists()
    model = tf.saved_model.load(str(path))
    for signature in model.signatures.values():
        assert signature.variables
        assert not signature.trainable_variables
    stored = dict(tf.train.list_variables(str(path / "variables" / "variables")))
    assert not any("running_var" in name for name in stored)
    operations = {
        node.op
        for function in model.signatures["full_masks"].graph.as_graph_def().library.function
        for node in function.node_def
    }
    assert "Conv2D" in operations
    assert not any(name.startswith("Tfdetect") for name in operations)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "nowhere", "--output", "OUT"], "nowhere: is not a model directory"),
        (["--model", "MODEL", "--output", "FILE"], "is a file"),
        (["--model", "MODEL", "--output", "FILE/below"], "is a file"),
    ],
)
def test_bad_arguments(arguments, reason, tmp_path):
    (tmp_path / "file").write_text("")
    places = {"OUT": tmp_path / "out", "FILE": tmp_path / "file", "MODEL": model_dir()}
    for name, path in places.items():
        arguments = [argument.replace(name, str(path)) for argument in arguments]
    with pytest.raises(InputError, match=reason):
        export_command.main(arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("option", "value"), [("--max-batch", "0"), ("--ops", "cuda"), ("--dtype", "int8")]
)
def test_bad_options(option, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        export_command.main(["--model", "m", "--output", "o", option, value])
    assert option in capsys.readouterr().err


def test_a_failed_export_leaves_nothing(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(InputError, match="No space left on device"):
        exporting.export_savedmodel(model_dir(), tmp_path / "made" / "here")
    assert not list(tmp_path.iterdir())


def test_a_killed_export_leaves_nothing(tmp_path):
    output = tmp_path / "servable"
    command = [*COMMAND, "--model", str(model_dir()), "--output", str(output)]
    process = subprocess.Popen(command, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    try:
        while not list(output.glob(".unfinished-*")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert not list(tmp_path.iterdir())
