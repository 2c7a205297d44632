"""RoIAlign of rotated boxes against Detectron2's, and defined results for boxes without sense.

Tolerance of the values 3e-5, where a box that moves by half an ulp changes them less than 1e-4
(`_floor`); of gradients the same of the scale, where every box counts.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import require_native, using_ops
from tests.support.roi_operators import check_as_if_cut_out, check_nothing, check_sums_in_float32
from tests.support.rotated import record
from tfdetect.modeling.roi_heads.pooler import RoIPooler, assign_levels
from tfdetect.ops.backend import Backend
from tfdetect.ops.roi_align_rotated import roi_align_rotated

CASES = ["sr0_7x7", "sr0_3x5", "sr0_1x1", "sr1_7x7", "sr2_7x7", "sr2_3x5"]


def nhwc(x):
    return np.ascontiguousarray(np.transpose(x, [0, 2, 3, 1]))


@pytest.fixture(scope="module")
def data():
    return record("roi_align_rotated")


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(data, implementation, case):
    ratio, _, size = case.partition("_")
    rois, steady = data["rois"], data[f"{case}_floor"] < 1e-4
    features = tf.constant(nhwc(data["feats"]))
    outgrad = nhwc(data[f"{case}_outgrad"])
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = roi_align_rotated(
            features,
            rois[:, 1:],
            rois[:, 0].astype(np.int32),
            tuple(map(int, size.split("x"))),
            float(data["spatial_scale"]),
            int(ratio[2:]),
        )
    expected = nhwc(data[case])
    assert steady.mean() > 0.8
    np.testing.assert_allclose(pooled[steady], expected[steady], rtol=0, atol=3e-5)
    gradient = tape.gradient(pooled, features, outgrad)
    expected = nhwc(data[f"{case}_ingrad"])
    if steady.all():
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=3e-5 * np.abs(expected).max())
    # That of the output's changes is the change of the output: linear in both.
    np.testing.assert_allclose(
        tf.reduce_sum(gradient * features), tf.reduce_sum(pooled * outgrad), rtol=1e-4, atol=1e-3
    )


HOSTILE = np.array(
    [
        [np.nan, 0, 10, 10, 0],
        [0, 0, np.inf, 10, 0],
        [0, 0, 10, 10, np.nan],
        [0, 0, -10, 10, 0],
        [0, 0, 10, -10, 30],
        [1e9, 1e9, 50, 50, 10],
        [-500, -500, 100, 100, 45],
        [100, 100, 0, 50, 20],
        [100, 100, 1e-30, 1e-30, 20],
        [100, 100, 1e9, 1e9, 45],
        [100, 100, 3e38, 3e38, 0],
        [100, 100, 1e6, 1, 33],
        [100, 100, 50, 50, 1e30],
    ],
    np.float32,
)


@pytest.mark.parametrize("ratio", [0, 2])
def test_hostile_boxes(implementation, ratio):
    features = tf.random.stateless_normal([1, 20, 30, 4], [1, 2])
    index = np.zeros(len(HOSTILE), np.int32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = roi_align_rotated(features, HOSTILE, index, 7, 1 / 16, ratio)
    assert np.isfinite(tape.gradient(pooled, features)).all()
    pooled = pooled.numpy()
    assert np.isfinite(pooled).all()
    assert not pooled[:7].any()  # not finite, of a negative length, outside of the map
    if ratio == 0:
        assert not pooled[7].any()


@pytest.mark.parametrize("in_graph", [True, False])
@pytest.mark.parametrize("images", [0, 1])
def test_nothing(implementation, images, in_graph):
    check_nothing(roi_align_rotated, 5, images, in_graph)


def random_boxes(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform([-60, -60, 1, 1, -200], [460, 360, 300, 300, 200], (count, 5)).astype(
        np.float32
    )


@pytest.mark.parametrize("ratio", [0, 2])
def test_maps_of_their_own_sizes(implementation, ratio):
    """Each image as if its map had been cut out, gradient included: 1e-6 of the scale.

    TensorFlow's sine of a box depends on its place in the tensor, by an ulp: 1e-5 there.
    """
    atol = 1e-6 if implementation == "native" else 1e-5
    sizes = np.array([[20, 30], [7, 11]], np.int32)
    features = tf.random.stateless_normal([2, 20, 30, 8], [1, 2])
    boxes, owners = random_boxes(24), np.arange(24, dtype=np.int32) % 2
    arguments = (7, 1 / 16, ratio)
    check_as_if_cut_out(roi_align_rotated, features, boxes, owners, sizes, arguments, atol=atol)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_narrow_types_sum_in_float32(data, implementation, dtype):
    check_sums_in_float32(
        roi_align_rotated, nhwc(data["feats"]), data["rois"], data["spatial_scale"], dtype
    )


def test_the_native_gradient_does_not_depend_on_threads_and_checks_its_inputs():
    require_native()
    features = tf.random.stateless_normal([1, 40, 60, 16], [1, 2])
    boxes, owners = random_boxes(50), np.zeros(50, np.int32)

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = roi_align_rotated(features, boxes, owners, 7, 1 / 8)
        return tape.gradient(pooled, features, pooled)

    with using_ops("native"):
        np.testing.assert_array_equal(gradient(), gradient())
        for wrong in ((boxes[:, :4], owners), (boxes, owners[:3]), (boxes, owners + 1)):
            with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
                roi_align_rotated(features, *wrong, 7, 1 / 8)


def pooled_by_pooler(arrays, ratio, size, levels=(2, 3, 4, 5)):
    features = [tf.constant(nhwc(arrays[f"p{level}"])) for level in levels]
    boxes = [arrays["boxes0"], arrays["boxes1"]]
    owners = np.repeat(np.array([0, 1], np.int32), [len(b) for b in boxes])
    strides = [2**level for level in levels]
    pooler = RoIPooler("MODEL.ROI_BOX_HEAD", "ROIAlignRotated", size, ratio, strides, rotated=True)
    return pooler(features, tf.constant(np.concatenate(boxes)), tf.constant(owners))


@pytest.mark.parametrize(("ratio", "size"), [(0, 7), (2, 3)])
@pytest.mark.parametrize("fixed", [False, True])
def test_pooler(implementation, ratio, size, fixed):
    """Of all levels, also with fixed shapes: 3e-5."""
    arrays = record("roi_pooler")
    if fixed and implementation == "native":
        pytest.skip("fixed shapes are portable")
    boxes = tf.concat([arrays["boxes0"], arrays["boxes1"]], 0)
    np.testing.assert_array_equal(assign_levels(boxes, 2, 5) - 2, arrays["levels"])
    if fixed:
        with Backend(fixed_shapes=True).active():
            pooled = pooled_by_pooler(arrays, ratio, size)
    else:
        pooled = pooled_by_pooler(arrays, ratio, size)
    np.testing.assert_allclose(pooled, nhwc(arrays[f"sr{ratio}_{size}"]), rtol=0, atol=3e-5)


def test_pooler_of_one_level(implementation):
    arrays = record("roi_pooler")
    pooled = pooled_by_pooler(arrays, 2, 7, [4])
    np.testing.assert_allclose(pooled, nhwc(arrays["single_level_sr2_7"]), rtol=0, atol=3e-5)


def test_implementations_agree_on_hostile_boxes():
    """float32 positions of huge boxes are known to a thousandth of a feature-map pixel."""
    require_native()
    features = tf.random.stateless_normal([1, 20, 30, 4], [1, 2])
    index = np.zeros(len(HOSTILE) - 1, np.int32)
    for ratio in (0, 2):
        pooled = []
        for name in ("native", "portable"):
            with using_ops(name):
                pooled.append(roi_align_rotated(features, HOSTILE[:-1], index, 7, 1 / 16, ratio))
        np.testing.assert_allclose(*pooled, rtol=0, atol=1e-2)
