"""A narrow model of rotated boxes (RRPN and RROIHeads) against Detectron2's record.

Tolerances are ten times the record's own noise floor: Detectron2 with weights that differ by a
relative 1e-6.
"""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.support.recorded_steps import relative_differences
from tests.support.rotated import FOLDER, nearest, record
from tests.support.rotated_model import images_of, narrow_model, run, take_recorded_steps
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.inference.pipeline import Pipeline
from tfdetect.modeling.build import build_model
from tfdetect.ops.backend import Backend

IMAGES = ["000000.jpg", "000001.jpg", "000002.jpg"]


def nchw(x):
    return np.transpose(x, [0, 3, 1, 2])


@pytest.mark.parametrize("name", ["narrow", pytest.param("full_size", marks=pytest.mark.full)])
def test_names_and_shapes(name):
    with gzip.open(FOLDER / "state_dicts.json.gz", "rt") as file:
        expected = json.load(file)[name]
    model = build_model(load_config(FOLDER / f"{name}.yaml"))
    assert {n.name: list(n.foreign_shape) for n in named_variables(model)} == {
        key: shape for key, shape in expected.items() if not key.endswith("num_batches_tracked")
    }


@pytest.fixture(scope="module")
def narrow():
    """The configuration, the model, its record, and what it gives for the recorded images."""
    cfg, model = narrow_model()
    with Backend.for_device().active():
        return cfg, model, record("narrow_stages"), run(cfg, model, *images_of(IMAGES[:2]))


def test_features_and_rpn(narrow):
    """Recorded with the whole batch's padding for every image; every few rows and channels."""
    _, _, data, (_, found, _, resized) = narrow
    np.testing.assert_array_equal(resized, data["image_sizes"])
    for level in range(5):
        for name, channels, step, atol in (
            (f"feat_p{level + 2}", 16, 2, 2.5e-4),
            (f"rpn_logits_{level}", 1, 4, 6e-4),
            (f"rpn_deltas_{level}", 6, 4, 1e-4),
        ):
            values = nchw(found[name.removeprefix("feat_")])[:, ::channels, ::step, ::step]
            np.testing.assert_allclose(values, data[name], rtol=0, atol=atol, err_msg=name)


def test_proposals(narrow):
    """Neighbours of nearly equal scores swap: by nearest, 0.02 pixels or degrees."""
    _, _, data, (_, found, _, _) = narrow
    for image in range(2):
        expected = data[f"proposals_{image}"]
        differences = nearest(found["proposals"][image].numpy(), expected).min(1)
        assert (differences < 0.02).mean() >= 0.99
        logits = np.sort(found["proposal_logits"][image])
        np.testing.assert_allclose(
            logits, np.sort(data[f"proposal_logits_{image}"]), rtol=0, atol=6e-4
        )


def test_heads_on_given_boxes(narrow):
    _, model, data, (_, found, _, _) = narrow
    features = [found[f"p{level}"] for level in range(2, 6)]
    heads, boxes = model.roi_heads, tf.constant(data["given_boxes"])
    owners = tf.repeat(tf.range(2), boxes.shape[1])
    pooled = heads.box_pooler(features, tf.reshape(boxes, [-1, 5]), owners)
    logits, deltas = heads.box_predictor(heads.box_head(pooled))
    np.testing.assert_allclose(nchw(pooled)[:, ::8], data["given_pooled"], rtol=0, atol=2e-4)
    np.testing.assert_allclose(logits, data["given_box_logits"], rtol=0, atol=5.5e-4)
    np.testing.assert_allclose(deltas, data["given_box_deltas"], rtol=0, atol=1e-4)


def assert_detections(boxes, scores, classes, data, kind, image):
    """All of them, in pairs of a class: boxes 0.015 pixels or degrees, scores 2e-6."""
    expected = {key: data[f"{kind}_{key}_{image}"] for key in ("boxes", "scores", "classes")}
    apart = nearest(boxes, expected["boxes"])
    apart[classes[None] != expected["classes"][:, None]] = np.inf
    partner = apart.argmin(1)
    assert len(scores) == len(expected["scores"])
    assert len(set(partner)) == len(partner)
    assert apart.min(1).max() < 0.015
    np.testing.assert_allclose(scores[partner], expected["scores"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("image", [0, 1])
def test_detections(narrow, image):
    _, _, data, (detections, *_) = narrow
    assert_detections(
        detections["pred_boxes"][image].numpy(),
        detections["scores"][image].numpy(),
        detections["pred_classes"][image].numpy(),
        data,
        "resized",
        image,
    )


@pytest.fixture(scope="module")
def pipelines(narrow):
    cfg, model, *_ = narrow
    return {
        padding: Pipeline(cfg, model, Backend.for_device(), padding)
        for padding in ("own", "detectron2")
    }


def test_pixels_to_detections_in_the_original_image(narrow, pipelines):
    data = narrow[2]
    found = pipelines["detectron2"].detect(*map(tf.constant, images_of(IMAGES[:2])))
    for image in range(2):
        fields = (found[key][image].numpy() for key in ("pred_boxes", "scores", "pred_classes"))
        assert_detections(*fields, data, "pred", image)


def test_a_batch_of_mixed_sizes_equals_each_alone(pipelines):
    images, sizes = images_of(IMAGES)
    together = pipelines["own"].detect(tf.constant(images), tf.constant(sizes))
    for index, (height, width) in enumerate(sizes):
        one = slice(index, index + 1)
        alone = pipelines["own"].detect(
            tf.constant(images[one, :height, :width]), tf.constant(sizes[one])
        )
        for key, values in alone.items():
            np.testing.assert_allclose(together[key][one], values, rtol=0, atol=1e-3, err_msg=key)


@pytest.fixture(scope="module")
def training():
    """The record of three steps, the same taken here, and the model then."""
    with Backend.for_device().active():
        return take_recorded_steps()


def test_losses(training):
    """Ten times what Detectron2 differs from itself by in each step."""
    recorded, steps, _ = training
    for found, expected, tolerance in zip(
        steps.losses, recorded["losses"], (1.6e-5, 1e-4, 1e-3), strict=True
    ):
        differences = relative_differences(found, expected)
        assert max(differences.values()) <= tolerance, differences


def test_first_gradients(training):
    recorded, steps, _ = training
    expected = {name: entry["norm"] for name, entry in recorded["first_gradients"].items()}
    found = {name: np.linalg.norm(g) for name, g in steps.first_gradients.items()}
    differences = relative_differences(found, expected, 1e-6)
    assert max(differences.values()) <= 1e-3, differences


def test_parameters_in_the_end(training):
    recorded, _, model = training
    expected = recorded["parameter_norms_after_3_steps"]
    found = {n.name: np.linalg.norm(n.variable) for n in named_variables(model)}
    found = {name: found[name] for name in expected}
    # PyTorch's norms of millions of float32 are off by up to 5e-5.
    differences = relative_differences(found, expected, 1e-6)
    assert max(differences.values()) <= 1e-4, differences
