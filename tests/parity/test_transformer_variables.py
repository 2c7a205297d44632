"""The models of projects/ViTDet and MViTv2 have the variables of Detectron2's state dicts."""

from __future__ import annotations

import gzip
import json

import pytest
import tensorflow as tf

from tests.config.test_transformer_configs import PRESENT
from tests.support.paths import DATA
from tfdetect.checkpoint.names import named_buffers, named_variables
from tfdetect.config import load_config
from tfdetect.modeling.build import build_model

with gzip.open(DATA / "vitdet" / "state_dicts.json.gz", "rt") as _file:
    RECORDED = json.load(_file)
# Counters, and what is of the data that a model is trained with.
BUFFERS = ("num_batches_tracked", "fed_loss_cls_weights")


QUICK = (
    "ViTDet/COCO/mask_rcnn_vitdet_b_100ep",
    "ViTDet/COCO/cascade_mask_rcnn_swin_b_in21k_50ep",
    "ViTDet/COCO/cascade_mask_rcnn_mvitv2_b_in21k_100ep",
    "ViTDet/LVIS/cascade_mask_rcnn_vitdet_b_100ep",
    "MViTv2/cascade_mask_rcnn_mvitv2_t_3x",
)


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in PRESENT],
)
def test_names_and_shapes(name):
    """Built as a graph that does not run, so that 700 million parameters take no memory."""
    with tf.Graph().as_default():
        model = build_model(load_config(name))
        ours = {named.name: list(named.foreign_shape) for named in named_variables(model)}
        ours |= {name: list(buffer.shape) for name, buffer in named_buffers(model)}
    ours = {key: shape for key, shape in ours.items() if not key.endswith(BUFFERS)}
    assert ours == {k: shape for k, shape in RECORDED[name].items() if not k.endswith(BUFFERS)}
