"""The RPN of a batch without images: proposals of none, losses of zero."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.config import load_config
from tfdetect.modeling.proposal_generator.rpn import RPN
from tfdetect.modeling.structures import Targets

SIZES = {"p2": (16, 24), "p3": (8, 12), "p4": (4, 6), "p5": (2, 3), "p6": (1, 2)}


@pytest.mark.parametrize(
    ("traced", "implementation"),
    [
        (False, "native"),
        (False, "portable"),
        (True, "native"),
        pytest.param(True, "portable", marks=pytest.mark.full),
    ],
    indirect=["implementation"],
)
@pytest.mark.usefixtures("implementation")
def test_no_images(traced):
    cfg = load_config("COCO-Detection/faster_rcnn_R_50_FPN_1x")
    shapes = {name: (8, 4 * 2**level) for level, name in enumerate(SIZES)}
    rpn = RPN.from_config(cfg, shapes)
    features = {name: tf.zeros([0, *size, 8]) for name, size in SIZES.items()}
    sizes, seeds = tf.zeros([0, 2], tf.int32), tf.zeros([0, 2], tf.int32)
    targets = Targets(
        gt_boxes=tf.zeros([0, 3, 4]),
        gt_classes=tf.zeros([0, 3], tf.int32),
        gt_valid=tf.zeros([0, 3], bool),
    )

    def run(features):
        return rpn(features, sizes), *rpn.losses(features, sizes, targets, seeds)

    if traced:
        signature = {name: tf.TensorSpec([None, None, None, 8]) for name in SIZES}
        run = tf.function(run, input_signature=[signature], autograph=False)
    found, sampled, losses = run(features)
    for proposals in (found, sampled):
        assert proposals.boxes.shape[0] == 0
        assert proposals.boxes.shape[2] == 4
    assert losses.keys() == {"loss_rpn_cls", "loss_rpn_loc"}
    np.testing.assert_array_equal(list(losses.values()), 0)
