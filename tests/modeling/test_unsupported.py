"""What is not supported is rejected with the configuration key."""

from __future__ import annotations

import pytest

from tests.support.paths import ROOT
from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model

FPN, C4 = "Base-RCNN-FPN", "Base-RCNN-C4"
BASIC = ["MODEL.RESNETS.DEPTH", 18]
DEFORM_RES5 = ["MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, False, True]]
CASES = [
    (FPN, ["MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"], "is not supported"),
    (FPN, ["MODEL.ROI_HEADS.IN_FEATURES", ["p7"]], "is not a feature of the backbone"),
    (FPN, ["MODEL.ROI_HEADS.IN_FEATURES", []], "is empty"),
    (FPN, ["MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignRotated"], "horizontal boxes"),
    (FPN, ["MODEL.ROI_BOX_HEAD.NORM", "XN"], "is not supported"),
    (FPN, ["MODEL.META_ARCHITECTURE", "DensePoseRCNN"], "projects/ add is out of scope"),
    (FPN, ["MODEL.RESNETS.DEPTH", 77], "use 18, 34, 50"),
    (FPN, ["MODEL.RESNETS.OUT_FEATURES", ["res6"]], "use stem, res2"),
    (FPN, ["MODEL.FPN.IN_FEATURES", ["res2", "res5"]], "do not double"),
    (C4, ["MODEL.KEYPOINT_ON", True], "no keypoint head"),
    (C4, ["MODEL.RESNETS.RES5_DILATION", 3], "use 1 or 2"),
    (C4, DEFORM_RES5, "cannot be deformable"),
    (C4, [*BASIC, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64], ""),
]


def refusal(base, opts):
    with pytest.raises(InputError) as refused:
        build_model(load_config(ROOT / "configs" / f"{base}.yaml", opts))
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(("base", "opts", "words"), CASES)
def test_the_key_is_named(base, opts, words):
    message = refusal(base, opts)
    assert message.startswith(f"{opts[0]}: ")
    assert words in message


def test_keys_that_do_not_go_together():
    """The message names the key to change, which is another one."""
    assert refusal(FPN, BASIC).startswith("MODEL.RESNETS.RES2_OUT_CHANNELS: ")
    message = refusal(FPN, ["MODEL.PROPOSAL_GENERATOR.NAME", "RRPN"])
    assert message.startswith("MODEL.ANCHOR_GENERATOR.NAME: ")
    message = refusal(FPN, ["MODEL.ROI_HEADS.NAME", "RROIHeads"])
    assert message.startswith("MODEL.PROPOSAL_GENERATOR.NAME: ")
    message = refusal(FPN, ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads"])
    assert message.startswith("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG: ")


def test_roi_heads_need_equal_channels():
    """Not reachable with an FPN, whose levels have the same."""
    opts = ["MODEL.RESNETS.OUT_FEATURES", ["res3", "res4"]]
    opts += ["MODEL.ROI_HEADS.IN_FEATURES", ["res3", "res4"]]
    opts += ["MODEL.ROI_HEADS.NAME", "StandardROIHeads"]
    opts += ["MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead"]
    cfg = load_config(ROOT / "configs" / "Base-RCNN-C4.yaml", opts)
    with pytest.raises(InputError, match="channels"):
        build_model(cfg)
