"""The signatures of the demo's SavedModel against predict.py: equal, without a tolerance.

Both run the same operators in the same order on the same machine.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import supervision
import tensorflow as tf

from tests.support.native import require_native
from tests.support.servables import IMAGES, assert_predicted, exported, predicted, write_kinds
from tfdetect.data.images import read_image
from tfdetect.export.servable import _check_answer


@functools.cache
def load(ops):
    return tf.saved_model.load(str(exported(ops).path))


def call(name, ops="portable", **inputs):
    """A signature's outputs as arrays."""
    found = load(ops).signatures[name](**inputs)
    return {key: value.numpy() for key, value in found.items()}


def read(paths):
    return tf.constant([path.read_bytes() for path in paths])


def padded(images):
    sizes = np.array([image.shape[:2] for image in images], np.int32)
    batch = np.zeros([len(images), *sizes.max(0), 3], np.uint8)
    for slot, image in zip(batch, images, strict=True):
        slot[: image.shape[0], : image.shape[1]] = image
    return tf.constant(batch), tf.constant(sizes)


@pytest.mark.parametrize("ops", [pytest.param("native", marks=pytest.mark.full), "portable"])
def test_batch_of_different_sizes(ops):
    """As bytes, as pixels and with pasted masks; one signature, any batch, no further trace."""
    if ops == "native":
        require_native()
    records = predicted(IMAGES, ops)
    images, sizes = padded([read_image(path, "RGB") for path in IMAGES])
    for found in (
        call("serving_default", ops, image_bytes=read(IMAGES)),
        call("image_tensor", ops, images=images, image_sizes=sizes),
        call("full_masks", ops, image_bytes=read(IMAGES)),
    ):
        for index, record in enumerate(records):
            assert len(record["scores"]) > 0
            assert_predicted(found, index, record)
    for signature in load(ops).signatures.values():
        assert isinstance(signature, tf.types.experimental.ConcreteFunction)


@pytest.mark.full
def test_files_of_every_kind(tmp_path):
    """EXIF, grey, CMYK, alpha: alone, each is what predict.py finds in the file."""
    for path in write_kinds(tmp_path):
        (record,) = predicted([path], "portable")
        assert len(record["scores"]) > 0
        assert_predicted(call("serving_default", image_bytes=read([path])), 0, record)


def test_nothing_found():
    """A black image beside another: no detection, zeros in every slot, and no mask to paste."""
    for name in ("serving_default", "full_masks"):
        black = tf.io.encode_png(tf.zeros([60, 90, 3], tf.uint8))
        found = call(name, image_bytes=tf.stack([black]))
        count = found["num_detections"][0]
        shown = found["scores"][0] > 0.9
        assert not shown.any()
        assert not found["pred_boxes"][0, count:].any()
    assert found["pred_masks"].shape == (1, count, 60, 90)


def test_a_damaged_image_is_named_and_the_next_request_works():
    good = IMAGES[0].read_bytes()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image_bytes\[1\] is damaged"):
        call("serving_default", image_bytes=tf.constant([good, good[:3000], good]))
    found = call("serving_default", image_bytes=tf.constant([good]))
    assert_predicted(found, 0, predicted(IMAGES[:1], "portable")[0])


@pytest.mark.parametrize(
    ("count", "reason"), [(0, "batch of no images"), (5, r"\[5\].*more than the 4 of --max-batch")]
)
def test_batches_that_are_refused(count, reason):
    contents = tf.constant([IMAGES[0].read_bytes()] * count, tf.string, [count])
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        call("serving_default", image_bytes=contents)


@pytest.mark.parametrize("sizes", [[[40, 31]], [[0, 30]], [[40, 30], [40, 30]]])
def test_sizes_that_are_refused(sizes):
    with pytest.raises(tf.errors.InvalidArgumentError, match="image_sizes: "):
        call(
            "image_tensor",
            images=tf.zeros([1, 40, 30, 3], tf.uint8),
            image_sizes=tf.constant(sizes),
        )


@pytest.mark.full
def test_od_api_through_supervision():
    """supervision reads it as it reads what a model of TensorFlow Hub gives, called as it loads."""
    image = read_image(IMAGES[0], "RGB")
    (record,) = predicted(IMAGES[:1], "portable")
    count = len(record["scores"])
    results = load("portable")(tf.constant(image[None]))
    named = call("od_api", input_tensor=tf.constant(image[None]))
    height, width = image.shape[:2]
    found = supervision.Detections.from_tensorflow(results, resolution_wh=(width, height))
    assert len(found) == 100  # as many as there are slots, which is so with every such model
    found = found[found.confidence > 0]
    assert len(found) == count
    # float32 there and back: two roundings of a coordinate of hundreds of pixels.
    np.testing.assert_allclose(found.xyxy, record["pred_boxes"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found.confidence, np.float32(record["scores"]))
    np.testing.assert_array_equal(found.class_id, np.array(record["pred_classes"]) + 1)
    keypoints = np.array(record["pred_keypoints"], np.float32)
    normalised = keypoints[..., 1::-1] / np.float32([height, width])
    np.testing.assert_array_equal(named["detection_keypoints"][0, :count], normalised)
    np.testing.assert_array_equal(named["detection_keypoint_scores"][0, :count], keypoints[..., 2])
    assert named["detection_masks"].shape == (1, 100, 28, 28)
    assert all(value.dtype == np.float32 for value in named.values())
    assert named["num_detections"].tolist() == [count]
    assert results.keys() == named.keys()


def test_an_answer_that_would_be_too_large():
    """Full masks hold the largest height and width of a batch, whatever the images have."""
    sizes = tf.constant([[1, 20000], [20000, 1]])
    _check_answer("pred_masks", sizes, 0)
    _check_answer("pred_masks", sizes, 5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="bytes of pred_masks, more than"):
        _check_answer("pred_masks", sizes, 6)
