"""RetinaNet and FCOS through train.py: steps, evaluation on the way, and a resume to the bit."""

from __future__ import annotations

import json
import shutil

import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

import tfdetect.cli.train
from tests.support.paths import ROOT
from tests.support.train_runs import command, lines, losses, words
from tfdetect.data.shapes import write_shapes

SMALL = {
    "DATASETS.TEST": "('train',)",
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 32,
    "MODEL.WEIGHTS": "''",
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "SOLVER.MAX_ITER": 4,
    "TEST.EVAL_PERIOD": 2,
}
MODELS = {
    "fcos": ({"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"}, {}),
    # Statistics of each level; and those that are set in the end, which must not count as steps.
    "retinanet": (
        {"loss_cls", "loss_box_reg"},
        {
            "MODEL.RETINANET.NORM": "SyncBN",
            "TEST.PRECISE_BN.ENABLED": True,
            "TEST.PRECISE_BN.NUM_ITER": 2,
        },
    ),
}


@pytest.fixture
def op_determinism_ends():
    """train.py turns it on for its process, which here is that of other tests too."""
    yield
    disable_op_determinism()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One for all: a process registers a name once."""
    folder = tmp_path_factory.mktemp("data")
    write_shapes(folder, 6, 3)
    return folder


@pytest.mark.full
@pytest.mark.parametrize("name", MODELS)
def test_training(name, data, tmp_path, op_determinism_ends):
    names, more = MODELS[name]
    section = f"MODEL.{name.upper()}"
    options = {**SMALL, **more, f"{section}.NUM_CLASSES": 4, f"{section}.NUM_CONVS": 1}
    config = ["--config-file", str(ROOT / "configs/COCO-Detection" / f"{name}_R_50_FPN_1x.yaml")]

    def train(folder, *arguments):
        words_ = command(folder, data, *arguments, opts=words(options))
        assert tfdetect.cli.train.main([*config, *words_]) == 0

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole)
    assert all(found.keys() == names | {"total_loss"} for found in losses(whole))
    assert len(losses(whole)) == 4
    evaluations = [line for line in lines(whole) if "bbox/AP" in line]
    assert [line["iteration"] for line in evaluations] == [1, 3]
    # The normaliser is the training's: what predicts has none.
    assert "loss_normalizer" in variables(whole / "model_final" / "training")
    assert "loss_normalizer" not in variables(whole / "model_final" / "model")

    cut.mkdir()
    for entry in ("model_0000001", "metrics.json"):
        copy = shutil.copytree if (whole / entry).is_dir() else shutil.copy
        copy(whole / entry, cut / entry)
    assert json.loads((cut / "model_0000001" / "training.json").read_text())["iteration"] == 2
    train(cut, "--resume")
    assert losses(cut) == losses(whole)
    for kind in ("model", "training"):
        file = f"model_final/{kind}.data-00000-of-00001"
        assert (cut / file).read_bytes() == (whole / file).read_bytes()


def variables(prefix):
    return " ".join(name for name, _ in tf.train.list_variables(str(prefix)))
