"""Initial weights: Detectron2's distributions, by the layers' names."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.small_training import (
    C4,
    C4_OPTIONS,
    CASCADE,
    KEYPOINT_RCNN,
    NARROW_REGNET,
    configuration,
    small_model,
)
from tfdetect.checkpoint.names import named_variables
from tfdetect.modeling.build import build_model
from tfdetect.training.initialization import initialize


def initial(name, options=(), seed=0):
    _, model, _ = small_model(name, options, seed)
    return {n.name: n.variable.numpy() for n in named_variables(model)}


# Standard deviations by PyTorch's formulas: kaiming_normal_ sqrt(2 / fan out), kaiming_uniform_ of
# a = 1 sqrt(1 / fan in), and what Detectron2 states itself.
KEYPOINT = {
    "backbone.bottom_up.stem.conv1.weight": (2 / (32 * 49)) ** 0.5,
    "backbone.bottom_up.res4.0.conv1.weight": (2 / (128 * 9)) ** 0.5,
    "backbone.bottom_up.res5.0.shortcut.weight": (2 / 256) ** 0.5,
    "backbone.fpn_lateral4.weight": (1 / 128) ** 0.5,
    "backbone.fpn_output4.weight": (1 / (32 * 9)) ** 0.5,
    "proposal_generator.rpn_head.conv.weight": 0.01,
    "proposal_generator.rpn_head.anchor_deltas.weight": 0.01,
    "roi_heads.box_head.fc1.weight": (1 / (32 * 49)) ** 0.5,
    "roi_heads.box_head.fc2.weight": (1 / 32) ** 0.5,
    "roi_heads.box_predictor.cls_score.weight": 0.01,
    "roi_heads.box_predictor.bbox_pred.weight": 0.001,
    "roi_heads.keypoint_head.conv_fcn1.weight": (2 / (32 * 9)) ** 0.5,
    # PyTorch takes the input channels of a transposed convolution for its fan out.
    "roi_heads.keypoint_head.score_lowres.weight": (2 / (32 * 16)) ** 0.5,
}
CASCADE_MASK = {
    "roi_heads.box_head.2.fc1.weight": (1 / (32 * 49)) ** 0.5,
    "roi_heads.box_predictor.1.cls_score.weight": 0.01,
    "roi_heads.box_predictor.1.bbox_pred.weight": 0.001,
    "roi_heads.mask_head.mask_fcn1.weight": (2 / (32 * 9)) ** 0.5,
    "roi_heads.mask_head.deconv.weight": (2 / (32 * 4)) ** 0.5,
    "roi_heads.mask_head.predictor.weight": 0.001,
}
RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x"
DENSE = {
    "backbone.top_block.p6.weight": (1 / (256 * 9)) ** 0.5,
    "head.cls_subnet.0.weight": 0.01,
    "head.bbox_subnet.6.weight": 0.01,
    "head.cls_score.weight": 0.01,
    "head.bbox_pred.weight": 0.01,
}
C4_HEADS = {"roi_heads.res5.1.conv2.weight": (2 / (256 * 9)) ** 0.5}


@pytest.mark.parametrize(
    ("name", "options", "deviations"),
    [
        (KEYPOINT_RCNN, {}, KEYPOINT),
        (CASCADE, {}, CASCADE_MASK),
        (C4, C4_OPTIONS, C4_HEADS),
        (RETINANET, {}, DENSE),
    ],
)
def test_distributions(name, options, deviations):
    arrays = initial(name, options)
    for key, deviation in deviations.items():
        values = arrays[key]
        # Six standard errors of the deviation of n numbers.
        tolerance = 6 / (2 * values.size) ** 0.5
        np.testing.assert_allclose(values.std(), deviation, rtol=tolerance, err_msg=key)
        assert abs(values.mean()) < 6 * deviation / values.size**0.5
    uniform = [key for key in deviations if ".fc" in key or "fpn_" in key]
    for key in uniform:
        assert np.abs(arrays[key]).max() <= deviations[key] * 3**0.5
    for key, values in arrays.items():
        if key == "head.cls_score.bias":
            # Each class has a probability of 0.01 at first.
            np.testing.assert_allclose(values, -np.log(99), rtol=1e-6)
        elif key.endswith(".bias"):
            assert not values.any(), key


def test_fcos_and_norms_of_levels():
    options = {"MODEL.FCOS.NORM": "BN", "MODEL.FCOS.PRIOR_PROB": 0.2}
    arrays = initial("COCO-Detection/fcos_R_50_FPN_1x", options)
    np.testing.assert_allclose(arrays["head.cls_score.bias"], -np.log(4), rtol=1e-6)
    values = arrays["head.ctrness.weight"]
    assert abs(values.std() / 0.01 - 1) < 6 / (2 * values.size) ** 0.5
    assert not arrays["head.ctrness.bias"].any()
    for name, value in (("weight", 1), ("bias", 0), ("4.running_mean", 0), ("4.running_var", 1)):
        assert (arrays[f"head.bbox_subnet.1.{name}"] == value).all(), name


def test_norms_begin_as_the_identity():
    arrays = initial(KEYPOINT_RCNN)
    norm = "backbone.bottom_up.res3.0.conv1.norm."
    assert (arrays[norm + "weight"] == 1).all()
    assert not arrays[norm + "running_mean"].any()
    np.testing.assert_array_equal(arrays[norm + "running_var"], np.float32(1 - 1e-5))


def test_deformable_and_squeezing_layers():
    arrays = initial(
        KEYPOINT_RCNN,
        {
            "MODEL.RESNETS.DEPTH": 50,
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, False, True],
        },
    )
    assert not arrays["backbone.bottom_up.res5.0.conv2_offset.weight"].any()
    assert arrays["backbone.bottom_up.res5.0.conv2.weight"].any()
    squeezing = initial(
        KEYPOINT_RCNN,
        {
            "MODEL.BACKBONE.NAME": "build_regnet_fpn_backbone",
            "MODEL.REGNETS.SE_RATIO": 0.25,
            **NARROW_REGNET,
            "MODEL.FPN.IN_FEATURES": ["s1", "s2", "s3", "s4"],
        },
    )
    biases = [v for k, v in squeezing.items() if "f_ex" in k and k.endswith("bias")]
    assert all(values.any() for values in biases)


def test_the_seed_and_the_name_decide():
    first, again = initial(KEYPOINT_RCNN), initial(KEYPOINT_RCNN)
    other = initial(KEYPOINT_RCNN, seed=1)
    more = initial(KEYPOINT_RCNN, {"MODEL.MASK_ON": True, "MODEL.ROI_HEADS.NUM_CLASSES": 9})
    key = "roi_heads.box_head.fc1.weight"
    np.testing.assert_array_equal(first[key], again[key])
    np.testing.assert_array_equal(first[key], more[key])
    assert (first[key] != other[key]).all()


def test_nothing_is_left_at_zero_that_should_not_be():
    cfg = configuration(CASCADE)
    model = build_model(cfg)
    initialize(model, cfg, 3)
    zero = [n.name for n in named_variables(model) if not n.variable.numpy().any()]
    assert all(name.endswith((".bias", ".running_mean")) for name in zero), zero
