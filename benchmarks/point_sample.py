"""Point sampling on the CPU, compared with PyTorch's grid_sample: forward and gradient.

That is what Detectron2's PointRend samples with. 784 points of each of 100 instances, of a map of
200 x 304 x 256, as in a step of the subdivision.

    python benchmarks/point_sample.py [ROW ...] [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import functools

import numpy as np
import operator_inputs as inputs
from harness import Row, Side, main

INSTANCES, POINTS = 100, 784


def _points() -> np.ndarray:
    """float32 [INSTANCES, POINTS, 2] in [0, 1] of the map: random ones in each instance's box."""
    boxes = inputs.boxes(INSTANCES, inputs.IMAGE, 16, 600)[:, None]
    within = np.random.default_rng(1).random((INSTANCES, POINTS, 2))
    position = boxes[..., :2] + within * (boxes[..., 2:] - boxes[..., :2])
    return (position / inputs.IMAGE[::-1]).astype(np.float32)


def _ours(gradient: bool) -> Side:
    versions = inputs.versions()
    import tensorflow as tf

    from tfdetect.ops.point_sample import point_sample

    inputs.require_native()
    features = tf.constant(inputs.normal(*inputs.FEATURES))
    points, images = tf.constant(_points()), tf.zeros([INSTANCES], tf.int32)
    if not gradient:
        return Side(versions, inputs.call(point_sample, features, points, images))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        sampled = point_sample(features, points, images)
    upstream = tf.constant(inputs.normal(*sampled.shape))
    return Side(versions, inputs.call(tape.gradient, sampled, features, upstream))


def _theirs(gradient: bool) -> Side:
    import torch

    features = torch.from_numpy(inputs.normal(*inputs.FEATURES)).permute(0, 3, 1, 2).contiguous()
    # What `point_sample_fine_grained_features` does with the instances of an image.
    grid = 2.0 * torch.from_numpy(_points()).reshape(1, INSTANCES * POINTS, 1, 2) - 1.0

    def sample() -> torch.Tensor:
        return torch.nn.functional.grid_sample(features, grid, align_corners=False)

    if gradient:
        features.requires_grad_()
        sampled = sample()
        upstream = torch.from_numpy(inputs.normal(*sampled.shape))

        def run() -> None:
            torch.autograd.grad(sampled, features, upstream, retain_graph=True)
    else:

        def run() -> None:
            with torch.no_grad():
                sample()

    return Side({"PyTorch": torch.__version__ + inputs.busy_threads(run)}, run)


def _row(name: str, title: str, gradient: bool) -> Row:
    return Row(
        name,
        title,
        1.0,
        functools.partial(_ours, gradient),
        "PyTorch",
        functools.partial(_theirs, gradient),
        needs=("torch",),
        runs=5,
        warm_up=1,
    )


ROWS = [
    _row("point_sample", "point sampling, native", gradient=False),
    _row("point_sample_gradient", "gradient of point sampling, native", gradient=True),
]

if __name__ == "__main__":
    main(ROWS)
