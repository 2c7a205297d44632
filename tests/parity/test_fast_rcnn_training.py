"""Training with precomputed proposals: Fast R-CNN."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model
from tests.support.paths import DEMO
from tests.support.recorded_steps import batch_of, load_recorded_config
from tests.support.train_runs import SMALL, losses, train, words
from tests.support.training_variants import record, write_config
from tfdetect.layers.norm import batch_statistics

GIVEN = {"MODEL.PROPOSAL_GENERATOR.NAME": "PrecomputedProposals", "MODEL.LOAD_PROPOSALS": True}


def test_losses_are_those_recorded_of_the_joint_model(tmp_path):
    """Given what its RPN proposes, all of it taken: within 5e-5, as for the joint model."""
    recorded = record("faster_fpn")
    path, options = write_config("faster_fpn", tmp_path)
    cfg = load_recorded_config(path, recorded, options)
    joint = seeded_model(cfg)
    images, sizes, targets = batch_of(cfg, joint, recorded["image_files"])
    with batch_statistics():
        features = joint.backbone(images)
        seeds = tf.constant([[0, 0], [0, 1]])
        proposals, _ = joint.proposal_generator.losses(features, sizes, targets, seeds)
    given = load_recorded_config(path, recorded, [*options, *words(GIVEN)])
    fast = seeded_model(given)
    assert not any("rpn" in variable.name for variable in fast.variables)
    found = fast.losses(images, sizes, targets, tf.constant([0, 0]), proposals)
    expected = recorded["losses"][0]
    assert found.keys() == {"loss_cls", "loss_box_reg"}
    for name, loss in found.items():
        assert abs(float(loss) / expected[name] - 1) < 5e-5, name


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Of a small training, on proposals that are the objects' boxes moved by some pixels."""
    content = json.loads((DEMO / "annotations.json").read_text())
    random = np.random.default_rng(0)
    objects = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        objects[annotation["image_id"]].append([x, y, x + width, y + height])
    boxes = [
        np.tile(np.reshape(found, (-1, 4)), (5, 1)) + random.normal(0, 4, (5 * len(found), 4))
        for found in objects.values()
    ]
    proposals = {
        "ids": list(objects),
        "boxes": [found.astype(np.float32) for found in boxes],
        "objectness_logits": [random.normal(size=len(found)).astype(np.float32) for found in boxes],
    }
    file = tmp_path_factory.mktemp("proposals") / "proposals.pkl"
    file.write_bytes(pickle.dumps(proposals))
    return {
        **SMALL,
        **GIVEN,
        "MODEL.MASK_ON": False,
        "MODEL.KEYPOINT_ON": False,
        "DATASETS.TEST": "('train',)",
        "DATASETS.PROPOSAL_FILES_TEST": f"('{file}',)",
        "DATASETS.PROPOSAL_FILES_TRAIN": f"('{file}',)",
        "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 20,
        "INPUT.AUGMENTATIONS": [
            ["RandomRotation", {"angle": [-20, 20]}],
            ["RandomBrightness", {"intensity_min": 0.5, "intensity_max": 1.5}],
            ["MinIoURandomCrop", {}],
            ["Resize", {"shape": 64}],
            "RandomFlip",
        ],
        "SOLVER.MAX_ITER": 2,
    }


@pytest.mark.full
def test_by_the_command(tmp_path, keys):
    """Two steps, with pictures, and an evaluation."""
    train(tmp_path / "run", DEMO, opts=words(keys | {"VIS_PERIOD": 1}))
    found = losses(tmp_path / "run")
    assert [set(step) for step in found] == [{"loss_cls", "loss_box_reg", "total_loss"}] * 2
    assert all(np.isfinite(list(step.values())).all() for step in found)
    results = json.loads((tmp_path / "run" / "inference" / "train" / "metrics.json").read_text())
    assert "bbox" in json.dumps(results)
    config = (tmp_path / "run" / "model_final" / "config.yaml").read_text()
    assert "- RandomRotation\n" in config


@pytest.mark.full
def test_resume(tmp_path, keys):
    """In two parts, the losses are those of one run."""
    keys = keys | {"DATASETS.TEST": "()", "DATASETS.PROPOSAL_FILES_TEST": "()"}
    train(tmp_path / "run", DEMO, opts=words(keys))
    train(tmp_path / "parts", DEMO, opts=words(keys | {"SOLVER.MAX_ITER": 1}))
    train(tmp_path / "parts", DEMO, "--resume", opts=words(keys))
    assert losses(tmp_path / "parts") == losses(tmp_path / "run")
