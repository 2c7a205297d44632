"""A step of training: precision, accumulation, clipping, and the same on any number of replicas."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.support import toy
from tests.support.paths import ROOT
from tfdetect.errors import InputError
from tfdetect.training.optimizer import build_optimizer, gradient_clipping
from tfdetect.training.precision import LossScale


def test_losses_fall():
    losses, _ = toy.train(toy.config(), steps=30)
    first, last = (sum(sum(step.values()) for step in part) for part in (losses[:5], losses[-5:]))
    assert last < first


@pytest.mark.parametrize("steps", [2, 4])
def test_accumulation_is_the_whole_batch(steps):
    whole, weights = toy.train(toy.config())
    parts, same_weights = toy.train(toy.config(ACCUMULATION_STEPS=steps))
    # The order of additions.
    for a, b in zip(whole, parts, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
    for a, b in zip(weights, same_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_what_does_not_divide():
    with pytest.raises(InputError, match=r"SOLVER\.IMS_PER_BATCH.*ACCUMULATION_STEPS 3"):
        toy.trainer(toy.config(ACCUMULATION_STEPS=3))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.02), ("bfloat16", 0.1)])
def test_mixed_precision_is_near_float32(dtype, tolerance):
    cfg = toy.config()
    exact, _ = toy.train(cfg)
    cfg.SOLVER.AMP.ENABLED = True
    cfg.SOLVER.AMP.DTYPE = dtype
    mixed, weights = toy.train(cfg)
    # Half precision has 11 bits, bfloat16 8; their roundings add up over six steps.
    for a, b in zip(exact, mixed, strict=True):
        np.testing.assert_allclose(a["loss_a"], b["loss_a"], atol=tolerance)
    assert all(np.isfinite(array).all() for array in weights)


def test_float16_passes_over_steps_that_overflow():
    cfg = toy.config()
    cfg.SOLVER.AMP.ENABLED = True
    step, model = toy.trainer(cfg)
    scale = step.state.loss_scale
    scale.scale.assign(1e38)
    before = model.weight.numpy()
    step(toy.batch(0), 0)
    np.testing.assert_array_equal(model.weight, before)
    assert scale.scale.numpy() == np.float32(5e37)
    assert not any(buffer.numpy().any() for buffer in step.optimizer.momentum_buffers)


def test_loss_scale_grows_after_2000_good_steps():
    scale = LossScale()
    for finite, expected in ((True, 65536.0), (False, 32768.0)):
        scale.update(tf.constant(finite))
        assert scale.scale.numpy() == expected
    scale.good_steps.assign(1999)
    scale.update(tf.constant(True))
    assert (scale.scale.numpy(), scale.good_steps.numpy()) == (65536.0, 0)


def clipped(gradients, **options):
    cfg = toy.config()
    cfg.SOLVER.CLIP_GRADIENTS.update(ENABLED=True, **options)
    tensors = [g if g is None else tf.constant(g) for g in gradients]
    return [g if g is None else g.numpy() for g in gradient_clipping(cfg)(tensors)]


def test_clipping():
    gradients = [[3.0, -4.0], None, [0.5]]
    value = clipped(gradients, CLIP_TYPE="value", CLIP_VALUE=1.0)
    np.testing.assert_array_equal(value[0], [1.0, -1.0])
    assert value[1] is None
    # 1e-6 is what PyTorch adds to the norm; the rest is rounding of float32.
    norm = clipped(gradients, CLIP_TYPE="norm", CLIP_VALUE=1.0)
    np.testing.assert_allclose(norm[0], np.array([3, -4]) / 5.000001, rtol=1e-6)
    np.testing.assert_array_equal(norm[2], [0.5])
    largest = clipped(gradients, CLIP_TYPE="norm", CLIP_VALUE=1.0, NORM_TYPE=float("inf"))
    np.testing.assert_allclose(largest[0], np.array([3, -4]) / 4.000001, rtol=1e-6)
    together = clipped(gradients, CLIP_TYPE="full_model", CLIP_VALUE=1.0)
    total = np.sqrt(25.25) + 1e-6
    np.testing.assert_allclose(together[2], [0.5 / total], rtol=1e-6)


def step_of(cfg):
    """What one step with gradients of zero and a learning rate of 1 takes from each variable."""
    model = toy.Toy()
    model.bias.assign_add(tf.ones([32]))
    model.norm.bias.assign_add(tf.ones([32]))
    parameters = {"weight": model.weight, "bias": model.bias}
    parameters |= {"norm.weight": model.norm.weight, "norm.bias": model.norm.bias}
    before = {name: variable.numpy() for name, variable in parameters.items()}
    optimizer = build_optimizer(cfg, model, list(parameters.values()))
    optimizer.apply_gradients([tf.zeros_like(v) for v in parameters.values()], 1.0)
    return {name: np.mean(1 - v.numpy() / before[name]) for name, v in parameters.items()}


def test_weight_decay_by_kind_of_parameter():
    solver = {"WEIGHT_DECAY": 0.1, "WEIGHT_DECAY_NORM": 0.2}
    # float32's rounding in 1 - x.
    expected = {"weight": 0.1, "bias": 0.1, "norm.weight": 0.2, "norm.bias": 0.2}
    assert step_of(toy.config(**solver)) == pytest.approx(expected, abs=1e-6)
    solver |= {"WEIGHT_DECAY_BIAS": 0.05, "BIAS_LR_FACTOR": 2.0}
    expected |= {"bias": 0.1, "norm.bias": 0.1}
    assert step_of(toy.config(**solver)) == pytest.approx(expected, abs=1e-6)


def test_null_is_the_optimizers_default():
    """Detectron2's `get_default_optimizer_params` overrides nothing where a value is None."""
    nothing = {"WEIGHT_DECAY_NORM": None, "WEIGHT_DECAY_BIAS": None, "BIAS_LR_FACTOR": None}
    expected = dict.fromkeys(("weight", "bias", "norm.weight", "norm.bias"), 0.1)
    found = step_of(toy.config(WEIGHT_DECAY=0.1, **nothing))
    assert found == pytest.approx(expected, abs=1e-6)  # float32's rounding in 1 - x


