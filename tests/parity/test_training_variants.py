"""Three SGD steps of narrow variants against Detectron2's, from the same weights and images.

Every anchor and proposal is taken, so that nothing is random.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from benchmarks.seeded_weights import seeded_model
from tests.support.recorded_steps import load_recorded_config, relative_differences, take_steps
from tests.support.training_variants import (
    NAMES,
    arrays_of,
    assert_buffers,
    assert_losses,
    assert_parameters,
    record,
    write_config,
)

# Beside those of test_variants_by_train.py; the others are for `make test-full`.
SHORT = ("ciou",)
# Of the convolutions; their norms and ReLUs have the indices between.
BEFORE_NORM = re.compile(r"head\.(cls|bbox)_subnet\.[0369]\.bias")


@pytest.fixture(
    scope="module",
    params=[
        name if name in SHORT else pytest.param(name, marks=pytest.mark.full) for name in NAMES
    ],
)
def variant(request, tmp_path_factory):
    """Name, record, steps taken, the model then and its initial weights in PyTorch's layout."""
    name = request.param
    recorded = record(name)
    path, options = write_config(name, tmp_path_factory.mktemp("config"))
    cfg = load_recorded_config(path, recorded, options)
    model = seeded_model(cfg)
    initial = arrays_of(model)
    steps = take_steps(cfg, model, recorded["image_files"], len(recorded["losses"]))
    return name, recorded, steps, model, initial


def test_losses(variant):
    _, recorded, steps, *_ = variant
    assert_losses(steps.losses, recorded)


def test_first_gradients(variant):
    variant_name, recorded, steps, *_ = variant
    tolerance = max(6e-4, 3 * recorded["noise"]["first_gradient_norms"])
    found = {name: np.linalg.norm(g) for name, g in steps.first_gradients.items()}
    expected = dict(recorded["first_gradients"])
    if variant_name == "retinanet_bn":
        # A batch norm takes away what a bias before it adds: the gradient is 0, and rounding is
        # left, of as many terms as the weight's.
        for name in [name for name in found if BEFORE_NORM.fullmatch(name)]:
            scale = expected[name.replace("bias", "weight")]
            assert max(found.pop(name), expected.pop(name)) <= 1e-5 * scale, name
    differences = relative_differences(found, expected)
    for name, difference in differences.items():
        assert difference <= tolerance, name


def test_parameters_in_the_end(variant):
    name, recorded, _, model, initial = variant
    found = arrays_of(model)
    assert_parameters(name, found, initial, recorded)
    assert_buffers(found, recorded)


def test_parameter_groups(variant):
    """How many parameters have which learning rate, weight decay and momentum."""
    _, recorded, steps, *_ = variant
    keys = ("lr", "weight_decay", "momentum", "nesterov")
    expected = Counter()
    for group in recorded["parameter_groups"]:
        expected[tuple(group[key] for key in keys)] += group["parameters"]
    sgd, rate = steps.optimizer, recorded["learning_rate"]
    hyperparameters = zip(sgd.learning_rate_factors, sgd.weight_decays, strict=True)
    assert expected == Counter(
        (rate * factor, decay, sgd.momentum, sgd.nesterov) for factor, decay in hyperparameters
    )
