"""Semantic and panoptic models by train.py: evaluated on the way, resumed, loaded again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tensorflow.python.framework.config import disable_op_determinism

import tfdetect
import tfdetect.cli.train
from tests.support.small_training import NARROW
from tests.support.toy_segmentation import STUFF, write_toy
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.checkpoint.names import named_variables
from tfdetect.data.images import read_image

SEMANTIC = "Misc/semantic_R_50_FPN_1x"
OPTIONS = NARROW | {
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TRAIN": (48, 64),
    "INPUT.MIN_SIZE_TEST": 48,
    "MODEL.ROI_HEADS.NUM_CLASSES": 2,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
    "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": 20,
    "MODEL.WEIGHTS": "",
    "SEED": 1,
    "SOLVER.BASE_LR": 0.005,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.LOG_PERIOD": 1,
    "SOLVER.STEPS": (),
    "SOLVER.WARMUP_ITERS": 0,
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(autouse=True)
def op_determinism_ends():
    yield
    disable_op_determinism()


def train(config, register, folder, iterations, *arguments, **keys):
    name = register[1]
    opts = OPTIONS | {key.replace("__", "."): value for key, value in keys.items()}
    opts |= {"DATASETS.TRAIN": (name,), "DATASETS.TEST": (name,), "OUTPUT_DIR": folder}
    opts["SOLVER.MAX_ITER"] = iterations
    command = ["--config-file", config, *register, *arguments]
    command += [word if word != "" else "''" for pair in opts.items() for word in pair]
    assert tfdetect.cli.train.main([str(word) for word in command]) == 0
    _, model, metadata = load_model(folder / "model_final")
    return {n.name: n.variable.numpy() for n in named_variables(model)}, metadata


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.mark.full
def test_semantic(toy, tmp_path):
    config, register = SEMANTIC, ["--register", "toy", toy.masks, toy.images]
    _, metadata = train(config, register, tmp_path, 2, TEST__EVAL_PERIOD=1)
    assert metadata["class_names"] == []
    assert metadata["stuff_class_names"] == STUFF
    measured = [line for line in metrics(tmp_path) if "sem_seg/mIoU" in line]
    assert len(measured) == 2
    assert all(0 <= line["sem_seg/mIoU"] <= 100 for line in measured)
    written = tmp_path / "inference" / "toy" / "sem_seg_predictions.json"
    assert json.loads(written.read_text())


@pytest.mark.full
def test_resumed(toy, tmp_path):
    """In two goes: the same, bit for bit."""
    register = ["--register", "toy", toy.masks, toy.images]
    whole, _ = train(SEMANTIC, register, tmp_path / "whole", 4)
    train(SEMANTIC, register, tmp_path / "part", 2)
    resumed, _ = train(SEMANTIC, register, tmp_path / "part", 4, "--resume")
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


@pytest.mark.full
@pytest.mark.parametrize("form", ["separated", "panoptic"])
def test_panoptic(toy, tmp_path, form):
    config = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x"
    register = ["--register", "toy_panoptic", toy.panoptic, toy.images]
    if form == "separated":
        register = ["--register-separated", "toy_separated", toy.instances, toy.panoptic]
        register += [toy.masks, toy.images]
    keys = {"INPUT__MASK_FORMAT": "polygon" if form == "separated" else "bitmask"}
    keys["VIS_PERIOD"] = 2
    _, metadata = train(config, register, tmp_path / "run", 2, TEST__EVAL_PERIOD=1, **keys)
    assert metadata["class_names"] == ["cat", "dog"]
    assert metadata["stuff_class_names"] == STUFF
    last = [line for line in metrics(tmp_path / "run") if "panoptic_seg/PQ" in line][-1]
    assert ("segm/AP" in last) == (form == "separated")
    assert 0 <= last["sem_seg/mIoU"] <= 100
    found = tfdetect.Predictor(tmp_path / "run" / "model_final")(read_image(toy.images / "001.jpg"))
    assert found.panoptic.ids.shape == toy.labels["001"].shape
