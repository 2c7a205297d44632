"""The compiled operators called directly: recorded values, refusals, shapes, element types.

Tolerances: float32 sums in another order than the reference's, so 1e-5 of the largest value and
1e-4 for gradients; whole numbers, masks and NMS exactly.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.framework import kernel_def_pb2
from tensorflow.python.framework import kernels as registered

from tests.support.native import require_native
from tfdetect.export.saved_model import servable_backend
from tfdetect.ops import kernels
from tfdetect.ops.backend import Backend
from tfdetect.ops.empty_batch import with_nonempty_batch


@pytest.fixture(scope="module")
def native():
    require_native()
    return kernels.library()


@pytest.mark.parametrize(("devices", "said"), [(["CPU"], 1), (["CPU", "GPU"], 0)])
def test_missing_cuda_kernels_are_said_once(native, monkeypatch, capsys, devices, said):
    found = kernel_def_pb2.KernelList(
        kernel=[kernel_def_pb2.KernelDef(device_type=device) for device in devices]
    )
    monkeypatch.setattr(registered, "get_registered_kernels_for_op", lambda name: found)
    monkeypatch.setattr(kernels, "_announced_cuda", False)
    for _ in range(2):
        Backend.for_device("gpu:0", ops="native")
    servable_backend("native", "gpu")
    assert capsys.readouterr().err.count("have no CUDA kernels") == said


def nhwc(x):
    return np.ascontiguousarray(np.transpose(x, [0, 2, 3, 1]))


def assert_close(actual, expected, relative=1e-5):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * np.abs(expected).max())


WHOLE_MAPS = np.zeros([0, 2], np.int32)


def roi_align_attributes(**changes):
    return {
        "pooled_height": 7,
        "pooled_width": 7,
        "spatial_scale": 1 / 16,
        "sampling_ratio": 0,
        "aligned": True,
        **changes,
    }


@pytest.mark.parametrize(("aligned", "ratio"), itertools.product([True, False], [0, 1, 2]))
@pytest.mark.parametrize("size", ["7x7", "14x14", "3x5"])
def test_roi_align(native, oracle, aligned, ratio, size):
    data = oracle("roi_align")
    key = f"aligned{int(aligned)}_sr{ratio}_{size}"
    height, width = map(int, size.split("x"))
    features, rois = tf.constant(nhwc(data["feats"])), data["rois"]
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = native.tfdetect_roi_align(
            features,
            rois[:, 1:],
            rois[:, 0].astype(np.int32),
            WHOLE_MAPS,
            **roi_align_attributes(
                pooled_height=height, pooled_width=width, sampling_ratio=ratio, aligned=aligned
            ),
        )
    assert_close(pooled.numpy(), nhwc(data[key]))
    gradient = tape.gradient(pooled, features, nhwc(data[key + "_outgrad"]))
    assert_close(gradient.numpy(), nhwc(data[key + "_ingrad"]), 1e-4)


@pytest.mark.parametrize(("dtype", "ulp"), [(tf.bfloat16, 2.0**-8), (tf.float16, 2.0**-11)])
def test_roi_align_of_narrow_types(native, oracle, dtype, ulp):
    """Forward and gradient: the float32 result rounded once."""
    data = oracle("roi_align")
    rois = data["rois"]
    grad = nhwc(data["aligned1_sr0_7x7_outgrad"])
    results = []
    for working in (dtype, tf.float32):
        features = tf.cast(tf.cast(nhwc(data["feats"]), dtype), working)
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = native.tfdetect_roi_align(
                features,
                rois[:, 1:],
                rois[:, 0].astype(np.int32),
                WHOLE_MAPS,
                **roi_align_attributes(),
            )
        gradient = tape.gradient(pooled, features, tf.cast(tf.cast(grad, dtype), working))
        assert pooled.dtype == gradient.dtype == working
        results.append([tf.cast(t, tf.float32).numpy() for t in (pooled, gradient)])
    for narrow, wide in zip(*results, strict=True):
        np.testing.assert_allclose(narrow, wide, rtol=ulp, atol=1e-7)


def test_roi_align_is_deterministic(native):
    """Many overlapping regions, summed by all threads: the same bits every time."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 300, (300, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 200, (300, 2))], 1).astype(np.float32)
    grad = rng.normal(size=(300, 7, 7, 16)).astype(np.float32)
    first, *others = [
        native.tfdetect_roi_align_grad(
            grad,
            boxes,
            np.zeros(300, np.int32),
            WHOLE_MAPS,
            [1, 32, 32, 16],
            **roi_align_attributes(),
        ).numpy()
        for _ in range(4)
    ]
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_roi_align_refuses(native):
    def call(features=(2, 4, 4, 3), boxes=(2, 4), indices=(0, 1), sizes=(0, 2), **changes):
        return native.tfdetect_roi_align(
            tf.zeros(features),
            tf.zeros(boxes),
            tf.constant(indices, tf.int32),
            tf.zeros(sizes, tf.int32),
            **roi_align_attributes(**changes),
        )

    assert call().shape == (2, 7, 7, 3)
    for arguments, message in [
        ({"indices": (0, 2)}, r"box_indices\[1\] is 2"),
        ({"indices": (-1, 0)}, r"box_indices\[0\] is -1"),
        ({"indices": (0,)}, "box_indices must have shape"),
        ({"boxes": (2, 5)}, "boxes must have shape"),
        ({"features": (4, 4, 3)}, "features must have shape"),
        ({"sizes": (1, 2)}, "sizes must have shape"),
        ({"sizes": (2, 3)}, "sizes must have shape"),
        ({"sampling_ratio": 10**9}, "sampling_ratio"),
        ({"pooled_height": 0}, "pooled_height"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            call(**arguments)
    with pytest.raises(tf.errors.InvalidArgumentError, match="grad must have shape"):
        native.tfdetect_roi_align_grad(
            tf.zeros([1, 7, 7, 3]),
            tf.zeros([1, 4]),
            [0],
            WHOLE_MAPS,
            [1, 4, 4, 5],
            **roi_align_attributes(),
        )


def test_resize(native, oracle):
    data = oracle("resize")
    for i in range(6):
        expected = data[f"out{i}"]
        resized = native.tfdetect_resize_bilinear_uint8(data[f"in{i}"], expected.shape[:2])
        np.testing.assert_array_equal(resized, expected)


def test_resize_is_pillows(native):
    """Any size to any size, against Pillow itself; exactly."""
    rng = np.random.default_rng(0)
    sizes = [tuple(rng.integers(1, 120, 4)) for _ in range(40)]
    sizes += [(1, 1, 9, 9), (200, 3, 1, 1), (30, 30, 30, 60), (30, 30, 60, 30), (999, 2, 3, 700)]
    for (height, width, new_height, new_width), mode in itertools.product(sizes, ["L", "RGB"]):
        shape = (height, width) if mode == "L" else (height, width, 3)
        image = rng.integers(0, 256, shape).astype(np.uint8)
        picture = Image.fromarray(image).resize(
            (int(new_width), int(new_height)), Image.Resampling.BILINEAR
        )
        resized = native.tfdetect_resize_bilinear_uint8(
            image.reshape(height, width, -1), [new_height, new_width]
        )
        np.testing.assert_array_equal(resized, np.asarray(picture).reshape(resized.shape))


def test_resize_refuses(native):
    assert (
        native.tfdetect_resize_bilinear_uint8(np.zeros([4, 4, 3], np.uint8), [0, 5]).shape[0] == 0
    )
    for shape, size, message in [
        ((0, 4, 3), (2, 2), "image is empty"),
        ((4, 4, 3), (-1, 2), "must not be negative"),
        ((4, 4), (2, 2), r"rank 3|\[H, W, C\]"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            native.tfdetect_resize_bilinear_uint8(np.zeros(shape, np.uint8), size)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_nms(native, oracle, threshold):
    data = oracle("nms")
    boxes, scores = data["boxes"], data["scores"]
    for name, groups in (("nms", np.zeros(len(scores))), ("batched", data["ids"])):
        kept = np.flatnonzero(
            native.tfdetect_nms(boxes, scores, groups.astype(np.int32), threshold)
        )
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        np.testing.assert_array_equal(kept, data[f"{name}_{threshold}"])


def test_nms_compares_with_the_threshold_in_float64(native):
    """As torchvision's CPU operator: 1 / 3 in float32 is greater than 1 / 3."""
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1]], np.float32)
    scores, groups = np.ones(2, np.float32), np.zeros(2, np.int32)
    np.testing.assert_array_equal(native.tfdetect_nms(boxes, scores, groups, 1 / 3), [True, False])
    above = float(np.float32(1 / 3))
    np.testing.assert_array_equal(native.tfdetect_nms(boxes, scores, groups, above), [True, True])


def test_nms_refuses(native):
    for boxes, scores, groups in [((3, 5), 3, 3), ((3, 4), 2, 3), ((3, 4), 3, 2)]:
        with pytest.raises(tf.errors.InvalidArgumentError, match="must have shape"):
            native.tfdetect_nms(
                tf.zeros(boxes), tf.zeros([scores]), tf.zeros([groups], tf.int32), 0.5
            )


def test_paste_masks(native, oracle):
    data = oracle("paste_masks")
    pasted = native.tfdetect_paste_masks(
        data["masks"], data["boxes"], [data["height"], data["width"]], threshold=0.5
    )
    np.testing.assert_array_equal(pasted, data["binary"])


def test_paste_masks_refuses(native):
    for masks, boxes, size in [
        ((2, 5, 6), (2, 4), (3, 3)),
        ((2, 5, 5), (1, 4), (3, 3)),
        ((2, 5, 5), (2, 4), (3, -3)),
        ((2, 5, 5), (2, 3), (3, 3)),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError):
            native.tfdetect_paste_masks(tf.zeros(masks), tf.zeros(boxes), size, threshold=0.5)


def test_decode_keypoints(native, oracle):
    data = oracle("keypoints")
    decoded = native.tfdetect_decode_keypoints(nhwc(data["heatmaps"]), data["boxes"]).numpy()
    for column in range(4):
        assert_close(decoded[..., column], data["decoded"][..., column])


def test_decode_keypoints_of_an_endless_box(native):
    """Both sides far above the limit: seconds at most, and the position is still right."""
    heatmaps = np.random.default_rng(0).normal(size=[1, 56, 56, 1]).astype(np.float32)
    row, column = 20, 51
    heatmaps[0, row, column, 0] = 20
    box = np.array([[-1e9, -1e9, 1e9, 1e9]], np.float32)
    start = time.monotonic()
    x, y, logit, score = native.tfdetect_decode_keypoints(heatmaps, box).numpy()[0, 0]
    assert time.monotonic() - start < 10
    pixel = 2e9 / 56
    assert abs(x - (-1e9 + (column + 0.5) * pixel)) < pixel
    assert abs(y - (-1e9 + (row + 0.5) * pixel)) < pixel
    assert logit >= 20
    assert score > 0


@pytest.mark.parametrize("case", ["v1", "v1_s2_g", "v2", "v2_s2_dil2"])
def test_deform_conv(native, oracle, case):
    data = oracle("deform_conv")
    stride, dilation, groups, deformable_groups = (
        int(v) for v in data[f"{case}_stride_dilation_groups_offsetgroups"]
    )
    mask = data.get(f"{case}_mask")
    inputs = [
        tf.constant(nhwc(data[f"{case}_x"])),
        tf.constant(nhwc(data[f"{case}_offset"])),
        tf.zeros([0]) if mask is None else tf.constant(nhwc(mask)),
        tf.constant(np.transpose(data[f"{case}_w"], [2, 3, 1, 0])),
    ]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = native.tfdetect_deform_conv(
            *inputs,
            stride=stride,
            padding=dilation,
            dilation=dilation,
            groups=groups,
            deformable_groups=deformable_groups,
        )
    assert_close(y.numpy(), nhwc(data[f"{case}_y"]))
    dx, d_offset, d_mask, d_weight = tape.gradient(y, inputs, nhwc(data[f"{case}_dy"]))
    assert_close(dx.numpy(), nhwc(data[f"{case}_dx"]), 1e-4)
    assert_close(d_offset.numpy(), nhwc(data[f"{case}_doffset"]), 1e-4)
    assert_close(d_weight.numpy(), np.transpose(data[f"{case}_dw"], [2, 3, 1, 0]), 1e-4)
    if mask is None:
        assert d_mask.shape == [0]
    else:
        assert_close(d_mask.numpy(), nhwc(data[f"{case}_dmask"]), 1e-4)


@pytest.mark.parametrize("images", [0, 2])
def test_deform_conv_without_offsets_is_a_convolution(native, images):
    """More channels than one run of the kernel holds, and an empty batch."""
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=[images, 9, 11, 150]).astype(np.float32))
    weight = tf.constant(rng.normal(size=[3, 3, 150, 21]).astype(np.float32))
    offset = tf.zeros([images, 5, 6, 18])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, weight])
        y = native.tfdetect_deform_conv(
            x, offset, tf.zeros([0]), weight, stride=2, padding=1, dilation=1, groups=1,
            deformable_groups=1,
        )  # fmt: skip
        # TensorFlow's oneDNN gives an empty batch the channels of its input.
        expected = with_nonempty_batch(
            lambda x: tf.nn.conv2d(x, weight, 2, [[0, 0], [1, 1], [1, 1], [0, 0]]), x
        )
    assert y.shape == expected.shape == (images, 5, 6, 21)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-3)
    for actual, wanted in zip(
        tape.gradient(y, [x, weight]), tape.gradient(expected, [x, weight]), strict=True
    ):
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-3)


