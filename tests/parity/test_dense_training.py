"""Twenty SGD steps of RetinaNet and FCOS against Detectron2's, from the same weights and images.

Tolerances are those that a good port reaches by the record's own account; `noise` in a record is
what Detectron2 differs from itself by with its initial weights disturbed by a relative 1e-6.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model
from tests.support import dense_records
from tests.support.recorded_steps import batch_of, relative_differences
from tests.support.training_variants import arrays_of
from tfdetect.modeling.structures import Targets

# Of losses in the first step, in all twenty, and of the parameters' norms in the end.
TOLERANCES = {"retinanet": (4e-6, 1e-3, 1e-4), "fcos": (4e-6, 3e-3, 2e-3)}


@pytest.fixture(scope="module", params=["fcos", pytest.param("retinanet", marks=pytest.mark.full)])
def run(request):
    """Name, record, the steps taken, the model then and its initial weights."""
    name = request.param
    return name, dense_records.read("steps", name), *dense_records.run_steps(name)


def test_losses(run):
    name, recorded, steps, *_ = run
    first, every, _ = TOLERANCES[name]
    for step, (found, expected) in enumerate(zip(steps.losses, recorded["losses"], strict=True)):
        for loss, difference in relative_differences(found, expected, 1e-3).items():
            assert difference <= (every if step else first), (step, loss, found, expected)


def test_loss_normalizer_in_the_end(run):
    _, recorded, _, model, _ = run
    # The number of positives is counted in float32, and the average is float64.
    value = model.training_state["loss_normalizer"].numpy()
    assert value == pytest.approx(recorded["loss_normalizers"][-1], rel=1e-7)


def test_first_gradients(run):
    _, recorded, steps, *_ = run
    found = {name: np.linalg.norm(g) for name, g in steps.first_gradients.items()}
    for name, difference in relative_differences(found, recorded["first_gradients"]).items():
        assert difference <= 3e-3, name


def test_parameters_in_the_end(run):
    name, recorded, steps, model, initial = run
    found = arrays_of(model)
    trained = {named.name for named in steps.named}
    assert trained <= recorded["parameter_norms"].keys()
    share = 3e-2 if name == "fcos" else 1e-2
    for key, norm in recorded["parameter_norms"].items():
        before, after = np.linalg.norm(initial[key]), np.linalg.norm(found[key])
        start = recorded["initial_parameter_norms"][key]
        np.testing.assert_allclose(before, start, rtol=1e-4)
        difference = abs(after / before - norm / start)
        assert difference <= TOLERANCES[name][2], key
        # And how much it changed, which is little of a norm.
        noise = 3 * recorded["noise"]["parameter_norms"]
        assert difference <= share * abs(norm / start - 1) + noise, key


@pytest.mark.parametrize("name", TOLERANCES)
def test_targets(name):
    """Labels of all anchors of the batch, and the boxes of the positive ones, exactly."""
    stages = dense_records.stages(name)
    cfg = dense_records.training_configuration(name)
    model = seeded_model(cfg)
    images, _, targets = batch_of(cfg, model, dense_records.IMAGES)
    np.testing.assert_array_equal(images.shape[1:3], stages["train_batch_padded_hw"])
    features = [
        tf.zeros([2, -(-images.shape[1] // stride), -(-images.shape[2] // stride), 1])
        for stride in (8, 16, 32, 64, 128)
    ]
    anchors = model.anchor_generator(features)
    assert [len(level) for level in anchors] == stages["train_anchors_per_level"].tolist()
    # Corners of up to 400 pixels in float32.
    np.testing.assert_allclose(tf.concat(anchors, 0)[::7], stages["train_some_anchors"], atol=3e-5)
    labels, matches = model.label_anchors(anchors, targets)
    np.testing.assert_array_equal(labels, stages["train_gt_labels"])
    positives = np.argwhere((labels >= 0) & (labels != 4))
    objects = targets.gt_boxes.numpy()[positives[:, 0], matches.numpy()[tuple(positives.T)]]
    np.testing.assert_allclose(objects, stages["train_positive_boxes"], atol=1e-4)


def test_a_batch_without_objects():
    """Only background is there to be learnt; the normaliser counts it as one positive."""
    model = seeded_model(dense_records.configuration("fcos"))
    nothing = Targets(tf.zeros([1, 1, 4]), tf.zeros([1, 1], tf.int32), tf.zeros([1, 1], tf.bool))
    images = tf.random.stateless_normal([1, 64, 96, 3], (0, 0), stddev=50.0)
    with tf.GradientTape() as tape:
        losses = model.losses(images, tf.constant([[64, 96]]), nothing, tf.constant([0, 0]))
        total = tf.add_n(list(losses.values()))
    assert {name: bool(loss > 0) for name, loss in losses.items()} == {
        "loss_fcos_cls": True,
        "loss_fcos_loc": False,
        "loss_fcos_ctr": False,
    }
    for gradient in tape.gradient(total, model.head.trainable_variables):
        assert np.isfinite(gradient).all()
    assert model.training_state["loss_normalizer"].numpy() == pytest.approx(0.9 * 300 + 0.1)
