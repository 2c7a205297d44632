"""RetinaNet and FCOS for images of one size, narrow with seeded weights, against the pipeline.

Boxes to 0.001 pixels and scores to 1e-4, as in test_fixed.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.dense_models import make
from tests.support.litert_files import runners
from tfdetect.inference import fixed
from tfdetect.inference.optimization import optimize
from tfdetect.inference.pipeline import Pipeline
from tfdetect.ops.backend import Backend

HEIGHT, WIDTH = 90, 120


@pytest.fixture(scope="module", params=["retinanet", "fcos"])
def forms(request):
    """An image, RGB, what the pipeline finds in it, and the pipeline of one size."""
    cfg, model = make(request.param)
    image = np.random.default_rng(0).integers(0, 256, [1, HEIGHT, WIDTH, 3], np.uint8)
    backend = Backend()
    expected = Pipeline(cfg, optimize(model, backend), backend).detect(
        image[..., ::-1], np.array([[HEIGHT, WIDTH]], np.int32)
    )
    assert expected["num_detections"][0] > 2
    pipeline = fixed.FixedSizePipeline(cfg, optimize(model, fixed.BACKEND), 1, HEIGHT, WIDTH)
    return image, expected, pipeline


def check(found, expected):
    count = int(expected["num_detections"][0])
    assert int(np.asarray(found["num_detections"])[0]) == count
    for name, tolerance in (("pred_classes", 0), ("scores", 1e-4), ("pred_boxes", 1e-3)):
        values = np.asarray(found[name])[0, :count]
        np.testing.assert_allclose(values, expected[name][0, :count], rtol=0, atol=tolerance)


@pytest.mark.full
def test_graph(forms):
    image, expected, pipeline = forms
    check(pipeline.detect(image), expected)


@pytest.mark.full
def test_litert(forms):
    image, expected, pipeline = forms
    for run in runners(fixed.to_litert(pipeline)):
        check(run(images=image), expected)


@pytest.mark.full
def test_onnx(forms):
    pytest.importorskip("tf2onnx", reason="the extra tfdetect[onnx] is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra tfdetect[onnx]")
    image, expected, pipeline = forms
    session = onnxruntime.InferenceSession(
        fixed.to_onnx(pipeline), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    check(dict(zip(names, session.run(None, {"images": image}), strict=True)), expected)
