"""The same three steps taken by train.py: a YAML, two images and a checkpoint, nothing else."""

from __future__ import annotations

import json
import pickle

import pytest
from tensorflow.python.framework.config import disable_op_determinism

import tfdetect.cli.train
from benchmarks.seeded_weights import state_dict
from tests.support.paths import DEMO
from tests.support.training_variants import (
    arrays_of,
    assert_buffers,
    assert_losses,
    assert_parameters,
    record,
    write_config,
)
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.modeling.build import build_model


@pytest.fixture
def op_determinism_ends():
    """train.py turns it on for its process, which here is that of other tests too."""
    yield
    disable_op_determinism()


def two_images(folder, names):
    """The demo's annotations of these images alone, as a file."""
    content = json.loads((DEMO / "annotations.json").read_text())
    content["images"] = [image for image in content["images"] if image["file_name"] in names]
    numbers = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in numbers]
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


# Dilation, groups, statistics of batches and of levels; clipping, and each kind of weight decay.
@pytest.mark.parametrize(
    "name",
    [
        "faster_dc5",
        pytest.param("retinanet_bn", marks=pytest.mark.full),
        pytest.param("regnety", marks=pytest.mark.full),
        pytest.param("trained_bn", marks=pytest.mark.full),
        pytest.param("clip_norm", marks=pytest.mark.full),
        pytest.param("weight_decay", marks=pytest.mark.full),
    ],
)
def test_train(name, tmp_path, op_determinism_ends):
    recorded = record(name)
    path, options = write_config(name, tmp_path)
    shapes = named_variables(build_model(load_config(path, options)))
    initial = state_dict({named.name: named.foreign_shape for named in shapes})
    weights = tmp_path / "weights.pkl"
    weights.write_bytes(pickle.dumps({"model": initial, "__author__": "these tests"}))
    annotations, dataset = two_images(tmp_path, recorded["image_files"]), f"two_images_{name}"
    opts = {
        "DATALOADER.NUM_WORKERS": 0,
        "DATASETS.TEST": (),
        "DATASETS.TRAIN": (dataset,),
        "MODEL.WEIGHTS": weights,
        "OUTPUT_DIR": tmp_path / "run",
        "SEED": 1,  # of the order of the two images, and so of the rounding of sums over them
        "SOLVER.LOG_PERIOD": 1,
    }
    command = ["--config-file", path, "--register", dataset, annotations, DEMO / "images"]
    command += options + [word for pair in opts.items() for word in pair]
    assert tfdetect.cli.train.main([str(word) for word in command]) == 0
    lines = (tmp_path / "run" / "metrics.json").read_text().splitlines()
    losses = [
        {key: value for key, value in json.loads(line).items() if key.startswith("loss_")}
        for line in lines
    ]
    assert_losses(losses, recorded)
    _, model, _ = load_model(tmp_path / "run" / "model_final")
    assert_parameters(name, arrays_of(model), initial, recorded)
    assert_buffers(arrays_of(model), recorded)
