"""A model of rotated boxes through the converter, Predictor and every form of export.

Forms of fixed shapes compute the IoU in float32, and other compilers add up in another order: boxes
to 0.01 pixels or degrees and 1e-5 of their size, which with these weights goes up to thousands of
pixels; scores to 1e-4.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tensorflow as tf

import convert_d2.command
from tests.support.litert_files import runners
from tests.support.native import IMPLEMENTATIONS, require_native, using_ops
from tests.support.paths import DEMO
from tests.support.rotated_model import NARROW, narrow_model
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.checkpoint.names import named_variables
from tfdetect.data.images import read_image
from tfdetect.data.prediction_record import prediction_to_dict
from tfdetect.export.servable import Servable
from tfdetect.inference import fixed
from tfdetect.inference.optimization import optimize
from tfdetect.inference.predictor import Predictor
from tfdetect.ops.backend import Backend

SMALL = [
    *["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16],
    *["INPUT.MIN_SIZE_TEST", 96, "INPUT.MAX_SIZE_TEST", 160],
    *["MODEL.RPN.PRE_NMS_TOPK_TEST", 40, "MODEL.RPN.POST_NMS_TOPK_TEST", 30],
    *["TEST.DETECTIONS_PER_IMAGE", 12],
]
NAMES = ["000000.jpg", "000002.jpg"]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rotated")
    weights = folder / "model.pkl"
    _, model = narrow_model(SMALL)
    arrays = {named.name: named.to_foreign() for named in named_variables(model)}
    weights.write_bytes(pickle.dumps({"model": arrays}))
    command = ["--config-file", str(NARROW), "--weights", str(weights)]
    command += ["--output", str(folder / "model"), "--opts", *map(str, SMALL)]
    assert convert_d2.command.main(command) == 0
    return folder / "model"


@pytest.fixture(scope="module")
def images():
    return [read_image(DEMO / "images" / name) for name in NAMES]


@pytest.fixture(scope="module")
def expected(model_dir, images):
    return Predictor(model_dir)(images)


def check(found, index, detections, box_atol=1e-2, score_atol=1e-4):
    count = int(found["num_detections"][index])
    assert count == len(detections)
    assert count > 0
    boxes, scores, classes = (
        np.asarray(found[name])[index, :count] for name in ("pred_boxes", "scores", "pred_classes")
    )
    np.testing.assert_array_equal(classes, detections.classes)
    np.testing.assert_allclose(scores, detections.scores, rtol=0, atol=score_atol)
    np.testing.assert_allclose(boxes[:, :4], detections.boxes[:, :4], rtol=1e-5, atol=box_atol)
    turn = np.abs(boxes[:, 4] - detections.boxes[:, 4])
    assert np.minimum(turn, np.abs(turn - 360)).max() < box_atol


def test_predictor(model_dir, images, expected):
    predictor = Predictor(model_dir)
    assert predictor.capabilities.rotated
    for image, detections in zip(images, expected, strict=True):
        alone = predictor(image)
        np.testing.assert_allclose(alone.boxes, detections.boxes, rtol=0, atol=1e-3)
        assert detections.rotated
        assert detections.boxes.shape == (len(detections), 5)
        record = prediction_to_dict("a.jpg", detections)
        np.testing.assert_array_equal(np.array(record["pred_boxes"]), detections.boxes)
        assert (np.abs(detections.boxes[:, 4]) <= 180).all()
    black = predictor(np.zeros([64, 80, 3], np.uint8))
    assert black.boxes.shape == (len(black), 5)


@pytest.mark.full
@pytest.mark.parametrize("ops", IMPLEMENTATIONS)
def test_saved_model(model_dir, images, tmp_path, ops):
    """Beside Predictor with the same operators."""
    if ops == "native":
        require_native()
    with using_ops(ops):
        expected = Predictor(model_dir)(images)
        cfg, model, _ = load_model(model_dir)
        servable = Servable(cfg, model, Backend.for_device("cpu", ops=ops), max_batch=2)
        assert servable.signatures.keys() == {"serving_default", "image_tensor"}
        tf.saved_model.save(servable.root(), str(tmp_path), servable.signatures)
        detect = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
        contents = tf.constant([(DEMO / "images" / name).read_bytes() for name in NAMES])
        found = detect(image_bytes=contents)
    for index, detections in enumerate(expected):
        check(found, index, detections, 1e-3)


@pytest.fixture(scope="module")
def of_one_size(model_dir, images):
    """The pipeline of fixed shapes for the first image."""
    cfg, model, _ = load_model(model_dir)
    height, width = images[0].shape[:2]
    return fixed.FixedSizePipeline(cfg, optimize(model, fixed.BACKEND), 1, height, width)


@pytest.mark.full
def test_fixed_shapes(of_one_size, images, expected):
    check(of_one_size.detect(images[0][None, ..., ::-1]), 0, expected[0])


@pytest.mark.full
def test_litert(of_one_size, images, expected):
    for run in runners(fixed.to_litert(of_one_size)):
        check(run(images=np.ascontiguousarray(images[0][None, ..., ::-1])), 0, expected[0])


@pytest.mark.full
def test_onnx(of_one_size, images, expected):
    pytest.importorskip("tf2onnx", reason="the extra tfdetect[onnx] is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra tfdetect[onnx]")
    content = fixed.to_onnx(of_one_size)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    arrays = session.run(None, {"images": np.ascontiguousarray(images[0][None, ..., ::-1])})
    check(dict(zip(names, arrays, strict=True)), 0, expected[0])


@pytest.mark.full
def test_xla(of_one_size, images, expected):
    check(of_one_size.compiled(images[0][None, ..., ::-1]), 0, expected[0])
