"""The demo's model for images of one size, in every form, against predict.py's detections.

As it was trained, with RoIAlign, and with RoIPool, which is here for its form of fixed shapes.

Boxes and keypoints to 0.001 pixels, scores to 1e-4, masks in all but 1e-4 of their pixels: other
compilers add up in another order (measured: 1e-4 pixels and 1e-5).
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tests.support.litert_files import runners
from tests.support.paths import DEMO
from tests.support.servables import model_dir
from tfdetect.checkpoint.model_dir import load_model, save_model
from tfdetect.cli import export as export_command
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.errors import InputError
from tfdetect.export.fixed_export import export_fixed
from tfdetect.inference import fixed
from tfdetect.inference.optimization import optimize
from tfdetect.inference.predictor import Predictor
from tfdetect.ops.paste_masks import paste_masks

SIZE = (210, 260)
NAMES = ("000000.jpg", "000003.jpg", "000007.jpg")


@pytest.fixture(scope="module")
def images():
    """BGR, as Predictor takes them."""
    return [cv2.resize(read_image(DEMO / "images" / name), SIZE[::-1]) for name in NAMES]


@pytest.fixture(
    scope="module", params=["ROIAlignV2", pytest.param("ROIPool", marks=pytest.mark.full)]
)
def folder(request, tmp_path_factory):
    """The model's directory."""
    if request.param == "ROIAlignV2":
        return model_dir()
    cfg, model, metadata = load_model(model_dir())
    cfg.defrost()
    for head in ("BOX", "MASK", "KEYPOINT"):
        cfg.MODEL[f"ROI_{head}_HEAD"].POOLER_TYPE = request.param
    folder = tmp_path_factory.mktemp("pool") / "model"
    save_model(folder, cfg, model, metadata)
    return folder


@pytest.fixture(scope="module")
def expected(folder, images):
    return Predictor(folder)(images)


def make(folder, batch):
    cfg, model, _ = load_model(folder)
    return fixed.FixedSizePipeline(cfg, optimize(model, fixed.BACKEND), batch, *SIZE)


def check(found, index, expected):
    """One image of a batch."""
    count = int(found["num_detections"][index])
    assert count == len(expected)
    assert count > 0
    boxes, scores, classes, masks, keypoints = (
        np.asarray(found[name])[index, :count]
        for name in ("pred_boxes", "scores", "pred_classes", "pred_masks", "pred_keypoints")
    )
    np.testing.assert_array_equal(classes, expected.classes)
    pasted = paste_masks(masks, boxes, np.array(SIZE, np.int32)).numpy()
    differences = {
        "boxes": np.abs(boxes - expected.boxes).max(),
        "scores": np.abs(scores - expected.scores).max(),
        "keypoints": np.abs(keypoints - expected.keypoints)[..., :2].max(),
        "pixels of masks": int((pasted != expected.masks).sum()),
    }
    print(differences)
    assert differences["boxes"] < 1e-3
    assert differences["scores"] < 1e-4
    assert differences["keypoints"] < 1e-3
    assert differences["pixels of masks"] <= 1e-4 * expected.masks.sum()


def test_graph(folder, images, expected):
    found = make(folder, len(images)).detect(np.stack(images)[..., ::-1])
    for index in range(len(images)):
        check(found, index, expected[index])


@pytest.mark.full
def test_litert(folder, images, expected, tmp_path):
    path = export_fixed(folder, tmp_path / "folder" / "model.tflite", "litert", 1, *SIZE)
    for run in runners(path.read_bytes()):
        for image, detections in zip(images, expected, strict=True):
            found = run(images=image[None, ..., ::-1])
            check(found, 0, detections)


@pytest.mark.full
def test_xla(folder, images, expected, tmp_path):
    """Written, loaded again, and compiled for its one warm-up request."""
    path = export_fixed(folder, tmp_path / "servable", "xla", len(images), *SIZE)
    assert path == tmp_path / "servable" / "1"
    assert (path / "assets.extra" / "tf_serving_warmup_requests").is_file()
    detect = tf.saved_model.load(str(path)).signatures["serving_default"]
    library = detect.graph.as_graph_def().library.function
    assert any(function.attr["_XlaMustCompile"].b for function in library)
    found = detect(images=tf.constant(np.stack(images)[..., ::-1]))
    for index in range(len(images)):
        check(found, index, expected[index])


@pytest.fixture(scope="module")
def onnx_file(folder):
    """The content of the ONNX file."""
    pytest.importorskip("tf2onnx", reason="the extra tfdetect[onnx] is not installed")
    return fixed.to_onnx(make(folder, 1))


@pytest.mark.full
def test_onnx(onnx_file, images, expected):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra tfdetect[onnx]")
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for image, detections in zip(images, expected, strict=True):
        arrays = session.run(None, {"images": np.ascontiguousarray(image[None, ..., ::-1])})
        check(dict(zip(names, arrays, strict=True)), 0, detections)


@pytest.mark.full
def test_openvino(onnx_file, images, expected):
    """Whose TopK gives equal keys in another order than ONNX says."""
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(onnx_file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    for image, detections in zip(images, expected, strict=True):
        found = compiled(np.ascontiguousarray(image[None, ..., ::-1]))
        check({output.any_name: found[output] for output in compiled.outputs}, 0, detections)


def test_onnx_without_its_converter(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match="pip install"):
        export_fixed(model_dir(), tmp_path / "model.onnx", "onnx", 1, *SIZE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--format", "litert"], "--format litert needs --size"),
        (["--size", "4", "5"], "a SavedModel takes every size"),
        (["--format", "xla", "--size", "4", "5", "--ops", "native"], "for --format saved_model"),
        (["--format", "onnx", "--size", "4", "0"], "0 is not at least 1"),
    ],
)
def test_arguments(capsys, arguments, complaint):
    with pytest.raises(SystemExit, match="2"):
        export_command.main(["--model", "model", "--output", "output", *arguments])
    assert complaint in capsys.readouterr().err


def test_models_without_fixed_results():
    cfg = load_config("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x")
    with pytest.raises(InputError, match="PanopticFPN cannot be exported for one image size"):
        fixed.FixedSizePipeline(cfg, None, 1, *SIZE)
