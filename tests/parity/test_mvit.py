"""MViT models against Detectron2's: every block and level, detections, names and shapes.

Within 2e-4 of a stage's standard deviation: Detectron2 in float32 is up to 3e-5 from itself in
float64, and up to 6e-5 from itself with weights disturbed by 1e-6. Detections: all of them, boxes
within 0.01 pixels, scores within 2e-4, masks within 20 pixels (disturbed 3.5e-3 pixels, 6e-5 and
13 pixels).
"""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model
from tests.support.comparison import compare
from tests.support.intermediates import call_with_intermediates
from tests.support.mvit import MASK, RECIPES, mvit_config, mvit_options, narrow_mvit_config
from tests.support.native import using_ops
from tests.support.paths import DATA
from tfdetect.checkpoint.names import named_variables
from tfdetect.data.images import read_image
from tfdetect.inference.optimization import optimize
from tfdetect.masks.rle import encode_mask
from tfdetect.modeling.build import build_backbone
from tfdetect.modeling.detector import Detector
from tfdetect.modeling.postprocess import Postprocessor
from tfdetect.modeling.preprocess import Preprocessor
from tfdetect.ops.backend import Backend
from tfdetect.ops.paste_masks import paste_masks

with np.load(DATA / "vitdet/mvit_narrow.npz") as _arrays:
    NARROW = dict(_arrays)
with gzip.open(DATA / "vitdet/mvit_backbones.json.gz", "rt") as _file:
    BACKBONES = json.load(_file)


@pytest.fixture(params=["native", pytest.param("portable", marks=pytest.mark.full)])
def ops(request):
    with using_ops(request.param):
        yield request.param


def of_model(name):
    prefix = f"{name}/"
    return {key.removeprefix(prefix): NARROW[key] for key in NARROW if key.startswith(prefix)}


def check_stages(found, recorded, prefix):
    names = [key for key in recorded if key.startswith(prefix) and f"{key}_step" in recorded]
    assert names
    for name in names:
        result = np.transpose(found[name.removeprefix(prefix)], [0, 3, 1, 2])
        np.testing.assert_array_equal(result.shape, recorded[f"{name}_shape"])
        channels, step = recorded[f"{name}_step"]
        difference = np.abs(result[:, ::channels, ::step, ::step] - recorded[name]).max()
        assert difference < 2e-4 * recorded[f"{name}_moments"][1], (name, difference)


def check_detections(found, index, recorded, before="", after="", masks=True):
    """Of image `index`; they are recorded as pred_X, or with this before and after X."""
    count = int(found["num_detections"][index])
    names = ("pred_boxes", "scores", "pred_classes", "pred_masks")
    own = {name: found[name][index, :count] for name in names}
    same = {"file_name": "coffee.png", "height": 400, "width": 600}
    ours = same | {name: own[name].numpy() for name in names[:3]}
    theirs = same | {
        name: recorded[f"pred_{before}{name.removeprefix('pred_')}{after}"] for name in names[:3]
    }
    if masks:
        pasted = paste_masks(own["pred_masks"], own["pred_boxes"], tf.constant([400, 600]))
        ours["pred_masks"] = [encode_mask(mask) for mask in pasted.numpy()]
        counts = json.loads(str(recorded["pred_masks_rle"]))
        theirs["pred_masks"] = [{"size": [400, 600], "counts": text} for text in counts]
    result = compare([ours], [theirs], iou=0.9, score=2e-4, least_score=0.0)
    assert result.matched == result.expected == len(theirs["pred_boxes"]) > 0, result.unmatched
    assert result.extra == 0
    assert result.box < 0.01
    assert not masks or result.mask_pixels <= 20


