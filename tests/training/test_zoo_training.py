"""Every configuration of the zoo trains: a step of it, narrow, from initial weights.

What losses must be is tested against Detectron2's records for one model of each kind; here, that
all losses are finite and that the gradient reaches every variable that is trained.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.small_training import (
    C4_OPTIONS,
    NARROW_REGNET,
    batch,
    configuration,
    small_model,
)
from tfdetect.config import zoo_models
from tfdetect.config.capabilities import capabilities
from tfdetect.modeling.structures import Proposals

QUICK = {"COCO-Detection/fast_rcnn_R_50_FPN_1x", "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x"}
BLOCKS = {"MODEL.RESNETS.DEPTH": 50}  # of three convolutions, which the smaller depths lack

NARROW_VIT = {
    "MODEL.BACKBONE.SQUARE_PAD": 96,
    "INPUT.MAX_SIZE_TEST": 96,
    "MODEL.VIT.EMBED_DIM": 32,
    "MODEL.VIT.DEPTH": 2,
    "MODEL.VIT.NUM_HEADS": 2,
    "MODEL.VIT.WINDOW_BLOCK_INDEXES": [0],
    "MODEL.SIMPLE_FEATURE_PYRAMID.OUT_CHANNELS": 32,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 1,
    # Its weights are of the data.
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": False,
}


# The square and the heads are those of ViTDet's project where a model is of it.
NARROW_HEADS = {
    "INPUT.MAX_SIZE_TEST": 96,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": False,
}
NARROW_SWIN = NARROW_HEADS | {
    "MODEL.SWIN.EMBED_DIM": 8,
    "MODEL.SWIN.DEPTHS": [1, 2, 1, 1],
    "MODEL.SWIN.NUM_HEADS": [1, 2, 2, 4],
}
NARROW_MVIT = NARROW_HEADS | {
    "MODEL.MVIT.EMBED_DIM": 8,
    "MODEL.MVIT.DEPTH": 5,
    "MODEL.MVIT.NUM_HEADS": 1,
    "MODEL.MVIT.LAST_BLOCK_INDEXES": [0, 1, 2, 4],
}


def options_of(name):
    options = {"INPUT.LARGE_SCALE_JITTER.ENABLED": False}
    if "C4" in name or "DC5" in name:
        options |= C4_OPTIONS
    if "dconv" in name or "X_1" in name:
        options |= BLOCKS
    if "X_1" in name:
        options |= {"MODEL.RESNETS.NUM_GROUPS": 4, "MODEL.RESNETS.WIDTH_PER_GROUP": 8}
    if "regnet" in name:
        options |= {**NARROW_REGNET, "MODEL.ROI_BOX_HEAD.NUM_CONV": 1}
    if "vitdet" in name:
        options |= NARROW_VIT
    if "swin" in name or "mvitv2" in name:
        options |= NARROW_SWIN if "swin" in name else NARROW_MVIT
        if name.startswith("ViTDet"):
            options["MODEL.BACKBONE.SQUARE_PAD"] = 96
    if "PointRend" in name:
        options |= {"MODEL.ROI_MASK_HEAD.FC_DIM": 32, "MODEL.POINT_HEAD.FC_DIM": 32}
        options |= {"MODEL.POINT_HEAD.TRAIN_NUM_POINTS": 16}
    return options


def classes_of(cfg):
    """Every head has the classes of the small batches."""
    able = capabilities(cfg)
    keys = [able.classes_key] if able.has_boxes and able.parts.dense_head else []
    keys += ["MODEL.POINT_HEAD.NUM_CLASSES"] if able.has_points else []
    semantic = able.has_point_semantic and not able.has_boxes
    return dict.fromkeys(keys, 4 if semantic else 5)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.full)
        for name in zoo_models()
        if "Base-" not in name
    ],
)
def test_step(name):
    options = options_of(name)
    options |= classes_of(configuration(name, options))
    cfg, model, parameters = small_model(name, options)
    able = capabilities(cfg)
    form = "gt_bitmasks" if cfg.INPUT.MASK_FORMAT == "bitmask" else "gt_polygons"
    images, sizes, targets = batch(form=form)
    given = ()
    if able.takes_proposals:
        boxes = tf.concat([targets.gt_boxes, targets.gt_boxes + 3.0], 1)
        given = (Proposals(boxes, tf.constant([6, 4])),)
    with tf.GradientTape() as tape:
        losses = model.losses(images, sizes, targets, tf.constant([3, 7]), *given)
        total = tf.add_n(list(losses.values()))
    gradients = tape.gradient(total, [parameter.variable for parameter in parameters])
    assert all(np.isfinite(loss) for loss in losses.values()), losses
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert gradient is not None, parameter.name
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), parameter.name
