"""The focal loss against its definition in float64, and what the losses are divided by."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import ROOT
from tfdetect.layers.norm import collected_moments
from tfdetect.modeling.dense.losses import (
    LossNormalizer,
    classification_loss,
    sigmoid_focal_loss,
)

LOGITS = np.concatenate([np.linspace(-12, 12, 49), [-90.0, 90.0]]).astype(np.float32)


def defined(logits, target, alpha, gamma):
    """Equation 5 of the paper."""
    logit = logits.astype(np.float64) * (1 if target else -1)
    wrong = 1 / (1 + np.exp(logit))
    loss = wrong**gamma * np.logaddexp(0, -logit)
    return loss if alpha < 0 else loss * (alpha if target else 1 - alpha)


@pytest.mark.parametrize("target", [True, False])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (-1.0, 2.0), (0.25, 0.0), (0.6, 1.5)])
def test_focal_loss(target, alpha, gamma):
    """Relative to 1e-5, and gradients are finite also where the sigmoid saturates."""
    x = tf.Variable(LOGITS)
    targets = tf.fill(x.shape, target)
    with tf.GradientTape() as tape:
        loss = sigmoid_focal_loss(x, targets, alpha=alpha, gamma=gamma)
    expected = defined(LOGITS, target, alpha, gamma)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-30)
    slopes = tape.gradient(loss, x).numpy()
    assert np.isfinite(slopes).all()
    step = 1e-4
    higher, lower = (defined(LOGITS + s, target, alpha, gamma) for s in (step, -step))
    inner = np.abs(LOGITS) < 8
    # Differences of LOGITS + step are of float32.
    exact = (defined(LOGITS.astype(np.float64) + 1e-6, target, alpha, gamma) - expected) / 1e-6
    np.testing.assert_allclose(slopes[inner], exact[inner], rtol=1e-4, atol=1e-6)
    assert np.sign(slopes[inner]).tolist() == np.sign(higher - lower)[inner].tolist()


def test_background_and_what_is_ignored():
    logits = tf.constant(np.random.default_rng(0).normal(size=[1, 3, 2]), tf.float32)
    labels = tf.constant([[1, 2, -1]])  # class 1, background, ignored
    expected = sum(
        defined(logits[0, anchor, label].numpy(), (anchor, label) == (0, 1), 0.25, 2.0)
        for anchor in (0, 1)
        for label in (0, 1)
    )
    found = classification_loss(logits, labels, alpha=0.25, gamma=2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_normalizer():
    """0.9 of what it was, 0.1 of the number; 1 for a batch without positives."""
    normalizer = LossNormalizer(100.0)
    update = tf.function(normalizer, autograph=False)
    assert float(update(tf.constant(50))) == 95.0
    assert float(update(tf.constant(0))) == np.float32(0.9 * 95 + 0.1)
    assert normalizer.value.numpy() == pytest.approx(85.6, rel=1e-15)


def test_normalizer_does_not_change_while_it_is_observed():
    normalizer = LossNormalizer(100.0)
    with collected_moments():
        assert float(normalizer(tf.constant(50))) == 95.0
    assert normalizer.value.numpy() == 100.0


# In a process of its own: devices can only be divided before TensorFlow starts.
TWO_DEVICES = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tests.support.small_training import batch, small_model
from tfdetect.modeling.structures import Targets

NAME = "COCO-Detection/fcos_R_50_FPN_1x"
images, sizes, targets = batch((3, 1, 2, 0))
model = small_model(NAME)[1]
one = model.losses(images, sizes, targets, tf.constant([0, 0]))
divisor = model.loss_normalizer.value.numpy()
assert 270 < divisor < 290, divisor

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = small_model(NAME)[1]


@tf.function(autograph=False)
def step():
    def of_replica():
        index = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        def own(tensor):
            return None if tensor is None else tensor[index * 2 : index * 2 + 2]
        mine = own(images), own(sizes), Targets(*map(own, targets))
        return model.losses(*mine, tf.constant([0, 0]))

    losses = strategy.run(of_replica)
    return {
        name: strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None)
        for name, loss in losses.items()
    }


both = step()
# Of half as many positives on average.
shared = model.loss_normalizer.value.numpy()
np.testing.assert_allclose(shared - 270, (divisor - 270) / 2, rtol=1e-6)
for name, loss in one.items():
    np.testing.assert_allclose(both[name] * shared * 2, loss * divisor, rtol=1e-5, err_msg=name)
"""


@pytest.mark.full
def test_replicas_share_the_normalizer():
    """Both divide by the average of both, so that their mean is the sum of all over that."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TWO_DEVICES]
    subprocess.run(command, check=True, cwd=ROOT, env=environment, timeout=300)
