"""The public API: what `tfdetect` has, and that importing it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tfdetect
from tests.support.paths import DEMO, ROOT
from tfdetect.registry import Registry

FUNCTIONS = {
    "add_config",
    "build_model",
    "build_tracker_head",
    "evaluate",
    "export_savedmodel",
    "load_config",
    "load_model",
    "optimize",
    "register_coco_dataset",
    "register_panoptic_dataset",
    "register_sem_seg_dataset",
    "register_separated_dataset",
    "train",
}
REGISTRIES = {
    "AUGMENTATIONS",
    "BACKBONES",
    "BOX_HEADS",
    "BOX_LOSSES",
    "DATASETS",
    "EVALUATORS",
    "HOOKS",
    "KEYPOINT_HEADS",
    "MASK_HEADS",
    "META_ARCHITECTURES",
    "POINT_HEADS",
    "PROPOSAL_GENERATORS",
    "ROI_HEADS",
    "SEM_SEG_HEADS",
    "TRACKER_HEADS",
}
CLASSES = {"Backend", "Detections", "Hook", "InputError", "Predictor", "Slices", "Tracks"}

IMPORT = """
import os, signal, sys
before = dict(os.environ), signal.getsignal(signal.SIGINT), sys.excepthook
import tfdetect
assert not {"tensorflow", "numpy", "cv2", "tensorpack", "yacs"} & set(sys.modules), sys.modules
assert before == (dict(os.environ), signal.getsignal(signal.SIGINT), sys.excepthook)
tfdetect.load_config, tfdetect.InputError, tfdetect.Detections, tfdetect.DATASETS
tfdetect.BACKBONES, tfdetect.HOOKS, tfdetect.train
tfdetect.AUGMENTATIONS, tfdetect.EVALUATORS, tfdetect.register_coco_dataset
assert "tensorflow" not in sys.modules
assert set(tfdetect.__all__) <= set(dir(tfdetect))
"""


def test_what_there_is():
    assert set(tfdetect.__all__) == FUNCTIONS | REGISTRIES | CLASSES
    assert sorted(tfdetect.__all__) == sorted(set(tfdetect.__all__))


@pytest.mark.parametrize("name", sorted(FUNCTIONS | CLASSES))
def test_each_says_what_it_is(name):
    value = getattr(tfdetect, name)
    assert value.__name__ == name
    assert len(value.__doc__ or "") > 60


@pytest.mark.parametrize("name", sorted(REGISTRIES))
def test_registries(name):
    registry = getattr(tfdetect, name)
    assert isinstance(registry, Registry)
    assert len(registry) > 0 or name in ("DATASETS", "HOOKS")


def test_importing_is_cheap_and_changes_nothing():
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="has no attribute 'predictor'"):
        _ = tfdetect.predictor


def test_evaluate(model_dir, tmp_path):
    """As `predict.py --evaluate`, of the demo's annotations (tests/cli/test_evaluate.py)."""
    found = tfdetect.evaluate(
        tfdetect.Predictor(model_dir), DEMO / "annotations.json", DEMO / "images", output=tmp_path
    )
    assert found.metrics["bbox"]["AP"] > 50
    assert (tmp_path / "metrics.json").is_file()
    assert not found.errors
    (tmp_path / "none").mkdir()
    with pytest.raises(tfdetect.InputError, match=r"^images .*none: has none of the"):
        tfdetect.evaluate(
            tfdetect.Predictor(model_dir), DEMO / "annotations.json", tmp_path / "none"
        )
