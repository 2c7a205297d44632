"""docs/coming-from-detectron2.md says of each of Detectron2's keys what the code does with it.

That the defaults have exactly Detectron2's keys and values, but for OWN_KEYS and
POINTREND_KEYS, is known from the digest in zoo_values.json (test_zoo_configs.py).
"""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.support.detectron2_table import rows
from tests.support.paths import DEMO, ROOT
from tfdetect.config import load_config
from tfdetect.config.checks import check_model
from tfdetect.config.defaults import DEFAULTS
from tfdetect.config.ignored import _OF_SAMPLERS, _ONLY_WITH, ignored_in_training
from tfdetect.config.keys import OWN_KEYS, POINTREND_KEYS
from tfdetect.config.training_checks import check_output, check_training
from tfdetect.config.tta import check_tta
from tfdetect.data.registry import register_coco_dataset
from tfdetect.data.training.input import training_dataset
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model
from tfdetect.training.devices import set_up_devices

ROWS = {key: (status, notes) for key, status, notes in rows("Configuration")}
MASK = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"
# A model in which the keys of a section have a meaning, the first that fits.
MODELS = {
    "MODEL.ROI_BOX_CASCADE_HEAD.": "Misc/cascade_mask_rcnn_R_50_FPN_1x",
    "MODEL.RETINANET.": "COCO-Detection/retinanet_R_50_FPN_1x",
    "MODEL.SEM_SEG_HEAD.": "Misc/semantic_R_50_FPN_1x",
    "MODEL.PANOPTIC_FPN.": "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x",
    "MODEL.ROI_KEYPOINT_HEAD.": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x",
    "MODEL.LOAD_PROPOSALS": "COCO-Detection/fast_rcnn_R_50_FPN_1x",
    "DATASETS.P": "COCO-Detection/fast_rcnn_R_50_FPN_1x",
}
# Values that are rejected, of keys that are "limited".
REJECTED = {
    "VERSION": 1,
    "OUTPUT_DIR": "s3://somewhere",
    "MODEL.DEVICE": "xpu",
    "MODEL.META_ARCHITECTURE": "DensePoseRCNN",
    "MODEL.BACKBONE.NAME": "build_vovnet_backbone",
    "MODEL.PIXEL_MEAN": [1.0],
    "MODEL.PIXEL_STD": [0.0, 1.0, 1.0],
    "INPUT.FORMAT": "YUV-BT.601",
    "DATALOADER.SAMPLER_TRAIN": "MySampler",
    "TEST.AUG.ENABLED": True,
}
# Values that are not the default, where one of the same type would not do.
OTHER = {
    "VERSION": 2,
    "INPUT.MIN_SIZE_TEST": 600,
    "INPUT.MAX_SIZE_TEST": 2000,
    "INPUT.MAX_SIZE_TRAIN": 2000,
    "SOLVER.STEPS": (500,),
    "MODEL.META_ARCHITECTURE": "ProposalNetwork",
    "MODEL.MASK_ON": True,
    "TEST.EVAL_PERIOD": 100,
    "DATASETS.TEST": ("x",),
}


def get(node, key):
    for part in key.split("."):
        node = node[part]
    return node


def detectron2_keys(node=DEFAULTS, prefix=""):
    for name, value in node.items():
        key = prefix + name
        if any(key == own or key.startswith(f"{own}.") for own in (*OWN_KEYS, *POINTREND_KEYS)):
            continue
        if isinstance(value, dict):
            yield from detectron2_keys(value, f"{key}.")
        else:
            yield key


def test_each_key_has_a_row():
    keys = list(detectron2_keys())
    assert [key for key, _, _ in rows("Configuration")] == keys
    assert len(keys) > 180
    assert {status for status, _ in ROWS.values()} == {"same", "limited", "no effect"}


# What `add_pointrend_config` (main, commit 02b5c4e2) adds, in its values.
POINTREND = {
    "MODEL.ROI_MASK_HEAD.IN_FEATURES": ("p2",),
    "MODEL.ROI_MASK_HEAD.FC_DIM": 1024,
    "MODEL.ROI_MASK_HEAD.NUM_FC": 2,
    "MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON": False,
    "MODEL.POINT_HEAD.NAME": "StandardPointHead",
    "MODEL.POINT_HEAD.NUM_CLASSES": 80,
    "MODEL.POINT_HEAD.IN_FEATURES": ("p2",),
    "MODEL.POINT_HEAD.TRAIN_NUM_POINTS": 196,
    "MODEL.POINT_HEAD.OVERSAMPLE_RATIO": 3,
    "MODEL.POINT_HEAD.IMPORTANCE_SAMPLE_RATIO": 0.75,
    "MODEL.POINT_HEAD.SUBDIVISION_STEPS": 5,
    "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 784,
    "MODEL.POINT_HEAD.FC_DIM": 256,
    "MODEL.POINT_HEAD.NUM_FC": 3,
    "MODEL.POINT_HEAD.CLS_AGNOSTIC_MASK": False,
    "MODEL.POINT_HEAD.COARSE_PRED_EACH_LAYER": True,
    "MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME": "SemSegFPNHead",
    "MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED": True,
    "MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED": True,
    "MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER": 1e-5,
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 1.0,
    "INPUT.COLOR_AUG_SSD": False,
}


