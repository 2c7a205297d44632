"""RoIPool against torchvision's, and defined results for boxes that make no sense.

What is pooled is one of the features: equal. Gradients are float32 sums in the order of the boxes,
here as there; the portable ones may be summed in another: 1e-6 of the scale.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import require_native, using_ops
from tests.support.roi_operators import check_nothing
from tfdetect.ops import kernels
from tfdetect.ops.roi_pool import roi_pool, roi_pool_levels


def nhwc(x):
    return np.ascontiguousarray(np.transpose(x, [0, 2, 3, 1]))


def in_graph(*arguments):
    """Faster for the portable form, which loops over the pixels of the largest bin."""
    return tf.function(roi_pool, autograph=False)(*arguments)


@pytest.mark.parametrize("size", ["7x7", "3x5", "1x1"])
@pytest.mark.parametrize("name", ["plain", "ties"])
def test_values_and_gradients(oracle, implementation, name, size):
    data, inputs = oracle("roi_pool"), oracle("roi_align")
    features = nhwc(inputs["feats"])
    features = tf.constant(features.round() if name == "ties" else features)
    rois = data["rois"]
    bins = tuple(map(int, size.split("x")))
    scale = float(inputs["spatial_scale"])
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = in_graph(features, rois[:, 1:], rois[:, 0].astype(np.int32), bins, scale)
    np.testing.assert_array_equal(pooled, nhwc(data[f"{name}_{size}"]))
    gradient = tape.gradient(pooled, features, nhwc(data[f"{name}_{size}_outgrad"]))
    expected = nhwc(data[f"{name}_{size}_ingrad"])
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


HOSTILE = np.array(
    [
        [np.nan, 0, 10, 10],
        [0, 0, np.inf, 10],
        [-np.inf, -np.inf, np.inf, np.inf],
        [50, 50, 10, 10],
        [10, 10, 10, 10],
        [-1e30, -1e30, 1e30, 1e30],
        [3e38, -3e38, 3.4e38, 3e38],
        [1e9, 1e9, 1e9 + 5, 1e9 + 5],
        [-500, -500, -400, -400],
        [7.999, 8, 24, 24.001],  # rounded halves
        [-8, -24, 8, 8],
    ],
    np.float32,
)


def test_hostile_boxes(implementation):
    features = tf.random.stateless_normal([1, 20, 30, 4], [1, 2])
    pooled = in_graph(features, HOSTILE, np.zeros(len(HOSTILE), np.int32), 7, 1 / 16).numpy()
    assert np.isfinite(pooled).all()
    assert not pooled[:3].any()  # not finite
    assert not pooled[7:9].any()  # outside of the map
    assert pooled[3:5].all()  # a pixel at least
    np.testing.assert_array_equal(pooled[5, 3, 3], tf.reduce_max(features, [0, 1, 2]))  # all of it
    np.testing.assert_array_equal(pooled[4], np.broadcast_to(features[0, 1, 1], [7, 7, 4]))


def test_both_implementations_agree_on_hostile_boxes():
    require_native()
    features = tf.random.stateless_normal([1, 20, 30, 4], [1, 2])
    index = np.zeros(len(HOSTILE), np.int32)
    pooled = []
    for name in ("native", "portable"):
        with using_ops(name):
            pooled.append(in_graph(features, HOSTILE, index, 7, 1 / 16))
    np.testing.assert_array_equal(*pooled)


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("images", [0, 1])
def test_nothing(implementation, images, traced):
    check_nothing(roi_pool, 4, images, traced)


def test_not_a_number_is_never_the_largest(implementation):
    features = np.zeros([1, 4, 4, 2], np.float32)
    features[0, 1, 1] = np.nan, 5
    features[0, 2, 2] = -1
    pooled = roi_pool(tf.constant(features), [[0.0, 0, 3, 3]], [0], 1, 1.0)
    np.testing.assert_array_equal(pooled, [[[[0, 5]]]])


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
def test_levels_of_their_own_sizes(implementation, dtype):
    """Each box from its level, as if the image's map had been cut out; the gradient goes there."""
    rng = np.random.default_rng(0)
    features = [tf.cast(rng.normal(size=[2, 40 >> i, 56 >> i, 8]), dtype) for i in range(3)]
    scales = [1 / 4, 1 / 8, 1 / 16]
    sizes = [None, None, tf.constant([[10, 14], [7, 9]])]
    low = rng.uniform(-20, 150, (70, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 90, (70, 2))], 1).astype(np.float32)
    owners = np.arange(70, dtype=np.int32) % 2
    levels = rng.integers(0, 3, 70).astype(np.int32)
    upstream = tf.cast(rng.normal(size=[70, 7, 7, 8]), dtype)

    @tf.function(autograph=False)
    def pool(features, boxes, owners, levels):
        return roi_pool_levels(features, boxes, owners, levels, 7, scales, sizes)

    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = pool(features, boxes, owners, levels)
    gradients = tape.gradient(pooled, features, upstream)
    assert pooled.dtype == dtype
    for level, (feature, gradient) in enumerate(zip(features, gradients, strict=True)):
        assert gradient.dtype == dtype
        for image in (0, 1):
            here = (levels == level) & (owners == image)
            height, width = feature.shape[1:3] if level < 2 else sizes[2][image].numpy()
            alone = feature[image : image + 1, :height, :width]
            with tf.GradientTape() as tape:
                tape.watch(alone)
                expected = roi_pool(alone, boxes[here], owners[here] * 0, 7, scales[level])
            np.testing.assert_array_equal(pooled[here], expected)
            found = gradient[image].numpy().astype(np.float32)
            assert not found[height:].any()
            assert not found[:, width:].any()
            expected = tape.gradient(expected, alone, upstream[here])[0]
            # A few float32 numbers in another order, rounded to the type.
            tolerance = {tf.float32: 1e-5, tf.bfloat16: 2e-2, tf.float16: 3e-3}[dtype]
            np.testing.assert_allclose(
                found[:height, :width], tf.cast(expected, tf.float32), rtol=tolerance, atol=1e-5
            )
    assert pool(features, boxes[:0], owners[:0], levels[:0]).shape == [0, 7, 7, 8]


