"""Windows of transformers, against Detectron2's: the same numbers elsewhere, so equal."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import DATA
from tfdetect.modeling.backbone.windows import window_partition, window_unpartition

ARRAYS = dict(np.load(DATA / "vitdet/ops/windows.npz"))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", ["exact", "pad", "small", "pad14"])
def test_windows(name, known):
    x, windows, y = (ARRAYS[f"{name}_{key}"] for key in ("x", "windows", "y"))
    side = int(ARRAYS[f"{name}_window"])
    shape = x.shape if known else [None, None, None, x.shape[3]]

    @tf.function(
        input_signature=[tf.TensorSpec(shape), tf.TensorSpec([None, *y.shape[1:]])], autograph=False
    )
    def both_ways(x, y):
        found, padded = window_partition(x, side)
        size = x.shape[1:3] if known else tuple(tf.unstack(tf.shape(x)[1:3]))
        return found, tf.stack(padded), window_unpartition(y, side, padded, size)

    found, padded, whole = both_ways(x, y)
    np.testing.assert_array_equal(found, windows)
    np.testing.assert_array_equal(padded, ARRAYS[f"{name}_padded_hw"])
    np.testing.assert_array_equal(whole, ARRAYS[f"{name}_unpartitioned"])