TWO_DEVICES = """
import pickle, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, {folder!r})
import numpy as np
from tests.support import toy
from tfdetect.ops.backend import Backend, current_backend
from tfdetect.training.hooks.ema import EMAHook
backend, seen = Backend(instruction_set="avx2"), []
class Toy(toy.Toy):
    def losses(self, *arguments):
        seen.append(current_backend() == backend)
        return super().losses(*arguments)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
options = {{"strategy": strategy, "local_replicas": 2, "backend": backend}}
for optimizer in ("SGD", "AdamW"):
    with strategy.scope():
        model = Toy()
    losses, weights = toy.train(toy.config(OPTIMIZER=optimizer), model=model, **options)
    assert len(seen) >= 2 and all(seen)  # in the threads of both replicas
    losses = [list(step.values()) for step in losses]
    np.savez({out!r} + "/" + optimizer + ".npz", *weights, losses=losses)
with strategy.scope():
    ema = EMAHook(model, model.trainable_variables, 0.75)
model.bias.assign_add(tf.ones([32]))
ema.after_step(None)
with ema.applied():
    averages = [value.numpy() for value in strategy.experimental_local_results(model.bias)]
np.savez({out!r} + "/averages.npz", averages=averages, trained=model.bias.numpy())
"""


def test_two_replicas_are_one_device(tmp_path):
    script = TWO_DEVICES.format(folder=str(ROOT), out=str(tmp_path))
    subprocess.run([sys.executable, "-c", script], check=True, timeout=100)
    for optimizer in ("SGD", "AdamW"):
        losses, weights = toy.train(toy.config(OPTIMIZER=optimizer))
        with np.load(tmp_path / f"{optimizer}.npz") as two:
            # The order of two additions and a division.
            np.testing.assert_allclose(
                two["losses"], [list(step.values()) for step in losses], rtol=1e-5, atol=1e-6
            )
            for index, weight in enumerate(weights):
                np.testing.assert_allclose(two[f"arr_{index}"], weight, rtol=1e-5, atol=1e-6)
    with np.load(tmp_path / "averages.npz") as two:
        # Of 32 biases to which 1 was added, on either replica.
        for average in two["averages"]:
            np.testing.assert_allclose(average, two["trained"] - 0.75, rtol=1e-5, atol=1e-6)