def make_run(cfg, model, ops, static_shape=None):
    """A function of a batch, int32 [B, 2] sizes within it and sizes of the originals."""
    backend = Backend.for_device("cpu", ops=ops)
    optimized = optimize(model, backend)
    postprocess = Postprocessor.from_config(cfg)
    shape = static_shape or [None, None, None, 3]

    @tf.function(
        input_signature=[tf.TensorSpec(shape), *[tf.TensorSpec([None, 2], tf.int32)] * 2],
        autograph=False,
    )
    @backend.active()
    def run(batch, resized, sizes):
        outputs, found = call_with_intermediates(optimized, batch, resized)
        padded = tf.repeat(tf.shape(batch)[None, 1:3], tf.shape(batch)[0], axis=0)
        return postprocess(outputs, padded, resized, sizes), found

    return run


def network_input(cfg, model):
    """The batch of the recorded image, its size within it, and that of the original."""
    image = read_image(DATA / "full/coffee.png")
    size = np.array([image.shape[:2]], np.int32)
    return *Preprocessor.from_config(cfg, model.size_divisibility)(image[None], size), size


@pytest.mark.parametrize("name", RECIPES)
def test_narrow_model(ops, name):
    """Alone, at a size that is known if it is square; and in a batch as Detectron2 pads it."""
    recorded = of_model(name)
    backbone = json.loads(str(recorded["settings"]))
    edges = int(recorded["short_edge"]), int(recorded["longest_edge"])
    cfg = narrow_mvit_config(name, backbone, edges)
    model = seeded_model(cfg)
    batch, resized, size = network_input(cfg, model)
    np.testing.assert_array_equal(resized[0], recorded["resized_hw"])
    np.testing.assert_array_equal(batch.shape[1:3], recorded["padded_hw"])
    run = make_run(cfg, model, ops, batch.shape if backbone["square_pad"] else None)
    detections, found = run(batch, resized, size)
    check_stages(found, recorded, "stage_")
    check_stages(found, recorded, "feat_")
    check_detections(detections, 0, recorded)
    if backbone["square_pad"]:
        return
    height, width = resized[0].numpy()
    own = np.array([[height, width], [height * 3 // 4, width * 2 // 3]], np.int32)
    part = np.zeros_like(batch)
    part[:, : own[1, 0], : own[1, 1]] = batch[:, : own[1, 0], : own[1, 1]]
    both = tf.concat([batch, part], 0)
    # The part's are recorded in its own pixels.
    detections, found = run(both, own, np.array([[400, 600], own[1]], np.int32))
    check_stages(found, recorded, "batch_feat_")
    for index in range(2):
        check_detections(detections, index, recorded, "batch_", f"_{index}", masks=False)


@pytest.mark.full
def test_full_size(ops):
    """MViTv2-T, at 800 x 1200 pixels."""
    with np.load(DATA / "vitdet/mvit_full.npz") as arrays:
        recorded = dict(arrays)
    (backbone,) = (
        of["settings"] for of in BACKBONES if "MViTv2/mask_rcnn_mvitv2_t_3x" in of["names"]
    )
    cfg = mvit_config(MASK, mvit_options(backbone))
    model = seeded_model(cfg)
    batch, resized, size = network_input(cfg, model)
    np.testing.assert_array_equal(resized[0], recorded["resized_hw"])
    np.testing.assert_array_equal(batch.shape[1:3], recorded["padded_hw"])
    detections, found = make_run(cfg, model, ops)(batch, resized, size)
    check_stages(found, recorded, "stage_")
    check_stages(found, recorded, "feat_")
    check_detections(detections, 0, recorded)


# The large ones take long to build, and differ from B in numbers alone.
LARGE = ("_mvitv2_l_", "_mvitv2_h_")


@pytest.mark.parametrize(
    "recorded",
    [
        pytest.param(
            recorded,
            id=recorded["names"][0],
            marks=[pytest.mark.full] * any(size in recorded["names"][0] for size in LARGE),
        )
        for recorded in BACKBONES
    ],
)
def test_names_and_shapes(recorded):
    """Of the 13 published models, of which some have the same; in a graph, without memory."""
    cfg = mvit_config(MASK, mvit_options(recorded["settings"]))
    with tf.Graph().as_default():
        model = Detector(build_backbone(cfg))
    ours = {named.name: list(named.foreign_shape) for named in named_variables(model)}
    assert ours == recorded["backbone"]
