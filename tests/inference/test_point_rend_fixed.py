"""PointRend for images of one size, in every form, against predict.py's masks and labels.

The same limits as in test_fixed.py, but for the pixels of masks, and for labels: other compilers
round otherwise, and a point that is then chosen, or not, moves a pixel at the edge. One in a
thousand of them.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tests.support.litert_files import runners
from tests.support.paths import DEMO
from tests.support.point_rend import KINDS, narrow_model
from tfdetect.data.images import read_image
from tfdetect.inference import fixed
from tfdetect.inference.optimization import optimize
from tfdetect.inference.pipeline import Pipeline
from tfdetect.ops.backend import Backend
from tfdetect.ops.paste_masks import paste_masks

SIZE = (160, 224)
OPTIONS = ["TEST.DETECTIONS_PER_IMAGE", 12]


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    """The fixed pipeline, the images and what the ordinary pipeline gives of them."""
    cfg, model = narrow_model(request.param, tmp_path_factory.mktemp("config"), OPTIONS)
    names = ("000000.jpg", "000003.jpg")
    images = np.stack([cv2.resize(read_image(DEMO / "images" / n), SIZE[::-1]) for n in names])
    backend = Backend.for_device()
    pipeline = Pipeline(cfg, optimize(model, backend), backend)
    expected = pipeline.detect(tf.constant(images), tf.constant([SIZE] * len(images)))
    network = optimize(model, fixed.BACKEND)
    return (
        lambda batch: fixed.FixedSizePipeline(cfg, network, batch, *SIZE),
        images,
        {name: value.numpy() for name, value in expected.items()},
    )


def check(found, index, expected, image):
    if "sem_seg" in expected:
        ours, theirs = np.asarray(found["sem_seg"])[index], expected["sem_seg"][image]
        assert ours.shape == theirs.shape == SIZE
        assert len(np.unique(theirs)) > 1
        assert (ours != theirs).sum() <= 1e-3 * theirs.size
        return
    count = int(expected["num_detections"][image])
    assert int(found["num_detections"][index]) == count > 2
    ours = {
        name: np.asarray(found[name])[index][:count] for name in found if name != "num_detections"
    }
    theirs = {name: expected[name][image][:count] for name in ours}
    np.testing.assert_array_equal(ours["pred_classes"], theirs["pred_classes"])
    np.testing.assert_allclose(ours["scores"], theirs["scores"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours["pred_boxes"], theirs["pred_boxes"], rtol=0, atol=1e-3)
    pasted, wanted = (
        paste_masks(tf.constant(side["pred_masks"]), tf.constant(side["pred_boxes"]), SIZE).numpy()
        for side in (ours, theirs)
    )
    assert wanted.any()
    assert (pasted != wanted).sum() <= 1e-3 * wanted.sum()


@pytest.mark.full
def test_graph(made):
    make, images, expected = made
    found = make(len(images)).detect(images[..., ::-1])
    for index in range(len(images)):
        check(found, index, expected, index)


@pytest.mark.full
def test_litert(made):
    make, images, expected = made
    for run in runners(fixed.to_litert(make(1))):
        for index, image in enumerate(images):
            check(run(images=image[None, ..., ::-1]), 0, expected, index)


@pytest.mark.full
def test_xla(made):
    make, images, expected = made
    found = make(len(images)).compiled(images[..., ::-1])
    for index in range(len(images)):
        check(found, index, expected, index)


@pytest.mark.full
def test_onnx(made):
    pytest.importorskip("tf2onnx", reason="the extra tfdetect[onnx] is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra tfdetect[onnx]")
    make, images, expected = made
    session = onnxruntime.InferenceSession(
        fixed.to_onnx(make(1)), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    for index, image in enumerate(images):
        arrays = session.run(None, {"images": np.ascontiguousarray(image[None, ..., ::-1])})
        check(dict(zip(names, arrays, strict=True)), 0, expected, index)