def test_pointrend_keys():
    """Each has a row and PointRend's default, and they are all that is left out above."""
    found = rows("PointRend's configuration")
    assert [key for key, _, _ in found] == list(POINTREND)
    assert {status for _, status, _ in found} == {"same"}
    assert {key: get(DEFAULTS, key) for key in POINTREND} == POINTREND
    covered = {
        own for own in POINTREND_KEYS for key in POINTREND if f"{key}.".startswith(f"{own}.")
    }
    assert covered == set(POINTREND_KEYS)


@pytest.mark.parametrize("key", POINTREND)
def test_pointrend_key_is_read(key):
    assert key.rpartition(".")[2] in names_in_code()


def other_value(key):
    """A value that a key has in no default."""
    value = get(DEFAULTS, key)
    if key in OTHER:
        return OTHER[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if value is None:
        return 0.5
    return value + "x" if isinstance(value, str) else [*value, *(value[-1:] or ["x"])]


def model_of(key):
    return next((name for start, name in MODELS.items() if key.startswith(start)), MASK)


def lines_with(key):
    """The lines on keys without effect, where this one has another value and what it needs."""
    opts = [key, other_value(key)]
    if key in _OF_SAMPLERS:
        opts += ["DATALOADER.SAMPLER_TRAIN", _OF_SAMPLERS[key][0]]
    needs = key
    while needs in _ONLY_WITH:
        needs, value = _ONLY_WITH[needs]
        opts += [needs, value]
    return [
        line
        for line in ignored_in_training(load_config(model_of(key), opts))
        if line.startswith(f"{key}:")
    ]


@pytest.mark.parametrize("key", ROWS)
def test_effect(key):
    """A key without effect is reported as one, and no other is."""
    expected = 1 if ROWS[key][0] == "no effect" else 0
    assert len(lines_with(key)) == expected, lines_with(key)


@cache
def names_in_code():
    """Attributes and texts of the package but for its schema and the checks of values."""
    found = set()
    schema = ROOT / "tfdetect" / "config"
    read = {schema / f"{name}.py" for name in ("capabilities", "tta", "prediction")}
    for path in set((ROOT / "tfdetect").rglob("*.py")) - set(schema.rglob("*.py")) | read:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # A key is read by its whole name in `of_keys`.
                is_key = re.fullmatch(r"[A-Z0-9_.]+", node.value)
                found.add(node.value.rpartition(".")[2] if is_key else node.value)
    return found


@pytest.mark.parametrize(
    "key", [key for key, (status, _) in ROWS.items() if status != "no effect" and key != "VERSION"]
)
def test_is_read(key):
    """By its last name, in code that is not about the schema (which reads VERSION)."""
    name = key.rpartition(".")[2]
    # What it says is said by PROPOSAL_GENERATOR.NAME too; check_training wants them to agree.
    names = names_in_code() | {"LOAD_PROPOSALS"}
    in_parts = any(name.startswith(text) and len(text) > 8 for text in names if text.endswith("_"))
    assert name in names or in_parts


def test_each_limited_key_has_a_rejected_value():
    limited = {key for key, (status, _) in ROWS.items() if status == "limited"}
    assert limited == set(REJECTED)
    assert all(ROWS[key][1] for key in limited)


def rejection(key):
    """The message for a value that is rejected."""
    opts = [key, REJECTED[key]]
    if key in ("INPUT.FORMAT", "DATALOADER.SAMPLER_TRAIN"):
        name = "coming_from_detectron2"
        register_coco_dataset(name, DEMO / "annotations.json", DEMO / "images")
        opts += ["DATASETS.TRAIN", (name,), "MODEL.ROI_HEADS.NUM_CLASSES", 4]
    model = MODELS["MODEL.SEM_SEG_HEAD."] if key == "TEST.AUG.ENABLED" else model_of(key)
    with pytest.raises(InputError) as caught:
        check_all(load_config(model, opts))
    return str(caught.value)


def check_all(cfg):
    """What a training looks at, in its order."""
    check_output(cfg)
    check_model(cfg)
    set_up_devices(None, cfg.MODEL.DEVICE)
    if cfg.TEST.AUG.ENABLED:
        check_tta(cfg)
    check_training(cfg)
    if cfg.DATASETS.TRAIN == ("coming_from_detectron2",):
        training_dataset(cfg, seed=0)
    build_model(cfg)


@pytest.mark.parametrize("key", REJECTED)
def test_rejected(key):
    assert key in rejection(key)
