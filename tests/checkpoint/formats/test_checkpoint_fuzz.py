"""Five hundred damaged checkpoints through `--inspect`, the conversion and MODEL.WEIGHTS: each
ends within its time, with status 0, 1 or 2 and at most one line of error, never a traceback."""

from __future__ import annotations

import random
import re
import resource
import time

import numpy as np
import pytest

import tfdetect.modeling.build
import tfdetect.training.weights
from convert_d2.command import main
from convert_d2.inspection import fitting_configs
from tests.support.checkpoint_mutations import bases, mutate
from tests.support.paths import DATA, DEMO
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.cli.command import run_command
from tfdetect.config import load_config
from tfdetect.modeling.build import build_model
from tfdetect.training.weights import load_initial_weights

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")  # by zipfile, in `mutate`

SMALL = {
    "backbone.bottom_up.stem.conv1.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "backbone.bottom_up.stem.conv1.norm.num_batches_tracked": np.array(7, np.int64),
    "proposal_generator.rpn_head.conv.bias": np.arange(3, dtype=np.float32),
    "roi_heads.box_predictor.cls_score.weight": np.ones((5, 2), np.float32),
}
CONFIG = DEMO / "joint_rcnn" / "config.yaml"
KINDS = ("pkl", "python2", "zip", "top", "legacy", "npz", "compressed", "safetensors")
PER_KIND = 61
WHOLE = 12  # of the demo's model, which is converted where the damage leaves the weights whole
SECONDS = 10  # for one file; it takes some hundredths
MEMORY = 512 << 10  # kilobytes more, for all files together


def status_of(command, capsys) -> int:
    """Run a command as the shell does; check what it prints and how long it takes."""
    start = time.monotonic()
    with pytest.raises(SystemExit) as exit:
        run_command(command)
    seconds = time.monotonic() - start
    errors = capsys.readouterr().err.splitlines()
    assert seconds < SECONDS
    assert exit.value.code in (0, 1, 2)
    assert not any("Traceback" in line for line in errors)
    if exit.value.code:
        assert len(errors) == 1, errors
        assert len(errors[0]) < 1000
        assert errors[0].startswith("error: ")
    else:
        assert all(line.startswith("note: ") for line in errors)
    return exit.value.code


@pytest.fixture(scope="module", autouse=True)
def memory_stays(model):
    fitting_configs({"MODEL.RESNETS.DEPTH": 50})  # read once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


@pytest.fixture(scope="module")
def model():
    return build_model(load_config(CONFIG))


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return bases(tmp_path_factory.mktemp("bases"), SMALL)


@pytest.mark.parametrize("kind", KINDS)
def test_originals_are_read(tmp_path, originals, kind):
    """So that what follows damages something that is whole."""
    path = tmp_path / "model.pth"
    path.write_bytes(originals[kind])
    read = read_checkpoint(path).arrays
    assert {re.sub("/", ".", name) for name in read} == set(SMALL)
    for name, array in read.items():
        np.testing.assert_array_equal(array, SMALL[name.replace("/", ".")])


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_checkpoints(tmp_path, originals, kind, capsys, model, monkeypatch):
    path = tmp_path / "model.pth"
    arguments = ["--weights", str(path), "--output", str(tmp_path / "m")]
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", str(path)])
    # The initial values take a second, and do not depend on the file.
    monkeypatch.setattr(tfdetect.training.weights, "initialize", lambda *_: None)
    statuses = set()
    for seed in range(PER_KIND):
        path.write_bytes(mutate(kind, originals[kind], random.Random(f"{kind} {seed}")))
        statuses.add(status_of(lambda: main(["--inspect", str(path)]), capsys))
        statuses.add(status_of(lambda: main(arguments), capsys))
        # MODEL.WEIGHTS of train.py; whatever is whole fits no layer of the demo's model.
        training = status_of(lambda: load_initial_weights(cfg, model, 1), capsys)
        assert training == 2
    # Some damage is in unused data, of which a header of safetensors has little.
    assert statuses == {0, 2} or (kind == "safetensors" and statuses == {2})
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", ["pkl", "zip"])
def test_damaged_models(tmp_path, kind, capsys, model, monkeypatch):
    """Whole models: a damaged one is converted, or nothing is written."""
    monkeypatch.setattr(tfdetect.modeling.build, "build_model", lambda cfg: model)
    source = {
        "pkl": DEMO / "joint_rcnn" / "model_final.pkl",
        "zip": DATA / "tiny" / "joint_rcnn.pth",
    }[kind]
    data, path, output = source.read_bytes(), tmp_path / "model.pth", tmp_path / "m"
    rest = ["--config-file", str(CONFIG), "--output", str(output)]
    statuses = set()
    for seed in range(WHOLE // 2):
        path.write_bytes(mutate("whole", data, random.Random(f"{kind} {seed}")))
        inspected = status_of(lambda: main(["--inspect", str(path)]), capsys)
        converted = status_of(lambda: main([*rest, "--weights", str(path)]), capsys)
        assert converted >= inspected
        statuses.add(converted)
        assert output.exists() == (converted == 0)
        for file in output.glob("*"):
            file.unlink()
        if output.exists():
            output.rmdir()
    assert statuses == {0, 2} or (kind == "zip" and statuses == {2})  # which has checksums
