"""Drop path, and activation checkpointing, which must drop the same again."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.layers.activation_checkpoint import activation_checkpoint
from tfdetect.layers.drop_path import add_branch, drop_path, drop_paths

RATE = 0.3


def seeds(count, first=0):
    return tf.stack(
        [tf.fill([count], tf.constant(7, tf.int64)), first + tf.range(count, dtype=tf.int64)], 1
    )


def dropped(count, rate=RATE, first=0, branches=1, dtype=tf.float32):
    with drop_paths(seeds(count, first)):
        found = [drop_path(tf.ones([count, 2, 3], dtype), rate) for _ in range(branches)]
    return np.stack([tf.cast(x, tf.float32) for x in found])


def test_whole_images_are_dropped_and_the_rest_is_scaled():
    x = dropped(2000)[0]
    kept = x[:, 0, 0] != 0
    # All of an image alike; the share of 2000 within four standard deviations.
    np.testing.assert_array_equal(
        x, np.where(kept[:, None, None], np.float32(1) / np.float32(0.7), 0.0) * np.ones([1, 2, 3])
    )
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.21 / 2000)


def test_branches_and_images_are_drawn_apart():
    found = dropped(64, branches=300, rate=0.5)[:, :, 0, 0] != 0
    assert len({row.tobytes() for row in found}) == 300
    assert len({column.tobytes() for column in found.T}) == 64
    # 19200 draws, within four standard deviations.
    assert abs(found.mean() - 0.5) < 4 * np.sqrt(0.25 / found.size)


def test_an_image_is_drawn_for_alone():
    whole = dropped(8, branches=3)
    np.testing.assert_array_equal(whole[:, 5:], dropped(3, first=5, branches=3))
    np.testing.assert_array_equal(whole, dropped(8, branches=3))


def test_nothing_is_dropped_at_inference_or_at_rate_0():
    x = tf.ones([4, 2])
    assert drop_path(x, RATE) is x
    with drop_paths(seeds(4)):
        assert drop_path(x, 0.0) is x
    assert drop_path(x, RATE) is x


def test_rate_1_drops_everything():
    np.testing.assert_array_equal(dropped(4, rate=1.0), np.zeros([1, 4, 2, 3]))


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_other_rates(rate):
    with pytest.raises(ValueError, match="drop path rate"):
        drop_path(tf.ones([1]), rate)


def test_half_precision_and_an_empty_batch():
    assert {0.0, 1.4297} == {
        round(float(value), 4) for value in np.unique(dropped(99, dtype=tf.bfloat16))
    }
    assert dropped(0).shape == (1, 0, 2, 3)


class Block(tf.Module):
    """Two residual branches."""

    def __init__(self, rate):
        super().__init__()
        self.weight = tf.Variable(np.random.RandomState(0).randn(6, 6).astype(np.float32))
        self.frozen = tf.Variable(tf.ones([6]), trainable=False)
        self.rate = rate
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        for _ in range(2):
            x += drop_path(tf.nn.relu(x @ self.weight) * self.frozen, self.rate)
        return x


def gradients(graph, checkpointed):
    """Of three blocks: the loss, its gradients, and how often each block was traced."""
    blocks = [Block(0.2), Block(0.4), Block(0.6)]
    x = tf.constant(np.random.RandomState(1).randn(32, 6).astype(np.float32))

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            with drop_paths(seeds(32)):
                y = x
                for block in blocks:
                    y = activation_checkpoint(block, y) if checkpointed else block(y)
            loss = tf.reduce_sum(y * y)
        return loss, *tape.gradient(loss, [x, *(block.weight for block in blocks)])

    found = (tf.function(step, autograph=False) if graph else step)(x)
    return [value.numpy() for value in found], [block.calls for block in blocks]


@pytest.mark.parametrize("graph", [False, True])
def test_checkpointing_changes_nothing_in_the_gradients(graph):
    expected, once = gradients(graph, False)
    found, twice = gradients(graph, True)
    assert (once, twice) == ([1] * 3, [2] * 3)
    for a, b in zip(found, expected, strict=True):
        # The same operations; a graph may fuse them in another way.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


def test_checkpointing_does_nothing_at_inference():
    block = Block(0.5)
    with tf.GradientTape() as tape:
        y = activation_checkpoint(block, tf.ones([2, 6]))
    assert tape.gradient(y, block.weight) is not None
    assert block.calls == 1


def test_a_branch_that_adds_what_it_stands_beside():
    """Where something may be dropped, the branch is called without it."""
    x = tf.ones([4, 3])

    def branch(given, residual=None):
        calls.append(residual is not None)
        return given * 2 if residual is None else given * 2 + residual

    calls = []
    np.testing.assert_array_equal(add_branch(x, branch, x, 0.5), x * 3)
    with drop_paths(tf.zeros([4, 2], tf.int32)):
        np.testing.assert_array_equal(add_branch(x, branch, x, 0.0), x * 3)
        np.testing.assert_array_equal(add_branch(x, branch, x, 1.0), x)
    assert calls == [True, True, False]
