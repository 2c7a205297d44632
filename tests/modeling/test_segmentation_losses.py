"""Every semantic and panoptic configuration of the zoo trains, narrow; and what weighs what."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import ROOT
from tests.support.small_training import (
    HEIGHT,
    STUFF,
    WIDTH,
    batch,
    losses_and_gradients,
    small_model,
)
from tfdetect.config import load_config
from tfdetect.config.capabilities import capabilities
from tfdetect.modeling.semantic_loss import semantic_cross_entropy

ZOO = [
    name
    for path in sorted((ROOT / "configs").glob("*/*.yaml"))
    if not (name := str(path.relative_to(ROOT / "configs").with_suffix(""))).startswith("Base")
    and "/Base" not in name
    and capabilities(load_config(path)).has_semantic
]
PANOPTIC = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x"
SEMANTIC = "Misc/semantic_R_50_FPN_1x"
OF_BOXES = {"loss_cls", "loss_box_reg"}


def test_all_are_here():
    assert len(ZOO) == 5


# The others differ from these in depth and schedule alone.
SHORT = (PANOPTIC, SEMANTIC, "Misc/panoptic_fpn_R_101_dconv_cascade_gn_3x")


@pytest.mark.parametrize(
    "name",
    [name if name in SHORT else pytest.param(name, marks=pytest.mark.full) for name in ZOO],
)
def test_everything_that_trains_has_a_gradient(name):
    # Deformable convolutions are in bottleneck blocks only.
    depth = {"MODEL.RESNETS.DEPTH": 50} if "dconv" in name else {}
    _, model, named = small_model(name, depth)
    losses, gradients = losses_and_gradients(model, named, batch())
    expected = {"loss_sem_seg"}
    if name != SEMANTIC:
        boxes = OF_BOXES
        if "cascade" in name:
            boxes = {f"{loss}_stage{stage}" for loss in OF_BOXES for stage in range(3)}
        expected |= {"loss_rpn_cls", "loss_rpn_loc", "loss_mask"} | boxes
    assert losses.keys() == expected
    assert all(np.isfinite(loss) and loss > 0 for loss in losses.values()), losses
    for key, gradient in gradients.items():
        assert gradient is not None, key
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), key


@pytest.mark.parametrize("cascade", [False, pytest.param(True, marks=pytest.mark.full)])
def test_weights(cascade):
    """INSTANCE_LOSS_WEIGHT is that of box regression and masks, as in Detectron2."""
    name = "Misc/panoptic_fpn_R_101_dconv_cascade_gn_3x" if cascade else PANOPTIC
    depth = {"MODEL.RESNETS.DEPTH": 50, "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False] * 4}
    data = batch()

    def losses(**weights):
        keys = {key.replace("__", "."): value for key, value in weights.items()}
        _, model, named = small_model(name, depth | keys)
        return losses_and_gradients(model, named, data)[0]

    before = losses(MODEL__SEM_SEG_HEAD__LOSS_WEIGHT=1.0)
    after = losses(
        MODEL__SEM_SEG_HEAD__LOSS_WEIGHT=0.25, MODEL__PANOPTIC_FPN__INSTANCE_LOSS_WEIGHT=3.0
    )
    for key, value in before.items():
        weight = 0.25 if key == "loss_sem_seg" else 1.0
        weight = 3.0 if key.startswith(("loss_box_reg", "loss_mask")) else weight
        assert after[key] == pytest.approx(weight * value, rel=1e-5), key


def test_another_stride():
    """COMMON_STRIDE 8: from p3 on, for labels of the image's size all the same."""
    options = {
        "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 8,
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p3", "p4", "p5"],
    }
    _, model, named = small_model(SEMANTIC, options)
    images, sizes, targets = batch()
    losses, _ = losses_and_gradients(model, named, (images, sizes, targets))
    logits = model(images, sizes).sem_seg_logits  # FrozenBN: as in training
    assert logits.shape == (2, HEIGHT // 8, WIDTH // 8, STUFF)
    expected = semantic_cross_entropy(logits, targets.gt_sem_seg, stride=8, ignore_value=255)
    assert losses["loss_sem_seg"] == pytest.approx(float(expected), rel=1e-5)
