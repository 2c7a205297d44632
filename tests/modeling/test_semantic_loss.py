"""The semantic loss against a plain computation in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.modeling.semantic_loss import semantic_cross_entropy


def plain(logits, labels, stride, ignore):
    """Bilinear between centres, clamped at the borders; then the mean of -log softmax."""
    batch, rows, columns, _ = logits.shape
    total, count = 0.0, 0
    for b in range(batch):
        for y, x in np.ndindex(labels.shape[1:]):
            label = labels[b, y, x]
            if label == ignore:
                continue
            v = np.clip((np.array([y, x]) + 0.5) / stride - 0.5, 0, [rows - 1, columns - 1])
            (y0, x0), (fy, fx) = np.floor(v).astype(int), v - np.floor(v)
            y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
            at = logits[b]
            upper = at[y0, x0] * (1 - fx) + at[y0, x1] * fx
            values = upper * (1 - fy) + (at[y1, x0] * (1 - fx) + at[y1, x1] * fx) * fy
            total -= values[label] - np.log(np.exp(values).sum())
            count += 1
    return total / count


# 255 in bytes, and values that no byte, or a class, has.
@pytest.mark.parametrize("ignore", [255, -1, 0, 70_000])
@pytest.mark.parametrize(("stride", "size"), [(4, (16, 24)), (4, (13, 22)), (2, (8, 12))])
def test_loss(ignore, stride, size):
    rng = np.random.default_rng(stride)
    logits = rng.normal(0, 3, (2, -(-size[0] // stride), -(-size[1] // stride), 5))
    labels = rng.integers(0, 5, (2, *size)).astype(np.uint8 if ignore in (0, 255) else np.int32)
    labels[:, ::3] = ignore
    found = semantic_cross_entropy(
        tf.constant(logits, tf.float32), tf.constant(labels), stride=stride, ignore_value=ignore
    )
    # Sums of a few hundred float32 numbers.
    assert float(found) == pytest.approx(plain(logits, labels, stride, ignore), rel=2e-6)


def test_nothing_but_ignored_pixels():
    """0 with a gradient of 0, in a graph too; Detectron2 has NaN."""
    logits = tf.random.stateless_normal([1, 4, 4, 3], [0, 1])
    labels = tf.fill([1, 16, 16], tf.constant(255, tf.uint8))

    @tf.function(autograph=False)
    def both():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = semantic_cross_entropy(logits, labels, stride=4, ignore_value=255)
        return loss, tape.gradient(loss, logits)

    loss, gradient = both()
    assert float(loss) == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
