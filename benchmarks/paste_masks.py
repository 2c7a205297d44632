"""Pasting of 100 masks of 28 x 28 into an image of 800 x 1200, compared with Detectron2's.

python benchmarks/paste_masks.py [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import numpy as np
import operator_inputs as inputs
import seeded_models
from harness import Row, Side, main

COUNT = 100
SIZE = (800, 1200)


def _masks() -> np.ndarray:
    return np.random.default_rng(0).random((COUNT, 28, 28), np.float32)


def _boxes() -> np.ndarray:
    return inputs.boxes(COUNT, SIZE, 20, 600)


def _ours() -> Side:
    versions = inputs.versions()
    import tensorflow as tf

    from tfdetect.ops.paste_masks import paste_masks

    inputs.require_native()
    arguments = tf.constant(_masks()), tf.constant(_boxes()), tf.constant(SIZE)
    limit = inputs.bytes_limit("writes the masks", COUNT * SIZE[0] * SIZE[1])
    return Side(versions, inputs.call(paste_masks, *arguments), limit)


def _detectron2() -> Side:
    import torch
    from detectron2.layers.mask_ops import paste_masks_in_image

    masks, boxes = torch.from_numpy(_masks()), torch.from_numpy(_boxes())

    def run() -> None:
        with torch.no_grad():
            paste_masks_in_image(masks, boxes, SIZE)

    return Side(seeded_models.detectron2_versions(), run)


ROWS = [
    Row(
        "paste_masks",
        f"paste of {COUNT} masks to {SIZE[0]} x {SIZE[1]}",
        0.3,
        _ours,
        "Detectron2",
        _detectron2,
        needs=("torch", "detectron2"),
        runs=15,
    )
]

if __name__ == "__main__":
    main(ROWS)
