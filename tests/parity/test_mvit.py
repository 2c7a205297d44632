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
from tests.support.mvit import MASK, RECIPES, mvit_config, mvit_options, narrow_mvit_config
from tests.support.native import using_ops
from tests.support.paths import DATA
from tests.support.transformers import check_model, part_of, recorded_json
from tfdetect.checkpoint.names import named_variables
from tfdetect.modeling.build import build_backbone
from tfdetect.modeling.detector import Detector

with np.load(DATA / "vitdet/mvit_narrow.npz") as _arrays:
    NARROW = dict(_arrays)
with gzip.open(DATA / "vitdet/mvit_backbones.json.gz", "rt") as _file:
    BACKBONES = json.load(_file)


@pytest.fixture(params=["native", pytest.param("portable", marks=pytest.mark.full)])
def ops(request):
    with using_ops(request.param):
        yield request.param


@pytest.mark.parametrize("name", RECIPES)
def test_narrow_model(ops, name):
    """Alone, at a size that is known if it is square; and in a batch as Detectron2 pads it."""
    recorded = part_of(NARROW, f"{name}/")
    backbone = recorded_json(recorded["settings"])
    edges = int(recorded["short_edge"]), int(recorded["longest_edge"])
    cfg = narrow_mvit_config(name, backbone, edges)
    model = seeded_model(cfg)
    check_model(cfg, model, ops, recorded, batch_of_two=not backbone["square_pad"])


@pytest.mark.full
def test_full_size(ops):
    """MViTv2-T, at 800 x 1200 pixels."""
    with np.load(DATA / "vitdet/mvit_full.npz") as arrays:
        recorded = dict(arrays)
    (backbone,) = (
        of["settings"] for of in BACKBONES if "MViTv2/mask_rcnn_mvitv2_t_3x" in of["names"]
    )
    cfg = mvit_config(MASK, mvit_options(backbone))
    check_model(cfg, seeded_model(cfg), ops, recorded, batch_of_two=False)


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
