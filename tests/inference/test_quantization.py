"""Quantized layers and models beside the float32 ones that they are made of.

A value that is rounded to a step is off by half of it at most, which bounds what a layer's output
may be off by; what a whole model is off by is measured, and compared with what a user would lose.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import seeded_weights
from tests.support import dense_models
from tests.support.litert_files import interpreter, runners
from tests.support.native import require_native
from tfdetect.checkpoint.model_dir import load_model, save_model
from tfdetect.checkpoint.names import named_modules
from tfdetect.checkpoint.quantization import LayerSteps, Step
from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.export.saved_model import export_savedmodel
from tfdetect.inference import fixed
from tfdetect.inference.fold import fold
from tfdetect.inference.optimization import optimize
from tfdetect.inference.predictor import Predictor
from tfdetect.inference.quantization.calibrate import quantize_model
from tfdetect.inference.quantization.layers import (
    QuantizedConv2d,
    QuantizedInput,
    quantize_weight,
)
from tfdetect.inference.quantization.make import Int8Layers
from tfdetect.inference.quantization.ranges import Observer
from tfdetect.layers.conv import Conv2d, ConvTranspose2d
from tfdetect.layers.linear import Linear
from tfdetect.ops.backend import Backend
from tfdetect.ops.conv import conv2d


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def step_of(values, method="mse", percentile=99.99):
    observer = Observer()
    for value in values:
        observer(tf.constant(value))
    return observer.step(method, percentile)


def test_ranges():
    """Signs as seen; all of a uniform range; of a tail so much that clipping costs less."""
    uniform = np.linspace(0, 3, 4001, dtype=np.float32)
    assert step_of([uniform]) == Step(pytest.approx(3 / 255, rel=0.04), 0)
    signed = step_of([uniform, -2 * uniform])
    assert signed == Step(pytest.approx(6 / 127, rel=0.04), 128)
    assert step_of([np.zeros(5, np.float32)]) == Step(1.0, 0)
    tail = np.abs(random(100_000))
    tail[0] = 1000
    half = step_of([tail], "percentile", 50.0)
    assert half.scale * 255 == pytest.approx(np.median(tail), rel=0.05)
    assert step_of([tail], "percentile", 100.0).scale * 255 == pytest.approx(1000, rel=0.03)
    tail[0] = 20
    step = step_of([tail])

    def error(scale):
        return np.square(tail - np.clip(np.round(tail / scale), 0, 255) * scale).sum()

    tried = tail.max() / 255 * np.linspace(0.1, 1, 181)
    assert error(step.scale) < 1.02 * min(map(error, tried))


def layers():
    """Layers, their inputs, and how they are called."""
    x = np.abs(random(2, 9, 8, 32, seed=1))
    residual = tf.constant(random(2, 9, 8, 32, seed=2))
    strided = Conv2d(32, 48, 3, stride=2, padding=1, bias=False, norm="FrozenBN")
    yield strided, x, {"relu": True}
    dilated = Conv2d(32, 32, 3, padding=2, dilation=2, groups=4, bias=False, norm="FrozenBN")
    yield dilated, x, {}
    yield Conv2d(32, 32, 1), x, {"residual": residual}
    yield ConvTranspose2d(32, 24, 2), x, {}
    yield Linear(32, 20), random(7, 32, seed=3), {"relu": True}
    # What the rounding comes to after this norm is not bounded by half a step.
    yield Conv2d(32, 32, 3, padding=1, bias=False, norm="GN"), x, {"relu": True}


def most_off(layer, x, step):
    """What a layer's output may be off by, if inputs and weights are by half a step."""
    if isinstance(layer, Linear):
        weight, x, options = layer.weight[None, None], x[None, None], {}
    elif isinstance(layer, ConvTranspose2d):
        weight, options = layer.as_pointwise(), {}
    else:
        weight = fold(layer, layer.norm).weight
        names = ("stride", "padding", "dilation")
        options = {name: getattr(layer, name) for name in names}
    _, scales = quantize_weight(weight)
    half = tf.fill(x.shape, np.float32(step.scale / 2))
    of_inputs = conv2d(half, tf.abs(weight) + scales / 2, **options)
    of_weights = conv2d(tf.abs(tf.constant(x)), tf.zeros_like(weight) + scales / 2, **options)
    bound = of_inputs + of_weights
    if isinstance(layer, ConvTranspose2d):
        return tf.nn.depth_to_space(bound, 2)
    return bound[0, 0] if isinstance(layer, Linear) else bound


