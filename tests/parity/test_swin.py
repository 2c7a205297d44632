"""Swin models against Detectron2's: every block and level, detections, names and shapes.

Within 2e-4 of a stage's standard deviation: Detectron2 in float32 is up to 3e-5 from itself in
float64, and up to 6e-5 from itself with weights disturbed by 1e-6. Detections: all of them, boxes
within 0.01 pixels, scores within 2e-4, masks within 20 pixels (disturbed 3.5e-3 pixels, 6e-5 and
13 pixels).
"""

from __future__ import annotations

import functools
import gzip
import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model, state_dict
from tests.support.intermediates import call_with_intermediates
from tests.support.native import using_ops
from tests.support.paths import DATA
from tests.support.swin import narrow_swin_config, swin_options
from tests.support.transformers import (
    check_model,
    check_stages,
    network_input,
    part_of,
    recorded_json,
)
from tfdetect.checkpoint.assign import assign_state_dict
from tfdetect.checkpoint.names import named_buffers, named_variables
from tfdetect.inference.optimization import optimize
from tfdetect.modeling.build import build_backbone
from tfdetect.modeling.detector import Detector
from tfdetect.ops.backend import Backend

with np.load(DATA / "vitdet" / "swin_narrow.npz") as _arrays:
    NARROW = dict(_arrays)
with gzip.open(DATA / "vitdet" / "swin_backbones.json.gz", "rt") as _file:
    BACKBONES = json.load(_file)


@pytest.fixture(params=["native", pytest.param("portable", marks=pytest.mark.full)])
def ops(request):
    with using_ops(request.param):
        yield request.param


@functools.lru_cache
def of_model(name):
    found = part_of(NARROW, f"{name}/")
    return found | {"settings": recorded_json(found["settings"])}


@functools.lru_cache(maxsize=1)
def make(name):
    """The configuration and the model of a record."""
    recorded = of_model(name)
    settings = recorded["settings"]["backbone"]
    edges = ["INPUT.MIN_SIZE_TEST", int(recorded["short_edge"])]
    edges += ["INPUT.MAX_SIZE_TEST", int(recorded["longest_edge"])]
    square = ["MODEL.BACKBONE.SQUARE_PAD", settings["square_pad"]]
    cfg = narrow_swin_config(settings["bottom_up"], *edges, *square)
    return cfg, seeded_model(cfg)


def test_backbone_alone(ops):
    """Of odd sizes, at every merging, without padding to a multiple; no norm of the patches."""
    recorded = of_model("swin_backbone_odd")
    options = swin_options(recorded["settings"])
    sizes = [int(recorded[name]) for name in ("short_edge", "longest_edge")]
    cfg = narrow_swin_config(
        recorded["settings"],
        *options,
        *("MODEL.BACKBONE.NAME", "build_swin_backbone"),
        *("INPUT.MIN_SIZE_TEST", sizes[0], "INPUT.MAX_SIZE_TEST", sizes[1]),
    )
    backbone = build_backbone(cfg)
    shapes = {named.name: named.foreign_shape for named in named_variables(backbone)}
    assign_state_dict(backbone, state_dict(shapes), source="seeded weights")
    batch, _, _ = network_input(cfg, 1, recorded)
    backend = Backend.for_device("cpu", ops=ops)
    optimized = optimize(backbone, backend)
    for shape in (batch.shape, [None, None, None, 3]):

        @tf.function(input_signature=[tf.TensorSpec(shape)], autograph=False)
        @backend.active()
        def run(batch):
            return call_with_intermediates(optimized, batch)[1]

        found = run(batch)
        check_stages(found, recorded, "stage_")
        check_stages(found, recorded, "feat_")


@pytest.mark.parametrize("name", ["swin_cascade_square", "swin_cascade_free_ape"])
def test_cascade(ops, name):
    recorded, (cfg, model) = of_model(name), make(name)
    batch_of_two = not recorded["settings"]["backbone"]["square_pad"]
    check_model(cfg, model, ops, recorded, batch_of_two=batch_of_two)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.full] * ("LVIS" in name)) for name in BACKBONES],
)
def test_names_and_shapes(name):
    """Of the published models, in a graph, where variables take no memory."""
    recorded = BACKBONES[name]
    more = ["MODEL.FPN.OUT_CHANNELS", recorded["settings"]["out_channels"]]
    cfg = narrow_swin_config(recorded["settings"]["bottom_up"], *more)
    with tf.Graph().as_default():
        model = Detector(build_backbone(cfg))
    ours = {named.name: list(named.foreign_shape) for named in named_variables(model)}
    assert (
        ours | {name: list(buffer.shape) for name, buffer in named_buffers(model)}
        == (recorded["backbone"])
    )
