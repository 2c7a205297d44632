"""TRAIN.EMA: the average itself, what is saved of it, and resuming bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import toy
from tfdetect.errors import InputError
from tfdetect.layers.norm import batch_norms_that_train
from tfdetect.training.checkpoints import Checkpoints, Progress
from tfdetect.training.hooks.ema import EMAHook

DECAY = 0.9
METADATA = {"class_names": ["thing"]}


def start(folder, average=True):
    """Trainer, model, hook and checkpoints; from the last checkpoint if there is one."""
    cfg = toy.config()
    cfg.TRAIN.EMA.ENABLED = average
    step, model = toy.trainer(cfg, toy.WithBatchNorms())
    hook = None
    if average:
        hook = EMAHook(model, model.trainable_variables, DECAY)
        step.state.averages = hook.averages
    places = Checkpoints(folder, cfg, model, METADATA, step.state)
    if places.restore() is not None and hook is not None:
        hook.swap()
    return step, model, hook, places


def values(variables):
    return [variable.numpy() for variable in variables]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_average_and_what_is_trained(tmp_path):
    step, model, hook, _ = start(tmp_path / "a")
    plain, unaveraged, *_ = start(tmp_path / "b", average=False)
    averaged = [*model.trainable_variables]
    for layer in batch_norms_that_train(model):
        averaged += [layer.running_mean, layer.running_var]
    expected = [value.astype(np.float64) for value in values(averaged)]
    for number in range(4):
        step(toy.batch(number), number)
        hook.after_step(None)
        plain(toy.batch(number), number)
        expected = [
            DECAY * average + (1 - DECAY) * value
            for average, value in zip(expected, values(averaged), strict=True)
        ]
    # The training itself is another's without an average.
    assert_equal(values(model.variables), values(unaveraged.variables))
    trained = values(averaged)
    with hook.applied(), hook.applied():
        found = values(averaged)
    assert_equal(values(averaged), trained)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert any(np.abs(a - c).max() > 1e-3 for a, c in zip(found, trained, strict=True))


def test_an_error_within_leaves_what_is_trained(tmp_path):
    step, model, hook, _ = start(tmp_path)
    step(toy.batch(0), 0)
    before = values(model.variables)
    with pytest.raises(KeyError), hook.applied():
        raise KeyError
    assert_equal(values(model.variables), before)


def test_resumes_bit_for_bit(tmp_path):
    def run(step, hook, numbers):
        for number in numbers:
            step(toy.batch(number), number)
            hook.after_step(None)

    step, model, hook, places = start(tmp_path)
    run(step, hook, range(3))
    with hook.applied():
        path = places.save(Progress(3, 7))
        saved = tf.train.load_checkpoint(str(path / "model"))
        # What predict.py takes from there is the average.
        average = model.bias.numpy()
        found = saved.get_tensor("model/bias/.ATTRIBUTES/VARIABLE_VALUE")
        np.testing.assert_array_equal(found, average)
    assert np.abs(model.bias.numpy() - average).max() > 0
    run(step, hook, range(3, 6))
    again, resumed, other, _ = start(tmp_path)
    run(again, other, range(3, 6))
    assert_equal(values(resumed.variables), values(model.variables))
    assert_equal(values(other.averages), values(hook.averages))


@pytest.mark.parametrize("before", [False, True])
def test_a_training_goes_on_with_or_without(tmp_path, before):
    *_, places = start(tmp_path, average=before)
    places.save(Progress(3, 7))
    words = rf"--resume: .*model_0000002 .*TRAIN\.EMA\.ENABLED {before} instead of {not before}"
    with pytest.raises(InputError, match=words):
        start(tmp_path, average=not before)
