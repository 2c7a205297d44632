"""RegNet's widths and depths, and what its parameters may not be."""

from __future__ import annotations

import pytest
from conftest import ROOT

from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.modeling.backbone.regnet import build_regnet, stage_widths_and_depths

CONFIG = ROOT / "configs/new_baselines/mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ.yaml"


def test_published_networks():
    """RegNetX and RegNetY 4GF of the paper's tables (Designing Network Design Spaces)."""
    assert stage_widths_and_depths(23, 38.65, 96, 2.43, 40) == ([80, 240, 560, 1360], [2, 5, 14, 2])
    assert stage_widths_and_depths(22, 31.41, 96, 2.24, 64) == (
        [128, 192, 512, 1088],
        [2, 6, 12, 2],
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("W_0", 90), ("W_M", 1.0), ("DEPTH", 0), ("OUT_FEATURES", ["s9"]), ("GROUP_WIDTH", -1)],
)
def test_impossible_parameters_are_named(key, value):
    cfg = load_config(CONFIG, [f"MODEL.REGNETS.{key}", value])
    with pytest.raises(InputError, match=rf"^MODEL\.REGNETS\.{key}: "):
        build_regnet(cfg)
