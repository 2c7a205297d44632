"""Narrow transformer detectors in every form they run in.

A ViT with windows, a global block and convolutions; an MViT with windows, global blocks and
absolute positions; a Swin with shifted windows and absolute positions, of images in squares.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model
from tests.support.comparison import compare
from tests.support.litert_files import runners
from tests.support.mvit import NARROW as NARROW_MVIT
from tests.support.native import require_native
from tests.support.paths import DATA, ROOT
from tests.support.swin import NARROW as NARROW_SWIN
from tests.support.vit import NARROW as NARROW_VIT
from tests.support.whole_models import found_record, on_given_boxes
from tfdetect.checkpoint.model_dir import save_model
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.export.fixed_export import to_litert, to_onnx
from tfdetect.export.saved_model import export_model, export_savedmodel, servable_backend
from tfdetect.inference.fixed import BACKEND, FixedSizePipeline
from tfdetect.inference.optimization import optimize
from tfdetect.inference.pipeline import Pipeline
from tfdetect.inference.predictor import Predictor
from tfdetect.modeling.preprocess import Preprocessor
from tfdetect.ops.backend import Backend

CONFIG = ROOT / "configs" / "COCO-InstanceSegmentation" / "mask_rcnn_R_50_FPN_1x.yaml"


@pytest.fixture(
    scope="module",
    params=[NARROW_VIT, NARROW_MVIT, pytest.param(NARROW_SWIN, marks=pytest.mark.full)],
    ids=["vit", "mvit", "swin"],
)
def model(request):
    cfg = load_config(CONFIG, request.param)
    return cfg, seeded_model(cfg)


@pytest.fixture(scope="module")
def images():
    """BGR."""
    return read_image(DATA / "full" / "coffee.png")[None, ::2, ::2, ::-1]


def detect(model, images, **backend):
    cfg, trained = model
    made = Backend(**backend)
    sizes = tf.constant([images.shape[1:3]])
    return Pipeline(cfg, optimize(trained, made), made).detect(tf.constant(images), sizes)


@pytest.fixture(scope="module")
def expected(model, images):
    return detect(model, images[..., ::-1])


@pytest.fixture(scope="module")
def fixed_size(model, images):
    cfg, trained = model
    return FixedSizePipeline(cfg, optimize(trained, BACKEND), 1, *images.shape[1:3])


def check(found, expected):
    """Boxes within 0.002 pixels, scores within 1e-4: other compilers add up in another order."""
    count = int(expected["num_detections"][0])
    assert int(np.asarray(found["num_detections"])[0]) == count > 20
    for name, atol in (("pred_boxes", 2e-3), ("scores", 1e-4), ("pred_classes", 0)):
        values = np.asarray(found[name])[0, :count]
        np.testing.assert_allclose(values, expected[name][0, :count], rtol=0, atol=atol)


def test_one_size(fixed_size, images, expected):
    check(fixed_size.detect(tf.constant(images)), expected)


@pytest.mark.full
def test_xla(fixed_size, images, expected):
    check(fixed_size.compiled(tf.constant(images)), expected)


@pytest.mark.full
def test_litert(fixed_size, images, expected):
    for run in runners(to_litert(fixed_size)):
        check(run(images=images), expected)


@pytest.mark.full
def test_onnx(fixed_size, images, expected):
    pytest.importorskip("tf2onnx")
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(to_onnx(fixed_size))
    names = [output.name for output in session.get_outputs()]
    values = session.run(None, {session.get_inputs()[0].name: images})
    check(dict(zip(names, values, strict=True)), expected)


@pytest.mark.full
def test_bfloat16(model, images, expected):
    """Levels, and the heads on the same boxes, within 3 % of their standard deviation, as one.

    A number of bfloat16 has an error of up to 0.4 %, which some blocks add up to 0.7 % (ViT) and
    1.5 % (MViT), and the heads to 1.6 %. Of the same proposals come the same detections, but where
    NMS is close (1 of MViT's 100). Of its own proposals, of which random weights give thousands
    nearly the same logit, only the count is compared.
    """
    cfg, trained = model
    found = detect(model, images[..., ::-1], dtype="bfloat16")
    assert abs(found["num_detections"] - expected["num_detections"])[0] <= 10
    preprocess = Preprocessor.from_config(cfg, trained.size_divisibility)
    batch, sizes = preprocess(images[..., ::-1], np.array([images.shape[1:3]], np.int32))
    proposals, tensors, records = None, [], []
    for dtype in ("float32", "bfloat16"):
        backend = Backend(dtype=dtype)
        with backend.active():
            optimized = optimize(trained, backend)
            features = optimized.backbone(tf.cast(batch, dtype))
            proposals = proposals or optimized.proposal_generator(features, sizes)
            given = {"given_boxes": proposals.boxes[0], "mask_logits": range(8)}
            of_heads = {name: features[name] for name in cfg.MODEL.ROI_HEADS.IN_FEATURES}
            tensors.append(features | on_given_boxes(optimized.roi_heads, of_heads, given))
            instances = optimized.roi_heads(features, proposals, sizes)
            records.append(found_record(instances.as_dict(), sizes[0], masks=False))
    for name, exact in tensors[0].items():
        difference = np.float32(tensors[1][name]) - exact
        assert 0 < np.std(difference) < 0.03 * np.std(exact), name
    # Logits that are 5 % of their standard deviation apart at most make scores 0.036 apart (MViT).
    same = compare(records[1:], records[:1], iou=0.9, score=0.05, least_score=0.0)
    assert same.matched >= 0.97 * same.expected > 20
    assert same.extra <= 0.03 * same.expected


@pytest.mark.full
@pytest.mark.parametrize("ops", ["native", "portable"])
def test_saved_model(model, images, expected, ops, tmp_path):
    """Of two images of different sizes, the first of which is the one above."""
    if ops == "native":
        require_native()
    metadata = {"class_names": list("abcde")}
    save_model(tmp_path / "model", *model, metadata)
    export_savedmodel(tmp_path / "model", tmp_path / "saved", ops=ops, max_batch=2)
    loaded = tf.saved_model.load(str(tmp_path / "saved" / "1"))
    both = np.zeros([2, *images.shape[1:]], np.uint8)
    both[0], both[1, :90, :200] = images[0], images[0, :90, :200]
    sizes = tf.constant([images.shape[1:3], (90, 200)])
    found = loaded.signatures["image_tensor"](images=tf.constant(both), image_sizes=sizes)
    check(found, expected)
    assert found["num_detections"][1] > 0


@pytest.mark.full
@pytest.mark.parametrize("model", [NARROW_SWIN], ids=["swin"], indirect=True)
@pytest.mark.parametrize("ops", ["native", "portable"])
def test_squares_of_any_image(model, ops, tmp_path):
    """What a SavedModel finds is what a Predictor of the same operators finds, bit for bit: alone
    and in a batch, of images that are wide, high, small, and larger than the square."""
    if ops == "native":
        require_native()
    cfg, trained = model
    metadata, backend = {"class_names": list("abcde")}, servable_backend(ops)
    export_model(cfg, trained, metadata, tmp_path, backend)
    saved = tf.saved_model.load(str(tmp_path / "1")).signatures["image_tensor"]
    predict = Predictor.of_model(cfg, optimize(trained, backend), metadata, backend)
    image = read_image(DATA / "full" / "coffee.png")
    parts = [image[:200, :300], image[:, :90], image[200:209, 100:140], image]
    sizes = np.array([part.shape[:2] for part in parts], np.int32)
    batch = np.zeros([len(parts), *sizes.max(0), 3], np.uint8)
    for slot, part in zip(batch, parts, strict=True):
        slot[: part.shape[0], : part.shape[1]] = part[..., ::-1]
    together = saved(images=tf.constant(batch), image_sizes=tf.constant(sizes))
    for index, expected in enumerate(predict.predict_batch(parts)):
        count = len(expected.scores)
        assert together["num_detections"][index] == count > 20
        names = {"pred_boxes": expected.boxes, "scores": expected.scores}
        for name, values in names.items():
            np.testing.assert_array_equal(together[name][index, :count], values)
    for part, (height, width) in zip(parts, sizes, strict=True):
        alone = saved(images=tf.constant(part[None, ..., ::-1]), image_sizes=[[height, width]])
        expected = predict(part)
        np.testing.assert_array_equal(alone["scores"][0, : len(expected.scores)], expected.scores)
