"""examples/: a user's file, from a training step to a prediction."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np

import tfdetect.cli.predict
from tests.support.commands import fails
from tests.support.paths import DEMO, ROOT
from tests.support.train_runs import SMALL, lines, train, words
from tfdetect.config import load_config
from tfdetect.data.training.augmentation import build_augmentation, draw_transforms

EXAMPLE = ROOT / "examples" / "custom_model.py"
OPTIONS = {
    **SMALL,
    "MODEL.BACKBONE.NAME": "build_plain_fpn_backbone",
    "MODEL.PLAIN_NET.WIDTH": 32,
    "MODEL.ROI_MASK_HEAD.NAME": "OneConvMaskHead",
    "SOLVER.MAX_ITER": 1,
    "TRAIN.HOOKS": "['WeightNorm']",
}


def test_custom_model(tmp_path, capfd):
    """Its keys, backbone, mask head and hook; without the file the model is rejected by its key."""
    folder = tmp_path / "trained"
    train(folder, DEMO, "--import", str(EXAMPLE), opts=words(OPTIONS))
    assert any(line.get("weight_norm", 0) > 0 for line in lines(folder))
    arguments = ["--model", str(folder / "model_final"), "--device", "cpu"]
    arguments += ["--input", str(DEMO / "images" / "000001.jpg")]
    arguments += ["--json", str(folder / "found.json")]
    command = [sys.executable, "predict.py", *arguments, "--import", str(EXAMPLE)]
    command += ["--opts", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((folder / "found.json").read_text())
    assert len(record["pred_masks"]) == len(record["scores"]) > 0
    # This process has not imported the file.
    line = fails(capfd, tfdetect.cli.predict.main, *arguments)
    assert "config.yaml: unknown key MODEL.PLAIN_NET" in line


def test_augmentation():
    """It is built, and draws another size for every image."""
    augmentors = build_augmentation(load_config(ROOT / "examples" / "augmentation.yaml"))
    random = np.random.RandomState(0)
    drawn = [draw_transforms(augmentors, (480, 640), random, np.zeros((0, 4))) for _ in range(20)]
    assert all(len(transforms) == len(augmentors) == 8 for transforms in drawn)
    assert len({transforms[-1].output_size for transforms in drawn}) > 10
