"""What models can do, by their configurations; and that nothing else asks for their names."""

from __future__ import annotations

import re

import pytest

from tests.support.paths import ROOT
from tfdetect.config import capabilities as module
from tfdetect.config import get_cfg, load_config
from tfdetect.config.capabilities import Parts, capabilities, register_architecture
from tfdetect.config.checks import model_sections
from tfdetect.config.training_checks import check_training
from tfdetect.errors import InputError

COCO = "COCO-{}.yaml"
ABLE = {
    "Detection/faster_rcnn_R_50_FPN_1x": {"has_boxes", "trainable"},
    "Detection/fast_rcnn_R_50_FPN_1x": {"has_boxes", "takes_proposals", "trainable"},
    "Detection/retinanet_R_50_FPN_1x": {"has_boxes", "trainable"},
    "Detection/fcos_R_50_FPN_1x": {"has_boxes", "trainable"},
    "Detection/rpn_R_50_FPN_1x": {"proposes", "trainable"},
    "InstanceSegmentation/mask_rcnn_R_50_C4_1x": {"has_boxes", "has_masks", "trainable"},
    "Keypoints/keypoint_rcnn_R_50_FPN_1x": {"has_boxes", "has_keypoints", "trainable"},
    "PanopticSegmentation/panoptic_fpn_R_50_1x": {
        *("has_boxes", "has_masks", "has_semantic", "has_panoptic", "trainable")
    },
}
NUMBERS = {"Keypoints": (1, 0, 17), "PanopticSegmentation": (80, 54, 0)}


@pytest.mark.parametrize("name", ABLE)
def test_of_the_zoo(name):
    able = capabilities(load_config(ROOT / "configs" / COCO.format(name)))
    assert {field for field, value in vars(able).items() if value is True} == ABLE[name]
    expected = (1 if able.proposes else 80, 0, 0)
    numbers = able.num_classes, able.num_stuff_classes, able.num_keypoints
    assert numbers == NUMBERS.get(name.partition("/")[0], expected)
    section = "RETINANET" if "retinanet" in name else "FCOS" if "fcos" in name else "ROI_HEADS"
    assert able.classes_key == f"MODEL.{section}.NUM_CLASSES"


def test_heads_of_others_do_not_count():
    opts = ["MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.MASK_ON", True]
    able = capabilities(get_cfg_with([*opts, "MODEL.KEYPOINT_ON", True]))
    found = {key for key, value in vars(able).items() if value is True}
    assert found == {"has_semantic", "trainable"}
    assert able.classes_key == "MODEL.SEM_SEG_HEAD.NUM_CLASSES"


def get_cfg_with(opts):
    cfg = get_cfg()
    cfg.merge_from_list(opts)
    return cfg


def test_an_architecture_of_ones_own(monkeypatch):
    monkeypatch.setattr(module, "_ARCHITECTURES", dict(module._ARCHITECTURES))
    cfg = get_cfg_with(["MODEL.META_ARCHITECTURE", "MyDetector"])
    with pytest.raises(InputError, match=r"^MODEL\.META_ARCHITECTURE: MyDetector is not known"):
        check_training(cfg)
    register_architecture("MyDetector", Parts(roi_heads=True, trainable=True))
    check_training(cfg)
    assert capabilities(cfg).has_boxes
    assert "ROI_BOX_HEAD" in model_sections(cfg)


def test_nothing_else_asks_for_a_name():
    """Names are compared in capabilities.py; build.py looks the class up."""
    name = r"(META_ARCHITECTURE|ROI_HEADS\.NAME|\barchitecture)"
    asks = re.compile(name + r"(?:\"\]|\))? *(==|!=|in\b|not in\b)")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for package in ("tfdetect", "convert_d2")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "capabilities.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if asks.search(line)
    ]
    assert not found, "\n".join(found)
