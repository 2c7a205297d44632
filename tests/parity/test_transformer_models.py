"""ViT, Swin and MViT detectors against Detectron2's: every stage, proposal, detection and mask.

The limits and where they are from: tests/support/transformer_records.py.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model, state_dict
from tests.support.intermediates import call_with_intermediates
from tests.support.native import IMPLEMENTATIONS, require_native
from tests.support.transformer_configs import backbone_options, transformer_config
from tests.support.transformer_records import (
    BACKBONE,
    DETECTORS,
    FULL,
    IMAGE,
    check_detections,
    compare_detections,
    compare_model,
    compare_stages,
    narrow_config,
    network_input,
    read_record,
)
from tests.support.whole_models import predicted_record, recorded_record
from tfdetect.checkpoint.assign import assign_state_dict
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.inference.optimization import optimize
from tfdetect.inference.predictor import Predictor
from tfdetect.modeling.build import build_backbone
from tfdetect.ops.backend import Backend

# Of each backbone one that does not pad to squares, and what only one model has.
QUICK = ("mvit_cascade_bn", "swin_cascade_free_ape", "vit_cascade_lvis", "vit_mask_free")
NARROW = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in DETECTORS
]


@pytest.fixture(params=IMPLEMENTATIONS)
def ops(request):
    if request.param == "native":
        require_native()
    return request.param


def test_all_are_compared():
    assert len(DETECTORS) == 9
    assert len(FULL) == 4


def test_backbone_alone(ops):
    """Of odd sizes, at every merging, without padding to a multiple; no norm of the patches."""
    recorded = read_record("narrow", BACKBONE)
    cfg = transformer_config(
        backbone_options(json.loads(str(recorded["settings"]))),
        {
            "INPUT.MIN_SIZE_TEST": int(recorded["short_edge"]),
            "INPUT.MAX_SIZE_TEST": int(recorded["longest_edge"]),
            "INPUT.FORMAT": "RGB",
            "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
            "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
        },
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

        found = compare_stages(run(batch), recorded)
        assert len(found) == 16
        assert max(found.values()) < 2e-4, found


@pytest.mark.parametrize("name", NARROW)
def test_narrow_model(name, ops):
    """Alone and, where images are not padded to squares, in batches of two."""
    recorded = read_record("narrow", name)
    cfg = narrow_config(recorded)
    result = compare_model(cfg, seeded_model(cfg), ops, recorded)
    assert len(result.batch) == len(result.alone) == (0 if cfg.MODEL.BACKBONE.SQUARE_PAD else 2)
    result.check()


@pytest.mark.full
@pytest.mark.parametrize("name", FULL)
def test_full_size(name, ops):
    recorded = read_record("full", name)
    cfg = load_config(name)
    compare_model(cfg, seeded_model(cfg), ops, recorded).check()


@pytest.mark.full
@pytest.mark.parametrize("name", DETECTORS)
def test_predictor(name, ops):
    """The recorded detections, and each of three images of different sizes alone and together."""
    recorded = read_record("narrow", name)
    cfg = narrow_config(recorded)
    backend = Backend.for_device("cpu", ops=ops)
    model = optimize(seeded_model(cfg), backend)
    classes = [str(index) for index in range(cfg.MODEL.ROI_HEADS.NUM_CLASSES)]
    predictor = Predictor.of_model(cfg, model, {"class_names": classes}, backend)
    image = read_image(IMAGE)
    images = [image, np.ascontiguousarray(image[:, 200:450]), image[::2, 50::2].copy()]
    alone = [predicted_record(predictor(each)) for each in images]
    expected = recorded_record(recorded, image.shape)
    check_detections(compare_detections(alone[0], expected))
    for found, expected in zip(predictor(images), alone, strict=True):
        check_detections(compare_detections(predicted_record(found), expected))
