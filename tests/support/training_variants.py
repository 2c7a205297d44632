"""Detectron2's records of three SGD steps of narrow variants, and comparisons with them.

Tolerances are those that a good port reaches by the record's own account, or three times what
Detectron2 differs from itself by when its initial weights are disturbed by a relative 1e-6 (`noise`
in a record), where that is more.
"""

from __future__ import annotations

import gzip
import json
from functools import cache

import numpy as np

from tests.support.paths import DATA
from tests.support.recorded_steps import relative_differences
from tfdetect.checkpoint.names import named_variables

FOLDER = DATA / "training_variants"
NAMES = sorted(path.name.removesuffix(".json.gz") for path in FOLDER.glob("*.json.gz"))
NAMES.remove("configs")

# Detectron2 has RegNet in Python configurations only: here in keys, on top of `faster_fpn`.
REGNET = {
    "MODEL.BACKBONE.NAME": "build_regnet_fpn_backbone",
    "MODEL.FPN.IN_FEATURES": ["s1", "s2", "s3", "s4"],
    "MODEL.MASK_ON": True,
    "MODEL.PIXEL_STD": [57.375, 57.12, 58.395],
    "MODEL.REGNETS.OUT_FEATURES": ["s1", "s2", "s3", "s4"],
    "MODEL.REGNETS.STEM_WIDTH": 16,
    "MODEL.REGNETS.DEPTH": 8,
    "MODEL.REGNETS.W_A": 16.0,
    "MODEL.REGNETS.W_0": 16,
    "MODEL.REGNETS.W_M": 2.0,
    "MODEL.REGNETS.GROUP_WIDTH": 8,
    "MODEL.REGNETS.NORM": "FrozenBN",
    "SOLVER.WEIGHT_DECAY": 5e-5,
}
OPTIONS = {
    "regnetx": {**REGNET, "MODEL.REGNETS.SE_RATIO": 0.0},
    "regnety": {**REGNET, "MODEL.REGNETS.SE_RATIO": 0.25},
}


@cache
def _read(name):
    with gzip.open(FOLDER / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def record(name):
    """What Detectron2 gave; `noise` is how far it is from itself with weights disturbed by 1e-6."""
    return _read(name)


def write_config(name, folder):
    """The configuration of a variant as a file in `folder`, and options for it."""
    path = folder / f"{name}.yaml"
    path.write_text(_read("configs")["faster_fpn" if name in OPTIONS else name])
    return path, [item for pair in OPTIONS.get(name, {}).items() for item in pair]


def arrays_of(model):
    """Its variables by name, in PyTorch's layout."""
    return {named.name: named.to_foreign() for named in named_variables(model)}


def assert_losses(found, recorded):
    """Of each step by name, against a record."""
    close = recorded["noise"]["losses"] < 2e-5
    for step, (losses, expected) in enumerate(zip(found, recorded["losses"], strict=True)):
        tolerance = 5e-5 if step == 0 else 2e-4 if close else 2e-3
        differences = relative_differences(losses, expected, 1e-3)
        for loss, difference in differences.items():
            assert difference <= tolerance, (step, loss, losses[loss], expected[loss])


def assert_parameters(name, found, initial, recorded):
    """Arrays in PyTorch's layout after the steps, and before: norms, how they changed, values."""
    noise = recorded["noise"]
    share = max(1e-2, 3 * noise["first_gradient_norms"])
    for key, norm in recorded["parameter_norms"].items():
        before, after = np.linalg.norm(initial[key]), np.linalg.norm(found[key])
        # PyTorch's norms of millions of float32 are off by up to 5e-5, equally before and after.
        start = recorded["initial_parameter_norms"][key]
        np.testing.assert_allclose(before, start, rtol=1e-4)
        difference = abs(after / before - norm / start)
        assert difference <= (2e-4 if name == "trained_bn" else 1e-5), key
        change = abs(norm / start - 1)
        assert difference <= share * change + 3 * noise["parameter_norms"], key
        head = np.array(recorded["parameter_heads"][key])
        values, start = (arrays[key].ravel()[:3].astype(np.float64) for arrays in (found, initial))
        # Three values may have hardly changed where others have: of the parameter's root mean
        # square change. Single values are noisier than a norm, and later steps than the first, of
        # which the noise is known: with trained BN that of the losses grows 18-fold by the second.
        moved = np.sqrt(np.mean((found[key] - initial[key]) ** 2, dtype=np.float64))
        scale = max(moved, np.abs(head - start).max())
        tolerance = (
            max(3e-2, 10 * noise["first_gradient_norms"]) * scale + 2e-7 * np.abs(head).max()
        )
        np.testing.assert_allclose(values, head, rtol=0, atol=tolerance, err_msg=key)


def assert_buffers(found, recorded):
    """Running statistics, against a record."""
    for key, norm in recorded["buffer_norms"].items():
        # Those of one step are averages of float32; later ones follow the parameters.
        tolerance = 1e-5 + 3 * recorded["noise"]["buffer_norms"]
        assert abs(np.linalg.norm(found[key]) / norm - 1) <= tolerance, key