@pytest.mark.parametrize("index", range(6))
def test_layer(index, implementation):
    """Each value is off by what half a step of every input and weight comes to, at most.

    1e-5 of the largest value more: float32 sums in another order.
    """
    layer, x, options = list(layers())[index]
    for variable in layer.variables:
        if variable.trainable:
            variable.assign(random(*variable.shape, seed=variable.shape.num_elements()) * 0.3)
    signed = (x < 0).any()
    step = Step(float(np.abs(x).max() / (127 if signed else 255)), 128 if signed else 0)
    make = Int8Layers({id(layer): LayerSteps(step, None, step, 0.0)}, fixed_shapes=False)
    made = optimize(layer, Backend.for_device(), make=make)
    found = made(tf.constant(x), **options).numpy()
    expected = layer(tf.constant(x), **options).numpy()
    off, largest = np.abs(found - expected), np.abs(expected).max()
    assert 1e-4 * largest < off.max() < 0.03 * largest
    if index < 5:
        assert (off <= most_off(layer, x, step).numpy() + 1e-5 * largest).all()


@pytest.fixture(scope="module")
def images():
    pixels, sizes = dense_models.two_images()
    return [image[:height, :width] for image, (height, width) in zip(pixels, sizes, strict=True)]


NARROW = {
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3"],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3"],
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64]],
    "MODEL.RPN.POST_NMS_TOPK_TEST": 10,
    "INPUT.MIN_SIZE_TEST": 64,
}


def make_model(name):
    if name == "panoptic":
        return dense_models.make(name)
    options = dense_models.NARROW | NARROW
    words = [str(word) for pair in options.items() for word in pair]
    cfg = load_config("COCO-Detection/faster_rcnn_R_50_FPN_1x", words)
    return cfg, seeded_weights.seeded_model(cfg)


@pytest.fixture(scope="module", params=["boxes", pytest.param("panoptic", marks=pytest.mark.full)])
def folder(request, tmp_path_factory, images):
    """A quantized model: a ResNet-18, of two stages or four, with its FPN and heads."""
    require_native()
    cfg, model = make_model(request.param)
    names = [str(index) for index in range(7)]
    metadata = {"class_names": names[:5], "stuff_class_names": names}
    quantization = quantize_model(
        cfg, model, metadata, lambda: images, keep=["*res3.1.conv1"], origin={"model": "there"}
    )
    folder = tmp_path_factory.mktemp("quantized") / "model"
    save_model(folder, cfg, model, metadata, quantization)
    return folder


def test_choice(folder):
    """What is said of every layer with weights, and that it is so."""
    _, model, _ = load_model(folder)
    said = model.quantization
    kept = {name.rpartition(".")[2]: reason for name, reason in said.kept.items()}
    assert said.kept["backbone.bottom_up.stem.conv1"] == "reads the image"
    assert said.kept["backbone.bottom_up.res3.1.conv1"] == "as --keep says"
    assert kept["cls_score"] == kept["anchor_deltas"] == "predicts the result itself"
    assert all(steps.decibels > 20 for steps in said.layers.values())
    kinds = {name for name, layer in named_modules(model) if type(layer) in (Conv2d, Linear)}
    assert kinds <= {*said.layers, *said.kept}
    made = optimize(model, Backend())
    assert sum(isinstance(m, QuantizedConv2d) for m in made.submodules) == len(said.layers)


