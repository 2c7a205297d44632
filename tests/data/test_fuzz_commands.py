"""The commands, whole, on a few of the damaged COCO files: a status, at most one line of error."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.support.coco_mutations import mutate, small_file
from tests.support.paths import DEMO, ROOT

pytestmark = pytest.mark.full

TRAINING = {
    "DATASETS.TRAIN": "('mine',)",
    "DATASETS.TEST": "('mine',)",
    "DATALOADER.NUM_WORKERS": "0",
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "MODEL.DEVICE": "cpu",
    "OUTPUT_DIR": "out",
    "SOLVER.IMS_PER_BATCH": "2",
    "SOLVER.MAX_ITER": "1",
    "SOLVER.STEPS": "()",
    "SOLVER.WARMUP_ITERS": "1",
    "VIS_PERIOD": "0",
}


@pytest.fixture
def run(tmp_path, request):
    """Run a script in a folder with the damaged file of this test's seed, and check how it ends."""
    root = small_file()
    (tmp_path / "images").mkdir()
    for image in root["images"]:
        shutil.copy(DEMO / "images" / image["file_name"], tmp_path / "images")
    seed = request.node.callspec.params["seed"]
    (tmp_path / "annotations.json").write_bytes(mutate(root, seed))

    def run(script, *arguments):
        command = [sys.executable, str(ROOT / script), *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        said = done.stdout + done.stderr
        assert done.returncode in (0, 1, 2), said
        assert "Traceback" not in said, said
        errors = re.findall(r"^error: .*", done.stderr, re.MULTILINE)
        assert len(errors) == (done.returncode != 0), said
        return done.returncode

    return run


@pytest.mark.parametrize("seed", range(1000, 1024))
def test_predict(run, model_dir, tmp_path, seed):
    arguments = ["--evaluate", "annotations.json", "--images", "images", "--output", "out"]
    status = run("predict.py", "--model", model_dir, *arguments)
    if status != 2:
        assert json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
        assert (tmp_path / "out" / "metrics.json").is_file()


@pytest.mark.parametrize("seed", range(2000, 2012))
def test_train(run, tmp_path, seed):
    options = [word for pair in TRAINING.items() for word in pair]
    on_error = ("stop", "skip")[seed % 2]
    status = run(
        *("train.py", "--config-file", DEMO / "train.yaml"),
        *("--register", "mine", "annotations.json", "images"),
        *(*options, "DATALOADER.ON_ERROR", on_error),
    )
    assert (tmp_path / "out" / "model_final").is_dir() == (status != 2)
