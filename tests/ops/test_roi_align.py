"""RoIAlign against torchvision's, and defined results for boxes that make no sense."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import require_native, using_ops
from tests.support.roi_operators import check_as_if_cut_out, check_nothing, check_sums_in_float32
from tfdetect.ops.roi_align import roi_align, roi_align_levels

CASES = list(itertools.product([True, False], [0, 1, 2], ["7x7", "14x14", "3x5"]))


def nhwc(x):
    return np.ascontiguousarray(np.transpose(x, [0, 2, 3, 1]))


@pytest.mark.parametrize(("aligned", "ratio", "size"), CASES)
def test_values_and_gradients(oracle, implementation, aligned, ratio, size):
    """Tolerance: float32 sums in another order; 1e-5 of the scale, gradients 1e-4."""
    data = oracle("roi_align")
    key = f"aligned{int(aligned)}_sr{ratio}_{size}"
    features = tf.constant(nhwc(data["feats"]))
    rois = data["rois"]
    height, width = map(int, size.split("x"))
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = roi_align(
            features,
            rois[:, 1:],
            rois[:, 0].astype(np.int32),
            (height, width),
            float(data["spatial_scale"]),
            ratio,
            aligned,
        )
    expected = nhwc(data[key])
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    gradient = tape.gradient(pooled, features, nhwc(data[key + "_outgrad"]))
    expected = nhwc(data[key + "_ingrad"])
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


HOSTILE = np.array(
    [
        [np.nan, 0, 10, 10],
        [0, 0, np.inf, 10],
        [-np.inf, -np.inf, np.inf, np.inf],
        [50, 50, 10, 10],
        [10, 10, 10, 10],
        [-1e30, -1e30, 1e30, 1e30],
        [3e38, -3e38, 3.4e38, 3e38],
        [-1e6, -1e6, 1e6, 1e6],
        [1e9, 1e9, 1e9 + 5, 1e9 + 5],
        [-500, -500, -400, -400],
        [0, 0, 1e-30, 1e-30],
    ],
    np.float32,
)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
def test_hostile_boxes(implementation, aligned, ratio):
    features = tf.random.stateless_normal([1, 20, 30, 4], [1, 2])
    index = np.zeros(len(HOSTILE), np.int32)
    pooled = roi_align(features, HOSTILE, index, 7, 1 / 16, ratio, aligned).numpy()
    assert np.isfinite(pooled).all()
    assert not pooled[:3].any()  # not finite
    assert not pooled[8:10].any()  # outside of the map
    if aligned and ratio == 0:
        assert not pooled[3:5].any()  # inverted, empty


def test_both_implementations_agree_on_hostile_boxes():
    require_native()
    features = tf.random.stateless_normal([1, 20, 30, 4], [1, 2])
    index = np.zeros(len(HOSTILE), np.int32)
    for ratio, aligned in itertools.product([0, 2], [True, False]):
        pooled = []
        for name in ("native", "portable"):
            with using_ops(name):
                pooled.append(roi_align(features, HOSTILE, index, 7, 1 / 16, ratio, aligned))
        # float32 positions near the cut-off are known to a thousandth of a feature-map pixel
        np.testing.assert_allclose(pooled[0], pooled[1], atol=5e-3)


@pytest.mark.parametrize("in_graph", [True, False])
@pytest.mark.parametrize("images", [0, 1])
def test_nothing(implementation, images, in_graph):
    check_nothing(roi_align, 4, images, in_graph)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
def test_maps_of_their_own_sizes(implementation, aligned, ratio):
    """Each image as if its map had been cut out, gradient included: the same float32 sums.

    The portable form multiplies a matrix, whose sums may go another way: 1e-6 of the scale.
    """
    sizes = np.array([[20, 30], [20, 11], [7, 30], [9, 13]], np.int32)
    features = tf.random.stateless_normal([4, 20, 30, 8], [1, 2])
    rng = np.random.default_rng(0)
    low = rng.uniform(-60, 400, (48, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 300, (48, 2))], 1).astype(np.float32)
    owners = np.arange(48, dtype=np.int32) % 4
    arguments = (7, 1 / 16, ratio, aligned)
    check_as_if_cut_out(roi_align, features, boxes, owners, sizes, arguments, atol=1e-6)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_narrow_types_sum_in_float32(oracle, implementation, dtype):
    data = oracle("roi_align")
    check_sums_in_float32(
        roi_align, nhwc(data["feats"]), data["rois"], data["spatial_scale"], dtype
    )


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_levels(implementation, dtype):
    """Each box is pooled from its own level, and its gradient goes there.

    Bit for bit; of the portable form a graph orders the arithmetic on coordinates otherwise, an
    ulp of which is 4e-6 feature-map pixels: 1e-5 of the scale, or an ulp of bfloat16.
    """
    rounding = {"native": 0.0, "portable": 1e-5 if dtype == tf.float32 else 2.0**-7}

    def check(found, expected):
        found, expected = (tf.cast(values, tf.float32) for values in (found, expected))
        atol = rounding[implementation] * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)

    rng = np.random.default_rng(0)
    features = [tf.cast(rng.normal(size=[2, 40 >> i, 56 >> i, 8]), dtype) for i in range(3)]
    scales = [1 / 4, 1 / 8, 1 / 16]
    sizes = [None, None, tf.constant([[10, 14], [7, 9]])]
    low = rng.uniform(-20, 150, (30, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 90, (30, 2))], 1).astype(np.float32)
    owners = np.arange(30, dtype=np.int32) % 2
    levels = rng.integers(0, 3, 30).astype(np.int32)
    upstream = tf.cast(rng.normal(size=[30, 7, 7, 8]), dtype)

    @tf.function(autograph=False)
    def pool(features, boxes, owners, levels):
        return roi_align_levels(features, boxes, owners, levels, 7, scales, 0, True, sizes)

    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = pool(features, boxes, owners, levels)
    gradients = tape.gradient(pooled, features, upstream)
    assert pooled.dtype == dtype
    for level, (feature, gradient) in enumerate(zip(features, gradients, strict=True)):
        here = levels == level
        with tf.GradientTape() as tape:
            tape.watch(feature)
            expected = roi_align(
                feature, boxes[here], owners[here], 7, scales[level], 0, True, sizes[level]
            )
        check(pooled[here], expected)
        check(gradient, tape.gradient(expected, feature, upstream[here]))
    assert pool(features, boxes[:0], owners[:0], levels[:0]).shape == [0, 7, 7, 8]


def test_levels_that_are_wrong():
    require_native()
    features = [tf.zeros([1, 8, 8, 4]), tf.zeros([1, 4, 4, 4])]
    boxes, owners = tf.zeros([2, 4]), tf.zeros([2], tf.int32)
    calls = [
        (features, boxes, owners, [0, 2]),
        (features, boxes, owners, [0, -1]),
        (features, boxes, owners, [0]),
        (features, boxes, owners + 1, [0, 1]),
        ([features[0], features[1][..., :3]], boxes, owners, [0, 1]),
        ([features[0], features[1][0]], boxes, owners, [0, 1]),
    ]
    for call in calls:
        with pytest.raises(tf.errors.InvalidArgumentError):
            roi_align_levels(*call, 7, [1 / 4, 1 / 8])
    with pytest.raises(tf.errors.InvalidArgumentError):
        roi_align_levels(*calls[0][:3], [0, 1], 7, [1 / 4])
