"""Registries: what a name stands for, and what is said of one that stands for nothing."""

from __future__ import annotations

import pytest
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.modeling import registries
from tfdetect.registry import Registry


def test_register_and_build():
    things = Registry("thing")

    @things.register()
    def double(x):
        return 2 * x

    @things.register("boxed")
    class Box:
        def __init__(self, x):
            self.x = x

        @classmethod
        def from_config(cls, x):
            return cls(x + 1)

    assert things.make("KEY", "double", 3) == 6
    assert things.make("KEY", "boxed", 3).x == 4
    assert list(things) == ["double", "boxed"]
    assert "double" in things
    assert "triple" not in things


def test_the_entry_that_a_configuration_names():
    things = Registry("thing")
    things.add("pair", lambda cfg, x: (cfg, x))
    cfg = CfgNode({"MODEL": {"THING": {"NAME": "pair"}}})
    assert things.build(cfg, "MODEL.THING.NAME", 3) == (cfg, 3)
    cfg.MODEL.THING.NAME = "triple"
    with pytest.raises(InputError, match=r"^MODEL\.THING\.NAME: 'triple' is not supported"):
        things.build(cfg, "MODEL.THING.NAME", 3)


def test_a_name_is_given_once():
    things = Registry("thing")
    things.add("a", print)
    with pytest.raises(InputError, match=r"^thing 'a' is registered twice, by builtins and by "):
        things.register("a")(lambda: None)
    assert things.get("KEY", "a") is print


def test_an_unknown_name_is_answered_with_the_near_ones():
    things = Registry("thing", advice=lambda name: f"{name} is out of scope")
    for name in ("StandardROIHeads", "CascadeROIHeads", "RPN"):
        things.add(name, object)
    with pytest.raises(InputError) as caught:
        things.get("MODEL.X", "StandardRoiHead")
    assert str(caught.value) == (
        "MODEL.X: 'StandardRoiHead' is not supported; use StandardROIHeads "
        "(StandardRoiHead is out of scope)"
    )
    with pytest.raises(InputError, match="use StandardROIHeads or CascadeROIHeads or RPN"):
        things.get("MODEL.X", "?")


def test_the_names_are_detectron2s():
    assert set(registries.META_ARCHITECTURES) == {
        "GeneralizedRCNN",
        "ProposalNetwork",
        "SemanticSegmentor",
        "PanopticFPN",
        "RetinaNet",
        "FCOS",
    }
    assert set(registries.BACKBONES) == {
        "build_resnet_backbone",
        "build_resnet_fpn_backbone",
        "build_retinanet_resnet_fpn_backbone",
        "build_fcos_resnet_fpn_backbone",
        "build_regnet_fpn_backbone",
        "build_mvit_backbone",
        "build_mvit_fpn_backbone",
        "build_swin_backbone",
        "build_swin_fpn_backbone",
        "build_vit_backbone",
        "build_vit_simple_feature_pyramid_backbone",
    }
    assert list(registries.PROPOSAL_GENERATORS) == ["RPN", "RRPN"]
    assert set(registries.ROI_HEADS) == {
        "StandardROIHeads",
        "CascadeROIHeads",
        "Res5ROIHeads",
        "PointRendROIHeads",
        "RROIHeads",
    }
    assert list(registries.BOX_HEADS) == ["FastRCNNConvFCHead"]
    assert set(registries.MASK_HEADS) == {
        "MaskRCNNConvUpsampleHead",
        "PointRendMaskHead",
        "ImplicitPointRendMaskHead",
    }
    assert set(registries.POINT_HEADS) == {"StandardPointHead", "ImplicitPointHead"}
    assert list(registries.KEYPOINT_HEADS) == ["KRCNNConvDeconvUpsampleHead"]
    assert set(registries.SEM_SEG_HEADS) == {"SemSegFPNHead", "PointRendSemSegHead"}
    assert list(registries.BOX_LOSSES) == ["smooth_l1", "giou", "diou", "ciou"]
