"""The part of docs/parity.md on training and prediction of semantic and panoptic models."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.support.recorded_steps import relative_differences
from tests.support.segmentation_training import (
    NAMES,
    first_gradients,
    parameter_differences,
    pixel_differences,
    record,
    train,
)

TEXT = """
Narrow models, from a YAML, two images, their PNG masks and a checkpoint of seeded weights. Losses,
norms of the first gradients and of the parameters in the end are the largest relative differences;
in parentheses, what Detectron2 with its weights disturbed by one part in a million differs from
itself by. "Pixels" are those that differ in the semantic and the panoptic maps of two images with
the initial weights.

| model | losses, first step | losses, twenty steps | gradients | parameters | pixels |
|---|---|---|---|---|---|
{rows}
"""


def segmentation() -> str:
    rows = []
    for name in NAMES:
        recorded = record(f"steps_{name}")
        noise = recorded["noise_floor"]
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
            run = train(name, Path(folder))
            gradients = first_gradients(name, Path(other))
        pairs = zip(run.losses, recorded["losses"], strict=True)
        losses = [max(relative_differences(*pair, 1e-3).values()) for pair in pairs]
        expected = {key: gradient["norm"] for key, gradient in recorded["first_gradients"].items()}
        differences = (
            (losses[0], noise["losses_per_step"][0]),
            (max(losses), max(noise["losses_per_step"])),
            (
                max(relative_differences(gradients, expected, 1e-6).values()),
                noise["first_gradient_norms"],
            ),
            (max(parameter_differences(name, run).values()), noise["parameter_norms"]),
        )
        columns = [f"{found:.1e} ({floor:.1e})" for found, floor in differences]
        pixels = " and ".join(str(count) for count in pixel_differences(name))
        rows.append(f"| {name} | {' | '.join(columns)} | {pixels} |")
    return TEXT.format(rows="\n".join(rows))