def test_chains(folder):
    """uint8 goes from layer to layer, and float32 to and from what stays in float32."""
    _, model, _ = load_model(folder)
    made = optimize(model, Backend())
    resnet, fpn = made.backbone.bottom_up, made.backbone
    assert isinstance(resnet.res2[0], QuantizedInput)
    first, second = resnet.res2[0].block, resnet.res2[1]
    assert first.conv1.gives == first.conv2.steps.input
    assert first.conv2.gives == second.conv1.steps.input == second.conv2.takes
    assert second.conv2.gives == fpn.fpn_lateral2.steps.input == resnet.res3[0].conv1.steps.input
    assert resnet.res3[0].shortcut.gives == resnet.res3[0].conv2.takes
    assert resnet.res3[0].conv2.gives is None  # before the layer that --keep names
    assert resnet.res3[1].conv2.takes is None
    assert fpn.fpn_lateral3.gives == fpn.fpn_output3.steps.input == fpn.fpn_lateral2.takes
    assert fpn.fpn_output2.gives is None
    assert made.roi_heads.box_head.fc1.conv.gives == made.roi_heads.box_head.fc2.conv.steps.input
    assert made.roi_heads.box_head.fc2.conv.gives is None


def difference(found, expected):
    """The largest differences of boxes and scores; of the same number of detections."""
    assert len(found) == len(expected)
    return max(
        np.abs(found.boxes - expected.boxes).max(initial=0),
        np.abs(found.scores - expected.scores).max(initial=0),
    )


@pytest.mark.full
def test_predictions(folder, images, monkeypatch):
    """Native and portable agree, and an image of a batch has what it has alone.

    Sums of integers are exact natively and below 2**24 in float32, and every float operation is
    rounded once in both: what is left is the float32 layers' rounding.
    """
    predict = Predictor(folder)
    alone = [predict(image) for image in images]
    together = predict(images)
    assert sum(map(len, alone)) > 0
    for one, found in zip(alone, together, strict=True):
        assert difference(found, one) < 1e-4
    monkeypatch.setenv("TFDETECT_OPS", "portable")
    for one, found in zip(alone, Predictor(folder)(images), strict=True):
        # A float32 layer's rounding may move a value to the next step.
        assert difference(found, one) < 0.5
    with pytest.raises(InputError, match=r"'bfloat16': this model is quantized"):
        Predictor(folder, dtype="bfloat16")


@pytest.mark.full
def test_saved_model(folder, images, tmp_path):
    """Both exports give what `Predictor` gives."""
    predict = Predictor(folder)
    expected = predict(images[0])
    for ops, tolerance in (("native", 1e-4), ("portable", 0.5)):
        path = export_savedmodel(folder, tmp_path / ops, ops=ops).path
        loaded = tf.saved_model.load(str(path)).signatures["image_tensor"]
        size = tf.constant([images[0].shape[:2]])
        found = loaded(images=tf.constant(images[0][None, ..., ::-1]), image_sizes=size)
        count = int(found["num_detections"][0])
        assert count == len(expected)
        boxes = found["pred_boxes"][0, :count].numpy()
        assert np.abs(boxes - expected.boxes).max(initial=0) < tolerance


def operators_of(content):
    """The names of a LiteRT file's operators, with the type of each one's first input."""
    own = interpreter(content, "own")
    types = {t["index"]: t["dtype"].__name__ for t in own.get_tensor_details()}
    operators = own._get_ops_details()
    return [(found["op_name"], types.get(found["inputs"][0])) for found in operators]


