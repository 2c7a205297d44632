"""SGD against PyTorch's, recorded, and alike on one device and on two."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.training.sgd import SGD

# What tests/arrays/ops/schedule.npz was recorded with: the loss is the sum of p ** 3, and from the
# seventh step on the learning rate is a tenth.
START = [1.0, -2.0, 3.0]
LEARNING_RATE = 0.1
DROP = 6
OPTIONS = {"momentum": 0.9, "weight_decays": [0.01], "learning_rate_factors": [1.0]}


def trajectory(steps, options=OPTIONS, start=START):
    parameter = tf.Variable(start)
    optimizer = SGD([parameter], **options)
    points = []
    for step in range(steps):
        rate = LEARNING_RATE if step < DROP else LEARNING_RATE / 10
        optimizer.apply_gradients([3 * parameter**2], rate)
        points.append(parameter.numpy())
    return np.array(points)


def test_steps_are_pytorchs(oracle):
    recorded = oracle("schedule")["sgd"]
    points = trajectory(len(recorded))
    # Two of the three parameters blow up, to -inf and then NaN: at the same step.
    # Rounding of float32 operations, a handful for each step, amplified by the blow-up.
    np.testing.assert_allclose(points, recorded, rtol=1e-5)


def reference(steps, momentum, decay, rate, nesterov):
    p, b = np.array(START, np.float64), 0.0
    points = []
    for _ in range(steps):
        g = 3 * p**2 + decay * p
        b = momentum * b + g
        p = p - rate * (g + momentum * b if nesterov else b)
        points.append(p)
    return points


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_every_parameter_has_its_own_decay_and_rate(momentum, nesterov):
    first, second = tf.Variable(START), tf.Variable(START)
    optimizer = SGD(
        [first, second],
        momentum=momentum,
        weight_decays=[0.1, 0.0],
        learning_rate_factors=[1.0, 2.0],
        nesterov=nesterov,
    )
    for step in range(3):
        optimizer.apply_gradients([3 * first**2, 3 * second**2], tf.constant(0.01))
        # Three steps of float32 on numbers up to 3.
        for parameter, decay, rate in [(first, 0.1, 0.01), (second, 0.0, 0.02)]:
            expected = reference(3, momentum, decay, rate, nesterov)[step]
            np.testing.assert_allclose(parameter, expected, rtol=2e-6)


def traced_step(optimizer):
    return tf.function(
        lambda g, usable: optimizer.apply_gradients([g], 0.1, usable), autograph=False
    )


def test_native_and_portable_steps_are_the_same(implementation):
    """In the variables' own memory or by TensorFlow's operations. What was
    read before a step and is still held keeps its values, and a step that is not usable is none."""
    start = np.random.default_rng(1).normal(size=[5, 7]).astype(np.float32)
    for nesterov in (False, True):
        parameter = tf.Variable(start)
        options = {"momentum": 0.9, "weight_decays": [0.01], "learning_rate_factors": [0.5]}
        optimizer = SGD([parameter], **options, nesterov=nesterov)
        p, b = start, np.zeros_like(start)
        step = traced_step(optimizer)
        for factor, usable in ((1.0, True), (-2.0, True), (np.nan, False), (0.5, True)):
            gradient = np.float32(factor) * start[::-1]
            held = parameter.read_value()
            step(tf.constant(gradient), tf.constant(usable))
            np.testing.assert_array_equal(held, p)
            if usable:
                decayed = gradient + np.float32(0.01) * p
                b = np.float32(0.9) * b + decayed
                direction = decayed + np.float32(0.9) * b if nesterov else b
                p = p - np.float32(0.1 * 0.5) * direction
            np.testing.assert_allclose(parameter, p, rtol=3e-7, atol=1e-7)


def test_the_learning_rate_acts_on_the_momentum_at_once():
    parameter = tf.Variable([0.0])
    optimizer = SGD([parameter], momentum=0.5, weight_decays=[0.0], learning_rate_factors=[1.0])
    optimizer.apply_gradients([tf.constant([1.0])], 1.0)
    optimizer.apply_gradients([tf.constant([0.0])], 0.25)
    np.testing.assert_array_equal(parameter, [-1.125])


def test_a_parameter_without_gradient_is_left_alone():
    parameter = tf.Variable(START)
    SGD([parameter], **OPTIONS).apply_gradients([None], LEARNING_RATE)
    np.testing.assert_array_equal(parameter, START)


def test_counts_must_agree():
    parameter = tf.Variable(START)
    with pytest.raises(ValueError, match="2 weight decays"):
        SGD([parameter], **(OPTIONS | {"weight_decays": [0.0, 0.0]}))
    with pytest.raises(ValueError, match="0 gradients"):
        SGD([parameter], **OPTIONS).apply_gradients([], LEARNING_RATE)


def test_a_checkpoint_brings_the_momentum_back(tmp_path):
    def build():
        parameter = tf.Variable(START)
        optimizer = SGD([parameter], **OPTIONS)
        return parameter, optimizer, tf.train.Checkpoint(model=parameter, optimizer=optimizer)

    parameter, optimizer, checkpoint = build()
    optimizer.apply_gradients([3 * parameter**2], 0.001)
    path = checkpoint.save(str(tmp_path / "state"))
    optimizer.apply_gradients([3 * parameter**2], 0.001)

    resumed, optimizer, checkpoint = build()
    checkpoint.restore(path).assert_consumed()
    optimizer.apply_gradients([3 * resumed**2], 0.001)
    np.testing.assert_array_equal(resumed, parameter)


TWO_DEVICES = """
import sys
import numpy as np
import tensorflow as tf
from tfdetect.training.sgd import SGD

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    parameter = tf.Variable([1.0, -2.0, 3.0])
    optimizer = SGD([parameter], momentum=0.9, weight_decays=[0.01], learning_rate_factors=[1.0])

@tf.function(autograph=False)
def step(learning_rate):
    strategy.run(lambda: optimizer.apply_gradients([3 * parameter**2], learning_rate))

for _ in range(3):
    step(tf.constant(0.1))
copies = strategy.experimental_local_results(parameter)
assert len(copies) == 2
np.save(sys.argv[1], np.stack(copies))
"""


def test_in_a_graph_on_two_devices_as_on_one(tmp_path):
    # In a process of its own: devices can only be divided before TensorFlow starts.
    result = tmp_path / "copies.npy"
    subprocess.run([sys.executable, "-c", TWO_DEVICES, result], check=True, timeout=120)
    expected = trajectory(3)[-1]
    # A graph may fuse a multiplication and an addition: one unit in the last place for each step.
    np.testing.assert_allclose(np.load(result), [expected, expected], rtol=1e-6)
