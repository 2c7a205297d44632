"""The signatures of models that are no R-CNN with masks, narrow and with seeded weights."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import seeded_weights
from tests.support import dense_models
from tests.support.intermediates import by_name
from tests.support.paths import DEMO, ROOT
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.export.servable import Servable
from tfdetect.inference.optimization import optimize
from tfdetect.ops.backend import Backend

CONFIGS = {
    **dense_models.CONFIGS,
    "rpn": "COCO-Detection/rpn_R_50_FPN_1x",
    "fast_rcnn": "COCO-Detection/fast_rcnn_R_50_FPN_1x",
}
IMAGES = [DEMO / "images" / name for name in ("000001.jpg", "000002.jpg")]
DETECTIONS = {"pred_boxes", "scores", "pred_classes", "num_detections"}
SEGMENTS = {"num_segments", "panoptic_seg"} | {
    f"segment_{name}" for name in ("category_ids", "isthing", "areas", "scores", "instance_ids")
}
OUTPUTS = {
    "retinanet": DETECTIONS,
    "fcos": DETECTIONS,
    "semantic": {"sem_seg"},
    "panoptic": DETECTIONS | SEGMENTS | {"pred_masks", "sem_seg"},
    "rpn": DETECTIONS,
    "fast_rcnn": DETECTIONS,
}
SLOW = ("fcos", "semantic", "rpn")
SIGNATURES = {
    "retinanet": {"serving_default", "image_tensor", "od_api"},
    "fcos": {"serving_default", "image_tensor", "od_api"},
    "semantic": {"serving_default", "image_tensor"},
    "panoptic": {"serving_default", "image_tensor", "full_masks", "od_api"},
    "rpn": {"serving_default", "image_tensor"},
    "fast_rcnn": {"serving_default", "image_tensor"},
}


@functools.lru_cache(maxsize=1)
def make(name, dtype="float32"):
    options = [str(item) for pair in dense_models.NARROW.items() for item in pair]
    cfg = load_config(ROOT / "configs" / f"{CONFIGS[name]}.yaml", options)
    backend = Backend.for_device("cpu", dtype=dtype)
    return Servable(cfg, seeded_weights.seeded_model(cfg), backend, max_batch=2)


def proposals(name):
    if name != "fast_rcnn":
        return {}
    boxes = np.array([[[10, 10, 90, 120], [60, 30, 200, 160], [0, 0, 50, 50]]] * 2, np.float32)
    return {"proposals": tf.constant(boxes), "num_proposals": tf.constant([3, 2])}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.full] if n in SLOW else []) for n in CONFIGS],
)
def test_bytes_and_pixels(name):
    """Both give the pipeline's results, exactly, of two images in a batch."""
    servable = make(name)
    assert servable.signatures.keys() == SIGNATURES[name]
    images = [read_image(path) for path in IMAGES]
    sizes = np.array([image.shape[:2] for image in images], np.int32)
    batch = np.zeros([2, *sizes.max(0), 3], np.uint8)
    for slot, image in zip(batch, images, strict=True):
        slot[: image.shape[0], : image.shape[1]] = image
    more = proposals(name)
    contents = tf.constant([path.read_bytes() for path in IMAGES])
    expected = servable.pipeline.detect(batch, sizes, *more.values())
    found = servable.signatures["serving_default"](contents, *more.values())
    np.testing.assert_array_equal(found.pop("image_sizes"), sizes)
    pixels = servable.signatures["image_tensor"](batch[..., ::-1], sizes, *more.values())
    assert found.keys() == pixels.keys() == OUTPUTS[name]
    for key, values in found.items():
        np.testing.assert_array_equal(values, pixels[key])
        if key in DETECTIONS - {"num_detections"} | {"pred_masks"}:
            for image, count in enumerate(found["num_detections"].numpy()):
                np.testing.assert_array_equal(values[image, :count], expected[key][image, :count])
                assert not values[image, count:].numpy().any()
        else:
            np.testing.assert_array_equal(values, expected[key])
    if "num_detections" in found:
        assert (found["num_detections"].numpy() > 0).all()


def test_proposals_that_are_refused():
    servable = make("fast_rcnn")
    content = tf.constant([IMAGES[0].read_bytes()])
    boxes = tf.zeros([1, 3, 4])
    for given, counts in ((boxes, [4]), (boxes, [3, 3]), (tf.zeros([2, 3, 4]), [3])):
        with pytest.raises(tf.errors.InvalidArgumentError, match="proposals"):
            servable.signatures["serving_default"](content, given, tf.constant(counts))


def test_bfloat16_is_stored_as_it_is_computed():
    """Weights in bfloat16 give what float32 ones give to bfloat16 features, bit for bit."""
    _, model = dense_models.make("retinanet")
    image = tf.constant(np.random.default_rng(0).normal(size=[1, 96, 128, 3]), tf.float32)
    sizes = tf.constant([[96, 128]])
    image = tf.cast(image, tf.bfloat16)
    expected = by_name(optimize(model, Backend())(image, sizes))
    found = by_name(optimize(model, Backend(dtype="bfloat16"))(image, sizes))
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values)