def test_litert_backbone(folder):
    """Every convolution of the file but the one that reads the image is int8, and every sum.

    Its features are those of the graph it was made of, but where a value lies between two steps:
    two of res2's thousand, with LiteRT's own kernels, which round a residual once more, eleven, a
    step or two off, and the differences that these cause in later layers. After two stages that is
    36 dB or more, after four (23% of res5's values) 25. The native ones have no rounding before a
    residual is added, nor of the results: 32 and 27.
    """
    _, model, _ = load_model(folder)
    rounded, native = optimize(model, fixed.BACKEND), optimize(model, Backend.for_device())
    images = tf.constant(60 * random(1, 32, 64, 3))  # grey levels

    def convert(function):
        concrete = tf.function(fixed.BACKEND.active()(function), autograph=False)
        concrete = concrete.get_concrete_function(tf.TensorSpec(images.shape, name="x"))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], rounded)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert()

    content = convert(rounded.backbone)
    operators = operators_of(content)
    convolutions = [kind for name, kind in operators if name == "CONV_2D"]
    int8 = [name for name in model.quantization.layers if name.startswith("backbone")]
    assert convolutions.count("int8") == len(int8)
    # The stem, and the layer of `keep`.
    assert convolutions.count("float32") == 2
    assert {kind for name, kind in operators if name == "ADD"} <= {"int8", "float32"}
    assert sum(kind == "int8" for name, kind in operators if name == "ADD") >= 4
    with fixed.BACKEND.active():
        expected, res2 = rounded.backbone(images), rounded.backbone.bottom_up(images)["res2"]
    for run in runners(convert(lambda x: {"res2": rounded.backbone.bottom_up(x)["res2"]})):
        off = np.abs(run(x=images)["res2"] - res2)
        step = np.diff(np.unique(res2)).min()
        assert off.max() < 2.001 * step
        assert (off > 0.5 * step).mean() < 0.02
    of_native = native.backbone(images)
    least, least_native = (35, 28) if len(expected) == 3 else (25, 25)
    for run in runners(content):
        found = run(x=images)
        for name, feature in expected.items():
            assert decibels(feature, found[name]) > least
            assert decibels(of_native[name], feature) > least_native


def decibels(expected, found):
    """Of signal to difference."""
    return 10 * np.log10(np.square(expected).mean() / np.square(found - expected).mean())


def test_damaged(folder, tmp_path):
    """One line for what is not whole, of another version, or of other weights."""
    cfg, model, metadata = load_model(folder)
    copy = tmp_path / "copy"
    save_model(copy, cfg, model, metadata, model.quantization)
    path = copy / "quantization.json"
    content = json.loads(path.read_text())
    first = next(iter(content["layers"]))

    def changed(**changes):
        return json.dumps({**content, **changes})

    def with_step(**step):
        layer = {**content["layers"][first], "input": step}
        return changed(layers={**content["layers"], first: layer})

    for text, expected in {
        "": "is damaged",
        path.read_text()[:-99]: "is damaged",
        "[]": "is damaged",
        changed(format=2): "is of format 2",
        changed(weights="0"): "other weights",
        changed(layers={"no.such": content["layers"][first]}): "layer no.such",
        with_step(scale=0, zero_point=0): "scale 0",
        with_step(scale=1e400, zero_point=0): "scale",
        with_step(scale=1, zero_point=7): "zero_point 7",
        with_step(scale=1): "zero_point",
    }.items():
        path.write_text(text)
        with pytest.raises(InputError, match=expected):
            load_model(copy)
    path.unlink()
    with pytest.raises(InputError, match=r"has no quantization\.json"):
        load_model(copy)


def test_other_weights(folder, tmp_path):
    """Weights that were not measured are refused."""
    cfg, model, metadata = load_model(folder)
    quantization = model.quantization
    copy = tmp_path / "copy"
    save_model(copy, cfg, model, metadata, quantization)
    text = (copy / "quantization.json").read_text()
    model.backbone.fpn_lateral2.bias.assign_add(tf.ones_like(model.backbone.fpn_lateral2.bias))
    save_model(copy, cfg, model, metadata, dataclasses.replace(quantization))
    (copy / "quantization.json").write_text(text)
    with pytest.raises(InputError, match="other weights"):
        load_model(copy)
