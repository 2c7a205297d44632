"""The forms of fixed shapes against the ordinary portable ones, as a graph and through XLA."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.ops.backend import Backend, current_backend
from tfdetect.ops.deform_conv import deform_conv
from tfdetect.ops.fixed import roi_align as fixed_roi_align
from tfdetect.ops.fixed.roi_align import pool_levels
from tfdetect.ops.keypoints import decode_keypoints
from tfdetect.ops.nms import best_after_nms, top_k
from tfdetect.ops.resize import resize_bilinear_uint8
from tfdetect.ops.roi_align import roi_align
from tfdetect.ops.roi_pool import roi_pool_levels


@pytest.fixture(params=["graph", "xla"])
def fixed(request):
    """Call a function of arrays with its shapes fixed."""

    def call(function, *arrays):
        def traced(*tensors):
            with Backend(fixed_shapes=True).active():
                return function(*tensors)

        compiled = tf.function(traced, autograph=False, jit_compile=request.param == "xla")
        return compiled(*(tf.constant(array) for array in arrays))

    return call


def ordinary(function, *arrays):
    with Backend().active():
        return function(*arrays)


def random_boxes(rng, shape, size):
    low = rng.uniform(0, size, [*shape, 2])
    high = np.minimum(low + rng.uniform(0, size / 2, [*shape, 2]), size)
    return np.concatenate([low, high], -1).astype(np.float32)


def test_it_ends_with_its_block():
    with Backend(fixed_shapes=True).active():
        assert current_backend().fixed_shapes
    assert not current_backend().fixed_shapes


def test_best_after_nms(fixed):
    """The same, with equal scores, NaN, infinite and empty boxes, and fewer than asked for."""
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, [3, 200], 100)
    boxes[0, :4] = [np.nan, np.inf, 0, 5]
    boxes[0, 4] = boxes[0, 5] = 7
    scores = rng.normal(size=[3, 200]).round(1).astype(np.float32)
    scores[1, ::2] = -np.inf
    scores[1, 3] = np.nan
    scores[2] = -np.inf
    groups = rng.integers(0, 3, [3, 200]).astype(np.int32)

    def select(boxes, scores, groups):
        return best_after_nms(boxes, scores, groups, 0.3, 150)

    indices, counts = fixed(select, boxes, scores, groups)
    expected_indices, expected_counts = ordinary(select, boxes, scores, groups)
    assert 0 < expected_counts[1] < expected_counts[0] < 150
    assert expected_counts[2] == 0
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_array_equal(indices, expected_indices)


def test_best_after_nms_of_few(fixed):
    """A few of many boxes: of the best ones, of all where those suppress each other, of none."""
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, [5, 200], 100)
    scores = rng.normal(size=[5, 200]).round(1).astype(np.float32)
    groups = rng.integers(0, 3, [5, 200]).astype(np.int32)
    boxes[1], groups[1] = [0, 0, 9, 9], 0
    best = np.argsort(-scores[2])[:40]
    boxes[2, best], groups[2, best], scores[2, best] = [200, 200, 209, 209], 0, 9.0
    scores[3, 2:] = -np.inf
    scores[4] = -np.inf

    def select(boxes, scores, groups):
        return best_after_nms(boxes, scores, groups, 0.3, 4)

    indices, counts = fixed(select, boxes, scores, groups)
    expected_indices, expected_counts = ordinary(select, boxes, scores, groups)
    assert list(expected_counts) == [4, 1, 4, 2, 0]
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_array_equal(indices, expected_indices)


def test_roi_pool(fixed):
    """Exactly; more boxes than are pooled together, one pixel, a NaN, one as large as the image."""
    rng = np.random.default_rng(1)
    features = [
        rng.uniform(0, 1, [2, 128 // stride, 160 // stride, 3]).astype(np.float32)
        for stride in (4, 8)
    ]
    boxes = random_boxes(rng, [70], 128)
    boxes[:3] = [[5, 5, 5, 5], [0, np.nan, 9, 9], [0, 0, 160, 128]]
    indices = rng.integers(0, 2, 70).astype(np.int32)
    levels = rng.integers(0, 2, 70).astype(np.int32)

    def pool(first, second, boxes, indices, levels):
        return roi_pool_levels([first, second], boxes, indices, levels, 7, [1 / 4, 1 / 8])

    arguments = (*features, boxes, indices, levels)
    np.testing.assert_array_equal(fixed(pool, *arguments), ordinary(pool, *arguments))


@pytest.mark.parametrize(
    ("sampling_ratio", "aligned"), [(0, True), (1, True), (2, False), (2, True), (3, False)]
)
def test_pool_levels(fixed, sampling_ratio, aligned, monkeypatch):
    """To 1e-5 of features of size 1: the rounding of a sample's position, times the slope there.

    More boxes than are pooled together; a box without area, a NaN, one as large as the image.
    """
    monkeypatch.setattr(fixed_roi_align, "_BINS", 30 * 5 * 5)
    rng = np.random.default_rng(1)
    scales = [1 / 4, 1 / 8]
    features = [
        rng.uniform(0, 1, [2, 128 // stride, 160 // stride, 3]).astype(np.float32)
        for stride in (4, 8)
    ]
    boxes = random_boxes(rng, [70], 128)
    boxes[:3] = [[5, 5, 5, 5], [0, np.nan, 9, 9], [0, 0, 160, 128]]
    indices = rng.integers(0, 2, 70).astype(np.int32)
    levels = rng.integers(0, 2, 70).astype(np.int32)

    def pool(first, second, boxes, indices, levels):
        return pool_levels(
            [first, second], boxes, indices, levels, 5, scales, sampling_ratio, aligned
        )

    pooled = fixed(pool, *features, boxes, indices, levels).numpy()
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        here = levels == level
        expected = ordinary(
            lambda *arrays, scale=scale: roi_align(*arrays, 5, scale, sampling_ratio, aligned),
            feature,
            boxes[here],
            indices[here],
        )
        np.testing.assert_allclose(pooled[here], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("boxes", "batch"), [(70, 1), (900, 4)])
def test_pool_levels_without_a_loop(boxes, batch):
    """Which LiteRT would copy the maps for; reads wait for the part before them."""
    features = [tf.TensorSpec([batch, 16 // stride, 24 // stride, 3]) for stride in (1, 2)]
    of_boxes = [tf.TensorSpec([boxes, 4])] + 2 * [tf.TensorSpec([boxes], tf.int32)]

    @tf.function(input_signature=features + of_boxes, autograph=False)
    def pool(first, second, boxes, indices, levels):
        with Backend(fixed_shapes=True).active():
            return pool_levels([first, second], boxes, indices, levels, 14, [1, 1 / 2], 2, True)

    operations = pool.get_concrete_function().graph.get_operations()
    assert not any("While" in op.type for op in operations)
    reads = [op for op in operations if op.type == "GatherV2" and op.outputs[0].shape.rank == 4]
    parts = min(16, -(-boxes // 20))
    assert len(reads) == 16 * parts
    assert not any(depends_on(reads[0], read) for read in reads[1:])
    assert depends_on(reads[16], reads[0])
    assert depends_on(reads[-1], reads[16])


def depends_on(operation, other):
    seen, todo = {operation.name}, [operation]
    while todo:
        inputs = {tensor.op.name: tensor.op for tensor in todo.pop().inputs}
        todo += [op for name, op in inputs.items() if name not in seen]
        seen |= set(inputs)
    return other.name in seen


def test_decode_keypoints(fixed):
    """To 1e-4 pixels; a constant map, an empty box, a NaN, boxes larger than a tile."""
    rng = np.random.default_rng(2)
    heatmaps = rng.normal(size=[6, 14, 14, 3]).astype(np.float32)
    heatmaps[0] = 0
    boxes = random_boxes(rng, [6], 60)
    boxes[0] = [0, 0, 100, 150]
    boxes[1] = 0
    boxes[2, 0] = np.nan
    boxes[3] = [10, 20, 163, 71]
    decoded = fixed(decode_keypoints, heatmaps, boxes)
    expected = ordinary(decode_keypoints, heatmaps, boxes)
    np.testing.assert_allclose(decoded, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", [(13, 40), (37, 29)])
def test_resize(fixed, size):
    image = np.random.default_rng(3).integers(0, 256, [37, 29, 3]).astype(np.uint8)

    def resize(image):
        return resize_bilinear_uint8(image, np.array(size, np.int32))

    np.testing.assert_array_equal(fixed(resize, image), ordinary(resize, image))


def test_resize_has_no_loop():
    """Which OpenVINO does not read from ONNX."""

    def resize(image):
        with Backend(fixed_shapes=True).active():
            return resize_bilinear_uint8(image, np.array([13, 40], np.int32))

    graph = tf.function(resize, [tf.TensorSpec([97, 29, 3], tf.uint8)], autograph=False)
    operations = {op.type for op in graph.get_concrete_function().graph.get_operations()}
    assert "Gather" in {name.removesuffix("V2") for name in operations}
    assert not any("While" in name for name in operations)


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("k", [1, 17, 50, 80])
def test_top_k(k, order, monkeypatch):
    """Equal values by index, though TopK gives the last of equal ones first."""
    values = np.random.default_rng(5).integers(0, 9, [3, 50]).astype(np.float32)
    values[0, ::3], values[1, ::4], values[2] = np.inf, -np.inf, 7
    values[0, 1] = np.nan
    expected = [array.numpy() for array in ordinary(lambda x: top_k(x, k), values)]

    def last_first(keys, k):
        shift = keys.shape[-1] - 1
        best, indices = real(keys[..., ::-1], k)
        return best, shift - indices

    real = tf.math.top_k
    if order == "last":
        monkeypatch.setattr(tf.math, "top_k", last_first)
    with Backend(fixed_shapes=True).active():
        found = top_k(tf.constant(values), k)
    for array, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, reference)


def test_deform_conv(fixed):
    """The ordinary portable form, which XLA compiles: to 1e-5 of sums of 36 terms of size 1."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=[1, 9, 7, 4]).astype(np.float32)
    offset = rng.normal(size=[1, 9, 7, 36]).astype(np.float32)
    mask = rng.uniform(size=[1, 9, 7, 18]).astype(np.float32)
    weight = rng.normal(size=[3, 3, 2, 6]).astype(np.float32)

    def convolve(*arrays):
        return deform_conv(*arrays, padding=1, groups=2, deformable_groups=2)

    convolved = fixed(convolve, x, offset, mask, weight)
    expected = ordinary(convolve, x, offset, mask, weight)
    np.testing.assert_allclose(convolved, expected, rtol=0, atol=1e-5)
