"""Training steps of a narrow model of rotated boxes, through the trainer."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model
from tests.support.native import IMPLEMENTATIONS, require_native, using_ops
from tests.support.rotated import FOLDER
from tfdetect.config import load_config
from tfdetect.training.trainable import trainable_variables
from tfdetect.training.trainer import Trainer

OPTIONS = [
    *["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16],
    *["MODEL.RPN.PRE_NMS_TOPK_TRAIN", 60, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 40],
    *["MODEL.RPN.BATCH_SIZE_PER_IMAGE", 32, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16],
    *["SOLVER.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 1e-6, "SOLVER.WARMUP_ITERS", 0],
]
SPEC = {
    "image": tf.TensorSpec([2, None, None, 3], tf.uint8),
    "image_size": tf.TensorSpec([2, 2], tf.int32),
    "gt_boxes": tf.TensorSpec([2, None, 5]),
    "gt_classes": tf.TensorSpec([2, None], tf.int32),
    "gt_valid": tf.TensorSpec([2, None], tf.bool),
}


def batch(boxes, valid):
    """Two images of noise with these objects [G, 5], the second with none."""
    rng = np.random.default_rng(0)
    count = len(boxes)
    return {
        "image": tf.constant(rng.integers(0, 256, [2, 64, 96, 3]).astype(np.uint8)),
        "image_size": tf.constant([[64, 96], [60, 80]]),
        "gt_boxes": tf.constant(np.stack([boxes, np.zeros_like(boxes)])),
        "gt_classes": tf.constant(
            np.stack([np.arange(count) % 4, np.zeros(count)]).astype(np.int32)
        ),
        "gt_valid": tf.constant(np.stack([valid, np.zeros_like(valid)])),
    }


# Detectron2's IoU of the slivers is anything, and its Matcher's assertion then ends the training.
BOXES = np.array(
    [
        [40, 30, 30, 20, 33],
        [40, 30, 30, 20, 33],
        [40, 30, 30, 20, -147],
        [40, 30, 5e-17, 20, 10],
        [40, 30, 1e-4, 60, 80],
        [500, 500, 1e8, 1e-2, 20],
        [20, 20, 12, 25, 1e5],
        [0, 0, 0, 0, 0],
    ],
    np.float32,
)


@pytest.mark.parametrize("ops", IMPLEMENTATIONS)
def test_steps_on_ordinary_and_strange_boxes(ops):
    if ops == "native":
        require_native()
    with using_ops(ops):
        cfg = load_config(FOLDER / "narrow.yaml", OPTIONS)
        model = seeded_model(cfg)
        parameters = [named.variable for named in trainable_variables(model, cfg)]
        trainer = Trainer(cfg, model, parameters, SPEC, seed=1)
        before = model.roi_heads.box_predictor.bbox_pred.weight.numpy()
        for iteration, count in enumerate((1, 7)):
            valid = np.arange(len(BOXES)) < count
            losses = trainer(batch(BOXES, valid), iteration)
            assert losses.keys() == {"loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"}
            assert all(np.isfinite(loss) for loss in losses.values()), losses
            assert losses["loss_box_reg"] > 0
        assert np.isfinite(model.roi_heads.box_predictor.bbox_pred.weight.numpy()).all()
        assert (model.roi_heads.box_predictor.bbox_pred.weight.numpy() != before).any()
