"""TEST.AUG: models and values that are rejected, each in one line."""

from __future__ import annotations

import pytest

from tests.support.paths import DEMO, ROOT
from tfdetect.config import load_config
from tfdetect.config.tta import check_tta, describe_tta
from tfdetect.errors import InputError

JOINT = DEMO / "joint_rcnn" / "config.yaml"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MIN_SIZES", (), "TEST.AUG.MIN_SIZES: is (); give at least one whole number"),
        ("MIN_SIZES", None, "TEST.AUG.MIN_SIZES: is None"),
        ("MIN_SIZES", (400, -1), "TEST.AUG.MIN_SIZES: is (400, -1)"),
        ("MIN_SIZES", (400.5,), "TEST.AUG.MIN_SIZES: is (400.5,)"),
        ("MIN_SIZES", (True,), "TEST.AUG.MIN_SIZES: is (True,)"),
        ("MIN_SIZES", (10**5000,), "TEST.AUG.MIN_SIZES: is too large"),
        ("MIN_SIZES", ((400,),), "TEST.AUG.MIN_SIZES: is ((400,),)"),
        ("MAX_SIZE", 0, "TEST.AUG.MAX_SIZE: is 0; give a whole number from 1"),
        ("MAX_SIZE", 2**26 + 1, "TEST.AUG.MAX_SIZE: is 67108865"),
        ("MAX_SIZE", None, "TEST.AUG.MAX_SIZE: is None"),
        ("FLIP", None, "TEST.AUG.FLIP: is None"),
    ],
)
def test_values(key, value, message):
    cfg = load_config(JOINT)
    cfg.defrost()
    cfg.TEST.AUG[key] = value
    with pytest.raises(InputError) as caught:
        check_tta(cfg)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["large", "'400'", "('400', 500)"])
def test_text(value):
    with pytest.raises(InputError, match=r"^--opts: TEST\.AUG\.MIN_SIZES: got text"):
        load_config(JOINT, ["TEST.AUG.MIN_SIZES", value])


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("COCO-Detection/rpn_R_50_FPN_1x", [], "ProposalNetwork detects none"),
        ("Misc/semantic_R_50_FPN_1x", [], "SemanticSegmentor detects none"),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x", [], "PanopticFPN segments all pixels"),
        ("COCO-Detection/fast_rcnn_R_50_FPN_1x", [], "the given proposals are of the image"),
        (
            "COCO-Detection/faster_rcnn_R_50_FPN_1x",
            ["MODEL.ROI_HEADS.NAME", "RROIHeads"],
            "its boxes are rotated",
        ),
        (
            "COCO-Detection/faster_rcnn_R_50_FPN_1x",
            ["MODEL.CONVENTIONS", "torchvision"],
            "follows torchvision's conventions",
        ),
    ],
)
def test_models_that_are_refused(name, options, reason):
    cfg = load_config(ROOT / "configs" / f"{name}.yaml", options)
    with pytest.raises(InputError, match=rf"^TEST\.AUG\.ENABLED: .*{reason}.*set it to False$"):
        check_tta(cfg)


@pytest.mark.parametrize(
    "name",
    [
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x",
        "Misc/cascade_mask_rcnn_R_50_FPN_1x",
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x",
        "COCO-Detection/retinanet_R_50_FPN_1x",
    ],
)
def test_models_that_are_augmented(name):
    cfg = load_config(ROOT / "configs" / f"{name}.yaml", ["TEST.AUG.MIN_SIZES", (0, 400)])
    check_tta(cfg)
    assert "4 images in place of each (shorter edge 0, 400, each flipped too)" in describe_tta(cfg)
