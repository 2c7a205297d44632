"""Decoding of the keypoint heat maps of 20 people, compared with Detectron2's.

python benchmarks/keypoints.py [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import numpy as np
import operator_inputs as inputs
import seeded_models
from harness import Row, Side, main

COUNT, KEYPOINTS, SIDE = 20, 17, 56


def _heatmaps() -> np.ndarray:
    """[N, K, S, S]: a peak in noise, as a trained head's maps are."""
    rng = np.random.default_rng(0)
    peak = rng.uniform(0, SIDE, (2, COUNT, KEYPOINTS, 1, 1))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distance = (rows - peak[0]) ** 2 + (columns - peak[1]) ** 2
    maps = 10 * np.exp(-distance / 18) + rng.normal(size=distance.shape)
    return maps.astype(np.float32)


def _boxes() -> np.ndarray:
    return inputs.boxes(COUNT, (800, 1200), 60, 600)


def _ours() -> Side:
    versions = inputs.versions()
    import tensorflow as tf

    from tfdetect.ops.keypoints import decode_keypoints

    inputs.require_native()
    heatmaps = tf.constant(np.ascontiguousarray(_heatmaps().transpose(0, 2, 3, 1)))
    boxes = tf.constant(_boxes())
    return Side(versions, inputs.call(decode_keypoints, heatmaps, boxes))


def _detectron2() -> Side:
    import torch
    from detectron2.structures.keypoints import heatmaps_to_keypoints

    heatmaps, boxes = torch.from_numpy(_heatmaps()), torch.from_numpy(_boxes())

    def run() -> None:
        with torch.no_grad():
            heatmaps_to_keypoints(heatmaps, boxes)

    return Side(seeded_models.detectron2_versions(), run)


ROWS = [
    Row(
        "keypoints",
        f"decoding of {COUNT} x {KEYPOINTS} keypoint maps of {SIDE} x {SIDE}",
        0.3,
        _ours,
        "Detectron2",
        _detectron2,
        needs=("torch", "detectron2"),
    )
]

if __name__ == "__main__":
    main(ROWS)
