"""Twenty SGD steps of the joint model against Detectron2's, from the same weights and images.

Every anchor and every proposal is taken, so that nothing is random. Detectron2 with its initial
weights disturbed by a relative 1e-6 differs from this record by 1e-6 in the first step, 3e-4 by
the fifth and 2.2e-3 by the twentieth, when proposals flip: the tolerances leave that much room.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support.paths import DATA, DEMO
from tests.support.recorded_steps import load_recorded_config, relative_differences, take_steps
from tfdetect.checkpoint.assign import assign_state_dict
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.modeling.build import build_model

RECORD = json.loads((DATA / "tiny" / "training_steps.json").read_text())
STEPS = len(RECORD["losses"])


@pytest.fixture(scope="module")
def run():
    """Losses of every step, norms of the first gradients and of the parameters in the end."""
    cfg = load_recorded_config(DATA / "tiny" / "training_config.yaml", RECORD)
    model = build_model(cfg)
    arrays = read_checkpoint(DEMO / "joint_rcnn" / "model_final.pkl").arrays
    assign_state_dict(model, arrays, source="demo")
    steps = take_steps(cfg, model, RECORD["image_files"], STEPS)
    return {
        "losses": steps.losses,
        "first_gradients": {name: np.linalg.norm(g) for name, g in steps.first_gradients.items()},
        "parameters": {n.name: np.linalg.norm(n.variable) for n in steps.named},
    }


@pytest.mark.parametrize(("steps", "tolerance"), [(1, 1e-4), (5, 1e-3), (STEPS, 5e-3)])
def test_losses(run, steps, tolerance):
    for found, recorded in zip(run["losses"][:steps], RECORD["losses"], strict=False):
        for name, difference in relative_differences(found, recorded).items():
            assert difference <= tolerance, (name, found[name], recorded[name])


# A softmax over the pixels of a heatmap does not see what is added to all of them: the gradient of
# this parameter is 0, and what either implementation gets for it is the rounding of its sum.
WITHOUT_GRADIENT = "roi_heads.keypoint_head.score_lowres.bias"


def test_first_gradients(run):
    recorded = {name: g["norm"] for name, g in RECORD["first_gradients"].items()}
    found = dict(run["first_gradients"])
    # Recorded is 5e-8, of thousands of terms up to 0.02.
    assert max(recorded.pop(WITHOUT_GRADIENT), found.pop(WITHOUT_GRADIENT)) < 1e-6
    for name, difference in relative_differences(found, recorded).items():
        assert difference <= 1e-3, name


def test_parameters_in_the_end(run):
    recorded, found = dict(RECORD["parameter_norms_after_20_steps"]), dict(run["parameters"])
    # The roundings of twenty steps with momentum, times the learning rate: 20 * 10 * 5e-8 * 5e-4.
    difference = abs(found.pop(WITHOUT_GRADIENT) - recorded.pop(WITHOUT_GRADIENT))
    assert difference < 5e-9
    for name, difference in relative_differences(found, recorded).items():
        assert difference <= 1e-4, name
