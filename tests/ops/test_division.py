"""Division by a constant in a graph, beside NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.ops.division import divide


@pytest.mark.parametrize("divisor", [3, 7, 14, 5.0, 224.0])
def test_is_rounded_once(divisor):
    values = np.random.default_rng(0).uniform(-1000, 1000, 4096).astype(np.float32)
    values[:5] = 0.0, -0.0, np.inf, -np.inf, np.nan
    function = tf.function(lambda x: divide(x, divisor), autograph=False)
    found = function.get_concrete_function(tf.TensorSpec([None]))(tf.constant(values))
    np.testing.assert_array_equal(found, values / np.float32(divisor))