def test_deform_conv_refuses(native):
    def call(x=(1, 5, 5, 4), offset=(1, 5, 5, 18), mask=(0,), weight=(3, 3, 4, 2), **changes):
        attributes = {
            "stride": 1, "padding": 1, "dilation": 1, "groups": 1, "deformable_groups": 1,
        }  # fmt: skip
        return native.tfdetect_deform_conv(
            tf.zeros(x), tf.zeros(offset), tf.zeros(mask), tf.zeros(weight),
            **{**attributes, **changes},
        )  # fmt: skip

    assert call().shape == (1, 5, 5, 2)
    for arguments, message in [
        ({"offset": (1, 5, 5, 9)}, "offset must have shape"),
        ({"offset": (1, 4, 5, 18)}, "offset must have shape"),
        ({"mask": (1, 5, 5, 8)}, "mask must have shape"),
        ({"weight": (3, 3, 3, 2)}, "does not fit"),
        ({"weight": (0, 3, 4, 2)}, "without zeros"),
        ({"deformable_groups": 3}, "deformable groups"),
        ({"groups": 4}, "does not fit"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            call(**arguments)


def test_shapes_are_known_while_tracing(native):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 20, None, 8]),
            tf.TensorSpec([None, 4]),
            tf.TensorSpec([None], tf.int32),
        ],
        autograph=False,
    )
    def trace(features, boxes, indices):
        pooled = native.tfdetect_roi_align(
            features, boxes, indices, WHOLE_MAPS, **roi_align_attributes()
        )
        assert pooled.shape.as_list() == [None, 7, 7, 8]
        (gradient,) = tf.gradients(pooled, [features])
        assert gradient.shape.as_list() == [None, 20, None, 8]
        keep = native.tfdetect_nms(boxes, boxes[:, 0], indices, 0.5)
        assert keep.shape.as_list() == [None]
        image = native.tfdetect_resize_bilinear_uint8(tf.zeros([9, 9, 3], tf.uint8), [4, 5])
        assert image.shape == [4, 5, 3]
        masks = native.tfdetect_paste_masks(tf.zeros([6, 28, 28]), boxes, [4, 5], threshold=0.5)
        assert masks.shape == [6, 4, 5]
        keypoints = native.tfdetect_decode_keypoints(tf.zeros([6, 56, 56, 17]), boxes)
        assert keypoints.shape == [6, 17, 4]
        return pooled

    trace.get_concrete_function()
