"""From the values that a tensor had to its quantization step."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdetect.checkpoint.quantization import Step

METHODS = ("mse", "percentile")

# Magnitudes are counted in bins of equal ratio: 32 to an octave (2%), from 2**-40 to 2**40.
_PER_OCTAVE = 32
_OCTAVES = (-40, 40)
_BINS = (_OCTAVES[1] - _OCTAVES[0]) * _PER_OCTAVE
# Beyond so many values of a tensor, every n-th is enough for the counts.
_MOST_COUNTED = 2**19
# The least range that is tried, as a share of the largest magnitude.
_LEAST_SHARE = 1 / 64


class Observer(tf.Module):
    """Counts the magnitudes of the values of a tensor, over as many calls as there are."""

    def __init__(self) -> None:
        super().__init__()
        self._counts = tf.Variable(tf.zeros([_BINS], tf.int64), trainable=False)
        self._least = tf.Variable(0.0, trainable=False)
        self._largest = tf.Variable(0.0, trainable=False)

    def __call__(self, x: tf.Tensor) -> None:
        """Add the values of float32 x; there may be none."""
        values = tf.reshape(x, [-1])
        self._least.assign(tf.minimum(self._least, tf.reduce_min(values)))
        self._largest.assign(tf.maximum(self._largest, tf.reduce_max(tf.abs(values))))
        # An odd number, so that all channels get their turn.
        every = 2 * (tf.size(values) // (2 * _MOST_COUNTED)) + 1
        magnitudes = tf.abs(values[::every])
        octaves = tf.math.log(tf.maximum(magnitudes, 2.0 ** _OCTAVES[0])) / np.log(2.0)
        bins = tf.cast((octaves - _OCTAVES[0]) * _PER_OCTAVE, tf.int32)
        counted = tf.math.bincount(
            tf.clip_by_value(bins, 0, _BINS - 1), minlength=_BINS, maxlength=_BINS, dtype=tf.int64
        )
        self._counts.assign_add(counted)

    @property
    def values(self) -> int:
        """The number of values that were counted."""
        return int(tf.reduce_sum(self._counts))

    @property
    def is_finite(self) -> bool:
        """Whether all values were."""
        return bool(np.isfinite(self._largest.numpy()))

    @property
    def is_zero(self) -> bool:
        """Whether all values were zero."""
        return float(self._largest.numpy()) == 0

    def step(self, method: str, percentile: float) -> Step:
        """The step for these values.

        Args:
            method: "mse", the range with the least mean square of what rounding and clipping
                change; or "percentile".
            percentile: of the magnitudes, from which on they are clipped.
        """
        if self.is_zero:
            return Step(1.0, 0)
        zero_point = 128 if self._least.numpy() < 0 else 0
        largest = float(self._largest.numpy())
        counts = self._counts.numpy().astype(np.float64)
        edges = 2.0 ** (np.arange(_BINS + 1) / _PER_OCTAVE + _OCTAVES[0])
        steps = 255 - zero_point
        if method == "percentile":
            reached = np.searchsorted(np.cumsum(counts), percentile / 100 * counts.sum())
            limit = min(edges[min(reached + 1, _BINS)], largest)
        else:
            limit = _least_square(counts, np.sqrt(edges[:-1] * edges[1:]), largest, steps)
        return Step(float(np.float32(limit / steps)), zero_point)


def _least_square(counts: np.ndarray, magnitudes: np.ndarray, largest: float, steps: int) -> float:
    """The range with the least sum of squared differences.

    Args:
        counts, magnitudes: of each bin.
        largest: the largest magnitude.
        steps: from 0 to the end of the range.
    """
    used = (counts > 0) & (magnitudes > largest * 1e-7)
    counts, magnitudes = counts[used], np.minimum(magnitudes[used], largest)

    def loss(limit: float) -> float:
        scale = limit / steps
        clipped = np.minimum(magnitudes, limit)
        # Within a bin the place between two steps is known only where these are far apart.
        rounded = np.where(
            magnitudes < 8 * scale,
            (clipped - scale * np.round(clipped / scale)) ** 2,
            scale**2 / 12,
        )
        return float(counts @ np.where(magnitudes > limit, (magnitudes - limit) ** 2, rounded))

    candidates = largest * _LEAST_SHARE ** np.linspace(0, 1, 129)
    return float(min(candidates, key=loss))