def test_a_gradient_has_the_same_bits_every_time(implementation):
    """However many threads share the work: training on the CPU is deterministic."""
    features = tf.random.stateless_normal([2, 20, 30, 70], [1, 2])
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 200, (200, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 200, (200, 2))], 1).astype(np.float32)
    upstream = tf.random.stateless_normal([200, 7, 7, 70], [3, 4])
    found = []
    for _ in range(3):
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = roi_pool(features, boxes, np.arange(200, dtype=np.int32) % 2, 7, 1 / 16)
        found.append(tape.gradient(pooled, features, upstream).numpy())
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_native_refuses():
    require_native()
    native = kernels.library()

    def pool(features=(1, 8, 8, 4), boxes=(2, 4), indices=(0, 0), sizes=(0, 2)):
        return native.tfdetect_roi_pool(
            tf.zeros(features), tf.zeros(boxes), tf.constant(indices, tf.int32),
            tf.zeros(sizes, tf.int32), pooled_height=7, pooled_width=7, spatial_scale=0.5,
        )  # fmt: skip

    assert pool()[0].shape == (2, 7, 7, 4)
    for arguments in (
        {"features": (8, 8, 4)},
        {"boxes": (2, 5)},
        {"indices": (0,)},
        {"indices": (0, 1)},
        {"indices": (0, -1)},
        {"sizes": (2, 2)},
        {"sizes": (0, 3)},
    ):
        with pytest.raises(tf.errors.InvalidArgumentError):
            pool(**arguments)
    grad = tf.zeros([2, 7, 7, 4])
    for argmax, indices, shape in (
        (tf.zeros([2, 7, 7, 3], tf.int32), [0, 0], [1, 8, 8, 4]),
        (tf.fill([2, 7, 7, 4], 64), [0, 0], [1, 8, 8, 4]),
        (tf.zeros([2, 7, 7, 4], tf.int32), [0, 1], [1, 8, 8, 4]),
        (tf.zeros([2, 7, 7, 4], tf.int32), [0, 0], [1, 8, 8, 5]),
        (tf.zeros([2, 7, 7, 4], tf.int32), [0, 0], [8, 8, 4]),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError):
            native.tfdetect_roi_pool_grad(grad, argmax, indices, shape)
