"""The GPU's kernels in TensorFlow: registered wherever they were built; run where there is a GPU.

Without one, cuda/gpu_test.cu is run on the CPU by test_maths.py. Tolerances: sums in another order
than the CPU's, 1e-5 of the largest value, 1e-4 for gradients; NMS, resize and masks exactly.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.kernels import get_registered_kernels_for_op

from tfdetect.ops import kernels
from tfdetect.ops.kernels import build

OPERATORS = [
    "TfdetectRoiAlign",
    "TfdetectRoiAlignGrad",
    "TfdetectRoiPool",
    "TfdetectRoiPoolGrad",
    "TfdetectPointSample",
    "TfdetectPointSampleGrad",
    "TfdetectResizeBilinearUint8",
    "TfdetectNms",
    "TfdetectNmsRotated",
    "TfdetectBoxIouRotated",
    "TfdetectRoiAlignRotated",
    "TfdetectRoiAlignRotatedGrad",
    "TfdetectPasteMasks",
    "TfdetectDecodeKeypoints",
    "TfdetectDeformConv",
    "TfdetectDeformConvGrad",
]


@pytest.fixture(scope="module")
def native():
    toolchain = build.find_toolchain()
    if toolchain is None or toolchain.cuda is None:
        pytest.skip("no nvcc here")
    return kernels.library()


@pytest.mark.parametrize("operator", OPERATORS)
def test_registered_for_both_devices(native, operator):
    devices = {kernel.device_type for kernel in get_registered_kernels_for_op(operator).kernel}
    assert devices == {"CPU", "GPU"}


def random_boxes(rng, count, size):
    low = rng.uniform(-20, size, (count, 2))
    return np.concatenate([low, low + rng.uniform(0, size / 2, (count, 2))], 1).astype(np.float32)


def roi_align(native, rng):
    features = tf.constant(rng.normal(size=[2, 50, 60, 32]).astype(np.float32))
    boxes, indices = random_boxes(rng, 80, 200), rng.integers(0, 2, 80).astype(np.int32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = native.tfdetect_roi_align(
            features, boxes, indices, [[50, 60], [41, 33]], pooled_height=7, pooled_width=7,
            spatial_scale=0.25, sampling_ratio=0, aligned=True,
        )  # fmt: skip
    grad = tf.constant(rng.normal(size=pooled.shape).astype(np.float32))
    return pooled, tape.gradient(pooled, features, grad)


def roi_pool(native, rng):
    features = tf.constant(rng.normal(size=[2, 50, 60, 40]).astype(np.float32))
    boxes, indices = random_boxes(rng, 80, 200), rng.integers(0, 2, 80).astype(np.int32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled, argmax = native.tfdetect_roi_pool(
            features, boxes, indices, [[50, 60], [41, 33]], pooled_height=7, pooled_width=7,
            spatial_scale=0.25,
        )  # fmt: skip
    grad = tf.constant(rng.normal(size=pooled.shape).astype(np.float32))
    return pooled, tape.gradient(pooled, features, grad), argmax


def point_sample(native, rng):
    features = tf.constant(rng.normal(size=[2, 50, 60, 40]).astype(np.float32))
    points, indices = rng.uniform(-0.1, 1.1, (30, 150, 2)), rng.integers(0, 2, 30)
    with tf.GradientTape() as tape:
        tape.watch(features)
        sampled = native.tfdetect_point_sample(
            features, points.astype(np.float32), indices.astype(np.int32), [[50, 60], [41, 33]]
        )
    grad = tf.constant(rng.normal(size=sampled.shape).astype(np.float32))
    return sampled, tape.gradient(sampled, features, grad)


def nms(native, rng):
    boxes, scores = random_boxes(rng, 3000, 300), rng.random(3000, np.float32)
    return (native.tfdetect_nms(boxes, scores, rng.integers(-1, 5, 3000).astype(np.int32), 0.5),)


def rotated_boxes(rng, count):
    limits = [[0, 0, 1, 1, -180], [200, 200, 150, 150, 180]]
    return rng.uniform(*limits, (count, 5)).astype(np.float32)


def nms_rotated(native, rng):
    boxes, scores = rotated_boxes(rng, 1000), rng.random(1000, np.float32)
    ids = rng.integers(-1, 5, 1000).astype(np.int32)
    return (native.tfdetect_nms_rotated(boxes, scores, ids, 0.5),)


def box_iou_rotated(native, rng):
    return (native.tfdetect_box_iou_rotated(rotated_boxes(rng, 50), rotated_boxes(rng, 900)),)


def roi_align_rotated(native, rng):
    features = tf.constant(rng.normal(size=[2, 50, 60, 32]).astype(np.float32))
    boxes, indices = rotated_boxes(rng, 80), rng.integers(0, 2, 80).astype(np.int32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = native.tfdetect_roi_align_rotated(
            features, boxes, indices, [[50, 60], [41, 33]], pooled_height=7, pooled_width=7,
            spatial_scale=0.25, sampling_ratio=0,
        )  # fmt: skip
    grad = tf.constant(rng.normal(size=pooled.shape).astype(np.float32))
    return pooled, tape.gradient(pooled, features, grad)


def resize(native, rng):
    image = rng.integers(0, 256, [70, 90, 3]).astype(np.uint8)
    return tuple(
        native.tfdetect_resize_bilinear_uint8(image, size)
        for size in ([70, 90], [35, 200], [150, 90], [70, 11])
    )


def paste_masks(native, rng):
    masks = rng.random([20, 28, 28], np.float32)
    boxes = random_boxes(rng, 20, 100)
    return (native.tfdetect_paste_masks(masks, boxes, [90, 110], threshold=0.5),)


def decode_keypoints(native, rng):
    heatmaps = rng.normal(size=[9, 56, 56, 17]).astype(np.float32)
    return (native.tfdetect_decode_keypoints(heatmaps, random_boxes(rng, 9, 300)),)


def deform_conv(native, rng):
    shapes = [(2, 17, 19, 32), (2, 17, 19, 36), (2, 17, 19, 18), (3, 3, 16, 24)]
    inputs = [tf.constant(rng.normal(size=shape).astype(np.float32)) for shape in shapes]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = native.tfdetect_deform_conv(
            *inputs, stride=1, padding=1, dilation=1, groups=2, deformable_groups=2
        )
    grad = tf.constant(rng.normal(size=y.shape).astype(np.float32))
    return y, *tape.gradient(y, inputs, grad)


@pytest.mark.parametrize(
    "operator",
    [
        roi_align,
        roi_pool,
        point_sample,
        nms,
        resize,
        paste_masks,
        decode_keypoints,
        deform_conv,
        nms_rotated,
        box_iou_rotated,
        roi_align_rotated,
    ],
)
def test_same_as_on_the_cpu(native, operator):
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("no GPU here")
    results = []
    for device in ("GPU:0", "GPU:0", "CPU:0"):
        with tf.device(device):
            results.append([t.numpy() for t in operator(native, np.random.default_rng(0))])
    for i, (first, second, expected) in enumerate(zip(*results, strict=True)):
        np.testing.assert_array_equal(first, second)  # deterministic
        if expected.dtype != np.float32:
            np.testing.assert_array_equal(first, expected)
            continue
        scale = np.abs(expected).max()
        np.testing.assert_allclose(first, expected, rtol=0, atol=(1e-4 if i else 1e-5) * scale)
