"""`fed_loss_cls_weights`, the buffer of Detectron2's checkpoints with USE_FED_LOSS."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from tests.support.paths import DEMO
from tests.support.small_training import C4, C4_OPTIONS, CASCADE, CLASSES, MASK_RCNN, configuration
from tfdetect.checkpoint.assign import assign_state_dict
from tfdetect.checkpoint.names import named_variables
from tfdetect.data.registry import register_coco_dataset
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model
from tfdetect.training.run import class_image_counts, set_federated_weights
from tfdetect.training.weights import load_initial_weights

BUFFER = "fed_loss_cls_weights"
FEDERATED = {"MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True, "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": True}
KEYS = {
    MASK_RCNN: [f"roi_heads.box_predictor.{BUFFER}"],
    C4: [f"roi_heads.box_predictor.{BUFFER}"],
    CASCADE: [f"roi_heads.box_predictor.{stage}.{BUFFER}" for stage in range(3)],
}
SAVED = np.arange(1, CLASSES + 1, dtype=np.float32)


def federated(name, **more):
    register_coco_dataset("federated", DEMO / "annotations.json", DEMO / "images")
    options = {**FEDERATED, **(C4_OPTIONS if name == C4 else {}), **more}
    return configuration(name, {**options, "DATASETS.TRAIN": ("federated",)})


def buffers(model):
    return {n.name: n.variable.numpy() for n in named_variables(model) if n.name.endswith(BUFFER)}


def state_dict(cfg, weights=None):
    """Weights of zeros, but the buffer's."""
    arrays = {
        n.name: np.zeros(n.foreign_shape, np.float32) for n in named_variables(build_model(cfg))
    }
    for key in [key for key in arrays if key.endswith(BUFFER)]:
        if weights is None:
            del arrays[key]
        else:
            arrays[key] = weights
    return arrays


@pytest.mark.parametrize("name", KEYS)
def test_a_checkpoint_is_converted(name):
    cfg = federated(name)
    model = build_model(cfg)
    assign_state_dict(model, state_dict(cfg, SAVED), source="test")
    found = buffers(model)
    assert sorted(found) == KEYS[name]
    for weights in found.values():
        np.testing.assert_array_equal(weights, SAVED)


def test_a_checkpoint_without_it_is_converted():
    cfg = federated(MASK_RCNN)
    model = build_model(cfg)
    assign_state_dict(model, state_dict(cfg), source="test")
    (weights,) = buffers(model).values()
    np.testing.assert_array_equal(weights, np.zeros(CLASSES))


def test_it_is_left_over_where_nothing_needs_it():
    arrays = state_dict(federated(MASK_RCNN), SAVED)
    cfg = federated(MASK_RCNN, **{"MODEL.ROI_BOX_HEAD.USE_FED_LOSS": False})
    model = build_model(cfg)
    assert not buffers(model)
    assign_state_dict(model, arrays, source="test")


def test_another_number_of_classes_is_refused():
    cfg = federated(MASK_RCNN)
    with pytest.raises(InputError, match=f"shape of .*{BUFFER} is"):
        assign_state_dict(build_model(cfg), state_dict(cfg, SAVED[1:]), source="test")


@pytest.mark.parametrize(
    ("saved", "kept"),
    [(SAVED, True), (None, False), (np.zeros(CLASSES, np.float32), False), (SAVED[1:], False)],
    ids=["saved", "without", "not known", "other classes"],
)
def test_training_takes_it_from_the_checkpoint_or_else_from_the_data(tmp_path, saved, kept):
    """As Detectron2, which computes it first and then reads the checkpoint."""
    path = tmp_path / "weights.pkl"
    cfg = federated(CASCADE, **{"MODEL.WEIGHTS": str(path)})
    path.write_bytes(pickle.dumps({"model": state_dict(cfg, saved), "__author__": "these tests"}))
    model = build_model(cfg)
    set_federated_weights(cfg, model)
    load_initial_weights(cfg, model, 0)
    counts = class_image_counts(cfg)
    assert counts.any()
    for weights in buffers(model).values():
        np.testing.assert_array_equal(weights, SAVED if kept else np.sqrt(counts))


def test_it_is_not_trained():
    model = build_model(federated(MASK_RCNN))
    assert not model.roi_heads.box_predictor.fed_loss_cls_weights.trainable
