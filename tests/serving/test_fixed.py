"""The demo's model for images of one size, in every form, against predict.py's detections.

Boxes and keypoints to 0.001 pixels, scores and mask probabilities to 1e-4: a hundredth, or less, of
what the models of the records are compared at. Other compilers add up in another order (measured:
1e-4 pixels and 1e-5).
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf
from conftest import DEMO, ROOT

import convert_d2.command
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.errors import InputError
from tfdetect.layers.fold import fold_norms
from tfdetect.serving import fixed
from tfdetect.serving.predictor import Predictor

SIZE = (210, 260)
NAMES = ("000000.jpg", "000003.jpg", "000007.jpg")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("fixed") / "model"
    demo = DEMO / "joint_rcnn"
    arguments = ["--config-file", str(demo / "config.yaml"), "--output", str(path)]
    arguments += ["--weights", str(demo / "model_final.pkl")]
    assert convert_d2.command.main(arguments) == 0
    return path


@pytest.fixture(scope="module")
def images():
    """BGR, as Predictor takes them."""
    return [cv2.resize(read_image(DEMO / "images" / name), SIZE[::-1]) for name in NAMES]


@pytest.fixture(scope="module")
def expected(model_dir, images):
    return Predictor(model_dir)(images)


def make(model_dir, batch):
    cfg, model, _ = load_model(model_dir)
    fold_norms(model)
    return fixed.FixedSizePipeline(cfg, model, batch, *SIZE)


def check(found, index, expected):
    """One image of a batch; the masks before they are pasted are compared through IoU elsewhere."""
    count = int(found["num_detections"][index])
    assert count == len(expected)
    assert count > 0
    values = {name: np.asarray(array)[index, :count] for name, array in found.items() if array.ndim}
    values = {name: array for name, array in values.items() if name != "num_detections"}
    np.testing.assert_array_equal(values["pred_classes"], expected.classes)
    differences = {
        "boxes": np.abs(values["pred_boxes"] - expected.boxes).max(),
        "scores": np.abs(values["scores"] - expected.scores).max(),
        "keypoints": np.abs(values["pred_keypoints"] - expected.keypoints)[..., :2].max(),
    }
    print(differences)
    assert differences["boxes"] < 1e-3
    assert differences["scores"] < 1e-4
    assert differences["keypoints"] < 1e-3
    return values


def test_graph(model_dir, images, expected):
    found = make(model_dir, len(images)).detect(np.stack(images)[..., ::-1])
    for index in range(len(images)):
        check(found, index, expected[index])


def test_litert(model_dir, images, expected):
    pipeline = make(model_dir, 1)
    content = fixed.to_litert(pipeline)
    with pytest.warns(UserWarning, match="LiteRT"):  # where the interpreter is moving to
        interpreter = tf.lite.Interpreter(model_content=content)
    operators = {operator["op_name"] for operator in interpreter._get_ops_details()}
    assert not any(name.startswith("Flex") for name in operators)
    run = interpreter.get_signature_runner("serving_default")
    for image, detections in zip(images, expected, strict=True):
        found = run(images=image[None, ..., ::-1])
        values = check(found, 0, detections)
        masks = pipeline.detect(image[None, ..., ::-1])["pred_masks"][0, : len(detections)]
        np.testing.assert_allclose(values["pred_masks"], masks, rtol=0, atol=1e-4)


@pytest.mark.full
def test_xla(model_dir, images, expected):
    found = make(model_dir, len(images)).compiled(np.stack(images)[..., ::-1])
    for index in range(len(images)):
        check(found, index, expected[index])


@pytest.mark.full
def test_onnx(model_dir, images, expected):
    pytest.importorskip("tf2onnx", reason="the extra tfdetect[onnx] is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra tfdetect[onnx]")
    session = onnxruntime.InferenceSession(
        fixed.to_onnx(make(model_dir, 1)), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    for image, detections in zip(images, expected, strict=True):
        arrays = session.run(None, {"images": np.ascontiguousarray(image[None, ..., ::-1])})
        check(dict(zip(names, arrays, strict=True)), 0, detections)


def test_onnx_without_its_converter(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match="pip install"):
        fixed.to_onnx(None)


def test_models_without_fixed_results():
    cfg = load_config(ROOT / "configs" / "Misc" / "semantic_R_50_FPN_1x.yaml")
    with pytest.raises(InputError, match="SemanticSegmentor has no form of one image size"):
        fixed.FixedSizePipeline(cfg, None, 1, *SIZE)
