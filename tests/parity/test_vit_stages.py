"""ViT backbones: every block and level of narrow models against Detectron2's, and names and shapes.

Within 2e-4 of a stage's standard deviation: Detectron2 in float32 is up to 3e-5 from itself in
float64, and up to 6e-5 from itself with weights disturbed by 1e-6.
"""

from __future__ import annotations

import functools
import gzip
import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.seeded_weights import state_dict
from tests.support.intermediates import call_with_intermediates
from tests.support.paths import DATA
from tests.support.transformers import check_stages, network_input, part_of, recorded_json
from tests.support.vit import vit_config
from tfdetect.checkpoint.assign import assign_state_dict
from tfdetect.checkpoint.names import named_variables
from tfdetect.inference.optimization import optimize
from tfdetect.modeling.build import build_backbone
from tfdetect.modeling.detector import Detector
from tfdetect.ops.backend import Backend, current_backend

with np.load(DATA / "vitdet/vit_stages.npz") as _arrays:
    STAGES = dict(_arrays)
NARROW = sorted({key.split("/")[0] for key in STAGES})
with gzip.open(DATA / "vitdet/vit_backbones.json.gz", "rt") as _file:
    BACKBONES = json.load(_file)


def of_model(name):
    return part_of(STAGES, f"{name}/")


@functools.lru_cache(maxsize=1)
def make(name):
    """A detector of nothing but the backbone, the network's input, and the size within it."""
    recorded = of_model(name)
    settings = recorded_json(recorded["settings"])
    edges = ["INPUT.MIN_SIZE_TEST", int(recorded["short_edge"])]
    edges += ["INPUT.MAX_SIZE_TEST", int(recorded["longest_edge"])]
    square = ["MODEL.BACKBONE.SQUARE_PAD", settings["square_pad"]]
    cfg = vit_config(settings, *edges, *square)
    model = Detector(build_backbone(cfg))
    shapes = {named.name: named.foreign_shape for named in named_variables(model)}
    assign_state_dict(model, state_dict(shapes), source="seeded weights")
    batch, (resized,), _ = network_input(cfg, model.size_divisibility, recorded)
    return model, batch, resized


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.usefixtures("implementation")
def test_stages(name):
    """Of the image alone, as `Predictor` has the model, at a size that is known if it is square."""
    model, batch, _ = make(name)
    backend = Backend.for_device("cpu", ops=current_backend().ops)
    optimized = optimize(model, backend).backbone
    shape = batch.shape if batch.shape[1] == batch.shape[2] else [None, None, None, 3]

    @tf.function(input_signature=[tf.TensorSpec(shape)], autograph=False)
    @backend.active()
    def run(batch):
        return call_with_intermediates(optimized, batch)[1]

    found = run(batch)
    recorded = of_model(name)
    check_stages(found, recorded, "stage_")
    check_stages(found, recorded, "feat_")


def test_batch_without_square_padding():
    """As Detectron2's batch has it; and each image of it as it is alone, to float rounding."""
    model, batch, (height, width) = make("vit_mask_free")
    backbone = model.backbone
    own = tf.constant([[int(height), int(width)], [int(height) * 3 // 4, int(width) * 2 // 3]])
    part = batch[:, : own[1, 0], : own[1, 1]]
    beyond = own[0] - own[1]
    both = tf.concat([batch, tf.pad(part, [[0, 0], [0, beyond[0]], [0, beyond[1]], [0, 0]])], 0)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])], autograph=False)
    def as_detectron2(images):
        return backbone(images)

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, 2], tf.int32)],
        autograph=False,
    )
    def run(images, sizes):
        valid = model.valid_sizes(sizes)
        strides = {name: stride for name, (_, stride) in backbone.output_shapes.items()}
        sizes = {name: valid.strided(stride).sizes for name, stride in strides.items()}
        return backbone(images, valid), sizes

    check_stages(as_detectron2(both), of_model("vit_mask_free"), "batch_feat_")
    together, sizes = run(both, own)
    for index, image in enumerate((batch, part)):
        alone = as_detectron2(image)
        for name, expected in alone.items():
            rows, columns = sizes[name][index].numpy()
            assert expected.shape[1:3] == (rows, columns)
            found = together[name][index, :rows, :columns]
            scale = np.std(expected)
            np.testing.assert_allclose(found, expected[0], rtol=0, atol=5e-5 * scale, err_msg=name)
    assert {level.shape[0] for level in as_detectron2(both[:0]).values()} == {0}
    assert {level.shape[0] for level in run(both[:0], own[:0])[0].values()} == {0}


@pytest.mark.parametrize(("height", "width"), [(5, 40), (40, 17), (33, 47)])
def test_small_images(height, width):
    """An image of less than two patches is filled up to them, alone and beside others."""
    model, _, _ = make("vit_mask_free")
    image = tf.random.stateless_normal([1, height, width, 3], [1, 2])
    alone = model.backbone(image)
    filled = tf.pad(image, [[0, 0], [0, 64 - height], [0, 64 - width], [0, 0]])
    together = model.backbone(filled, model.valid_sizes(tf.constant([[height, width]])))
    for name, expected in alone.items():
        rows, columns = expected.shape[1:3]
        assert min(rows, columns) > 0
        found = together[name][:, :rows, :columns]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def without_drop_path(settings):
    return json.dumps({**settings, "net": {**settings["net"], "drop_path_rate": 0.0}})


DIFFERENT = sorted({without_drop_path(model["settings"]) for model in BACKBONES.values()}, key=len)


@pytest.mark.parametrize("settings", DIFFERENT, ids=range(len(DIFFERENT)))
def test_names_and_shapes(settings):
    """Of the published models, in a graph, where variables take no memory."""
    with tf.Graph().as_default():
        model = Detector(build_backbone(vit_config(json.loads(settings))))
    ours = {named.name: list(named.foreign_shape) for named in named_variables(model)}
    for recorded in BACKBONES.values():
        if without_drop_path(recorded["settings"]) == settings:
            assert ours == recorded["backbone"]
