"""The configs of this project mean what Detectron2's of the same name mean.

`zoo_values.json` has the SHA-256 of each config, merged with its bases and the defaults and
written as canonical JSON. It was recorded from Detectron2's own files (main, commit 02b5c4e2) with
plain dictionaries, so that nothing of `tfdetect.config` took part; the empty name is the defaults.
The keys that Detectron2's schema lacks (OWN_KEYS, POINTREND_KEYS) are left out of what is compared.
"""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tfdetect.config import dump_config, get_cfg, load_config
from tfdetect.config.keys import OWN_KEYS, POINTREND_KEYS

RECORDED = json.loads((Path(__file__).parent / "zoo_values.json").read_text())
CONFIGS = ROOT / "configs"
FCOS = "COCO-Detection/fcos_R_50_FPN_1x.yaml"


def digest(cfg) -> str:
    values = copy.deepcopy(cfg)
    for key in (*OWN_KEYS, *POINTREND_KEYS):
        *sections, name = key.split(".")
        node = values
        for section in sections:
            node = node[section]
        del node[name]
    return hashlib.sha256(
        json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def test_recorded_and_present_are_the_same_files():
    present = {str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml")}
    # These are Python in Detectron2: see test_new_baselines.py and, below, FCOS. Those of its
    # projects/PointRend have more keys: see test_point_rend_configs.py.
    # its transformers in test_transformer_configs.py.
    folders = ("new_baselines/", "PointRend/", "ViTDet/", "MViTv2/")
    elsewhere = {name for name in present if name.startswith(folders)}
    yaml = present - elsewhere - {FCOS}
    assert yaml == {name for name in RECORDED if name}


@pytest.mark.parametrize("name", RECORDED)
def test_values_are_those_of_detectron2(name):
    cfg = load_config(CONFIGS / name) if name else get_cfg()
    assert digest(cfg) == RECORDED[name]


def test_fcos_has_the_values_of_its_python_config():
    """`common/models/fcos.py` and the constructor of `FCOS`, trained like RetinaNet."""
    cfg = load_config(CONFIGS / FCOS)
    assert dict(cfg.MODEL.FCOS) == {
        "NUM_CLASSES": 80,
        "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
        "NUM_CONVS": 4,
        "NORM": "GN",
        "PRIOR_PROB": 0.01,
        "OFFSET": 0.5,
        "NORMALIZE_BY_SIZE": True,
        "CENTER_SAMPLING_RADIUS": 1.5,
        "FOCAL_LOSS_ALPHA": 0.25,
        "FOCAL_LOSS_GAMMA": 2.0,
        "SCORE_THRESH_TEST": 0.2,
        "TOPK_CANDIDATES_TEST": 1000,
        "NMS_THRESH_TEST": 0.6,
    }
    retinanet = load_config(CONFIGS / FCOS.replace("fcos", "retinanet"))
    for section in ("SOLVER", "INPUT", "DATASETS", "TEST", "DATALOADER"):
        assert cfg[section] == retinanet[section]
    assert cfg.MODEL.RESNETS == retinanet.MODEL.RESNETS
    assert cfg.MODEL.WEIGHTS == retinanet.MODEL.WEIGHTS


@pytest.mark.parametrize(
    "name",
    ["Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml", "PascalVOC-Detection/faster_rcnn_R_50_C4.yaml"],
)
def test_written_config_reads_the_same(name, tmp_path):
    cfg = load_config(CONFIGS / name)
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(cfg))
    assert load_config(path) == cfg


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("faster_rcnn_R_50_FPN_noaug_1x", (800,)),
        ("mask_rcnn_R_50_FPN_noaug_1x", (800,)),
        ("keypoint_rcnn_R_50_FPN_1x", (640, 672, 704, 736, 768, 800)),
    ],
)
def test_the_three_of_detectron1_comparisons(name, scales):
    """Smooth L1, ROIAlign without the half-pixel shift, sampling ratio 2."""
    cfg = load_config(CONFIGS / "Detectron1-Comparisons" / f"{name}.yaml")
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    assert sizes == scales
    assert (cfg.MODEL.RPN.SMOOTH_L1_BETA, cfg.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA) == (0.1111, 1.0)
    assert cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE == "ROIAlign"
    assert cfg.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO == 2
