"""Detectron2's records of PointRend, and narrow models with seeded weights."""

from __future__ import annotations

import gzip
import json
from functools import cache

import numpy as np

from benchmarks.seeded_weights import seeded_model
from tests.support.paths import DATA
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config

FOLDER = DATA / "pointrend"
KINDS = ("instance", "implicit", "semantic")


@cache
def records() -> dict:
    """`configs`, the complete YAML of each by its name, and `old_names_to_new`."""
    with gzip.open(FOLDER / "configs.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


@cache
def state_dicts() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the parameters and buffers of each model."""
    with gzip.open(FOLDER / "state_dicts.json.gz", "rt", encoding="utf-8") as file:
        return {name.removesuffix(".yaml"): shapes for name, shapes in json.load(file).items()}


def load_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of a file."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def load_training(kind: str) -> dict:
    """What was recorded of three steps: losses, statistics, gradients, parameters."""
    with gzip.open(FOLDER / f"training_{kind}.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def write_config(name: str, folder):
    """The complete configuration that Detectron2 wrote, as a file in `folder`."""
    path = folder / f"{name.replace('/', '__')}.yaml"
    path.write_text(records()["configs"][name])
    return path


def narrow_model(kind: str, folder, options=()):
    """The configuration and the model, "instance", "implicit" or "semantic"."""
    cfg = load_config(write_config(f"narrow_{kind}", folder), options)
    model = seeded_model(cfg)
    scale_parameters(model)
    return cfg, model


def scale_parameters(model) -> None:
    """Implicit PointRend's parameters are predicted by seeded weights times 0.1."""
    for named in named_variables(model):
        if "parameter_head.prediction" in named.name:
            named.variable.assign(named.variable.numpy() * np.float32(0.1))


def draws(first: int):
    """A function of shapes: call n gives the recorded random numbers of seed first + n."""
    calls = 0

    def draw(shape) -> np.ndarray:
        nonlocal calls
        calls += 1
        return np.random.RandomState(first + calls - 1).random_sample(shape).astype(np.float32)

    return draw


def assert_same_points(found: np.ndarray, recorded: np.ndarray, share: float = 0.01) -> None:
    """Indices [R, P]: as sets of each row, all but this share of all of them are equal.

    Detectron2 with weights moved by a relative 1e-6 differs from itself in up to 0.4 %.
    """
    assert found.shape == recorded.shape
    pairs = zip(found, recorded, strict=True)
    missing = sum(len(np.setdiff1d(theirs, ours)) for ours, theirs in pairs)
    assert missing <= share * recorded.size, (missing, recorded.size)


def assert_same_logits(indices, logits, recorded_indices, recorded_logits, atol: float) -> None:
    """Logits [R, P, ...] of the points that both have."""
    for row in range(len(indices)):
        _, ours, theirs = np.intersect1d(indices[row], recorded_indices[row], return_indices=True)
        np.testing.assert_allclose(
            logits[row][ours], recorded_logits[row][theirs], rtol=0, atol=atol
        )
