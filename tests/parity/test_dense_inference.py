"""RetinaNet and FCOS, narrow with seeded weights, on each image alone, against Detectron2.

Maps within 1e-5 of their scale (float32 through a hundred layers); detections as the demo's:
boxes within 5e-3 pixels, scores within 1e-4. Detectron2 with its weights disturbed by a relative
1e-6 differs by 2.9e-4 pixels and 2.4e-6.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model
from tests.support import dense_records
from tests.support.intermediates import call_with_intermediates
from tfdetect.modeling.preprocess import Preprocessor


@functools.cache
def make(name):
    """The name, the configuration and the model."""
    cfg = dense_records.configuration(name)
    return name, cfg, seeded_model(cfg)


@pytest.fixture(params=dense_records.OPTIONS)
def model(request):
    return make(request.param)


def preprocessed(cfg, network):
    """The first image as the model takes it, and its size."""
    picture = dense_records.pictures()[0]
    preprocess = Preprocessor.from_config(cfg, network.size_divisibility)
    return preprocess(tf.constant(picture)[None], tf.constant([picture.shape[:2]]))


@pytest.mark.parametrize(
    ("name", "implementation"),
    [
        ("fcos", "native"),
        ("retinanet", "portable"),
        pytest.param("fcos", "portable", marks=pytest.mark.full),
        pytest.param("retinanet", "native", marks=pytest.mark.full),
    ],
    indirect=["implementation"],
)
def test_detections(name, implementation):
    """All of them and no others, of each image alone, and of both of their sizes in a batch."""
    name, cfg, network = make(name)
    pipeline = dense_records.make_pipeline(cfg, network)
    for batched in (False, True):
        found = dense_records.detect(pipeline, batched=batched)
        differences = dense_records.compare_detections(name, found)
        assert differences.matched == differences.expected > 50
        assert differences.extra == 0
        assert differences.box < 5e-3


def test_stages(model):
    name, cfg, network = model
    stages = dense_records.stages(name)
    batch, resized = preprocessed(cfg, network)
    np.testing.assert_array_equal(resized[0], stages["input_hw"])
    np.testing.assert_array_equal(batch.shape[1:3], stages["padded_hw"])
    _, found = call_with_intermediates(network, batch, resized)
    recorded = {"logits": "cls_logits", "deltas": "anchor_deltas", "centerness": "centerness"}
    compared = 0
    for key, expected in stages.items():
        kind, _, level = key.partition("_")
        if kind in recorded:
            values = np.transpose(found[f"{recorded[kind]}_{level}"], [0, 3, 1, 2])
            scale = np.abs(expected).max()
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5 * scale, err_msg=key)
            compared += 1
    assert compared == {"retinanet": 8, "fcos": 15}[name]


def test_candidates(model):
    """What is decoded of all levels before NMS: with NMS of threshold 1 all of it is returned."""
    name, cfg, network = model
    stages = dense_records.stages(name)
    count = len(stages["decoded_scores"])
    section = f"MODEL.{network.capabilities.parts.dense_head}"
    options = ["TEST.DETECTIONS_PER_IMAGE", count + 10, f"{section}.NMS_THRESH_TEST", 1.0]
    every = seeded_model(dense_records.configuration(name, *options))
    found = every(*preprocessed(cfg, network)).instances
    assert int(found.num_detections[0]) == count
    # By score, of which some are equal: as sets of rows, rounded.
    order = np.argsort(-stages["decoded_scores"], kind="stable")
    np.testing.assert_allclose(
        found.scores[0, :count], stages["decoded_scores"][order], rtol=0, atol=1e-5
    )
    rows = [
        np.concatenate([boxes, labels[:, None]], 1)
        for boxes, labels in (
            (found.pred_boxes[0, :count].numpy(), found.pred_classes[0, :count].numpy()),
            (stages["decoded_boxes"], stages["decoded_classes"]),
        )
    ]
    sums = [np.sort(values @ [1.0, 10.0, 100.0, 1000.0, 1e5]) for values in rows]
    # Sums of coordinates of hundreds of pixels, with these weights, each within 5e-3.
    np.testing.assert_allclose(*sums, rtol=0, atol=5.0)
