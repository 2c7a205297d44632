"""Gradients of grouped and dilated convolutions, as PyTorch 2.13 has them in float64.

Tolerances are relative to the largest value: sums of at most 300 products of about 1 in float32.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import DATA, ROOT
from tfdetect.layers.conv import Conv2d

with np.load(DATA / "ops" / "conv_gradients.npz", allow_pickle=False) as _arrays:
    RECORD = dict(_arrays)
CASES = sorted({name.partition("/")[0] for name in RECORD})
KEYS = ("x", "weight", "upstream", "y", "x_grad", "weight_grad")


def layer(name):
    """The layer of a case without bias, and the recorded arrays of KEYS."""
    stride, padding, dilation, groups = RECORD[f"{name}/options"].tolist()
    arrays = [RECORD[f"{name}/{key}"] for key in KEYS]
    x, weight = arrays[:2]
    conv = Conv2d(
        x.shape[3],
        weight.shape[3],
        weight.shape[0],
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=False,
    )
    conv.weight.assign(weight)
    return conv, arrays


def differentiate(conv, x, upstream):
    """The result, and the gradients for x and the weight."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = conv(x)
    return y, *tape.gradient(y, [x, conv.weight], tf.cast(upstream, y.dtype))


def assert_near(found, recorded, tolerance):
    assert found.shape == recorded.shape
    found = tf.cast(found, tf.float32).numpy()
    np.testing.assert_allclose(found, recorded, rtol=0, atol=tolerance * np.abs(recorded).max())


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_gradients(name, graph, implementation):
    conv, (x, _, upstream, *recorded) = layer(name)
    step = tf.function(differentiate, autograph=False) if graph else differentiate
    for found, expected in zip(step(conv, x, upstream), recorded, strict=True):
        assert_near(found, expected, 2e-6)


@pytest.mark.parametrize("name", ["grouped_stride", "dilated", "dilated_grouped"])
def test_gradients_in_bfloat16(name):
    conv, (x, _, upstream, *recorded) = layer(name)
    found = differentiate(conv, tf.cast(x, tf.bfloat16), upstream)
    assert found[0].dtype == found[1].dtype == tf.bfloat16
    for value, expected in zip(found, recorded, strict=True):
        assert_near(value, expected, 5e-2)  # of 8 bits, in which TensorFlow also adds up


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_no_images(name, graph):
    """No region is foreground: the gradient of the weight is 0."""
    conv, (x, weight, upstream, y, *_) = layer(name)
    step = tf.function(differentiate, autograph=False) if graph else differentiate
    found = step(conv, x[:0], upstream[:0])
    assert found[0].shape == y[:0].shape
    assert found[1].shape == x[:0].shape
    np.testing.assert_array_equal(found[2], np.zeros_like(weight))


@pytest.mark.parametrize("name", ["grouped_stride", "dilated", "dilated_grouped"])
def test_shapes_known_only_when_it_runs(name):
    conv, (x, _, upstream, *recorded) = layer(name)
    of_any_size = [tf.TensorSpec([None, None, None, a.shape[3]]) for a in (x, upstream)]
    step = tf.function(
        lambda x, upstream: differentiate(conv, x, upstream),
        input_signature=of_any_size,
        autograph=False,
    )
    for found, expected in zip(step(x, upstream), recorded, strict=True):
        assert_near(found, expected, 2e-6)


REPLICAS = """
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.experimental.enable_op_determinism()
from tests.ops.test_conv_gradients import CASES, assert_near, differentiate, layer

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name in CASES:
    with strategy.scope():
        conv, (x, _, upstream, *recorded) = layer(name)

    def one():
        context = tf.distribute.get_replica_context()
        number = tf.get_static_value(context.replica_id_in_sync_group)
        here = slice(number, number + 1)
        *_, gradient = differentiate(conv, x[here], upstream[here])
        return context.all_reduce(tf.distribute.ReduceOp.SUM, gradient)

    run = lambda: strategy.experimental_local_results(strategy.run(one))
    step = tf.function(run, autograph=False)
    for gradient in step():
        assert_near(gradient, recorded[-1], 2e-6)
print("all", len(CASES))
"""


def test_gradients_on_replicas():
    """Two replicas with an image each, under op determinism: the weight's gradients add up.

    In a process of its own: devices can only be divided before TensorFlow starts.
    """
    ran = subprocess.run(
        [sys.executable, "-c", REPLICAS],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith(f"all {len(CASES)}\n")
