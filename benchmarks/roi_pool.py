"""RoIPool on the CPU, compared with torchvision's: forward and gradient.

The regions, bins and map of roi_align.py.

    python benchmarks/roi_pool.py [ROW ...] [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import functools

import operator_inputs as inputs
import seeded_models
from harness import Row, Side, main


def _ours(gradient: bool) -> Side:
    versions = seeded_models.versions()
    import tensorflow as tf

    from tfdetect.ops.roi_pool import roi_pool

    inputs.require_native()
    features = tf.constant(inputs.normal(*inputs.FEATURES))
    boxes, images = tf.constant(inputs.regions()), tf.zeros([inputs.REGIONS], tf.int32)
    if not gradient:
        return Side(
            versions, inputs.call(roi_pool, features, boxes, images, inputs.BINS, inputs.SCALE)
        )
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        pooled = roi_pool(features, boxes, images, inputs.BINS, inputs.SCALE)
    upstream = tf.constant(inputs.normal(*pooled.shape))
    return Side(versions, inputs.call(tape.gradient, pooled, features, upstream))


def _torchvision(gradient: bool) -> Side:
    import torch
    import torchvision

    features = torch.from_numpy(inputs.normal(*inputs.FEATURES)).permute(0, 3, 1, 2).contiguous()
    boxes = [torch.from_numpy(inputs.regions())]
    pool = functools.partial(
        torchvision.ops.roi_pool, output_size=inputs.BINS, spatial_scale=inputs.SCALE
    )
    if gradient:
        features.requires_grad_()
        pooled = pool(features, boxes)
        upstream = torch.from_numpy(inputs.normal(*pooled.shape))

        def run() -> None:
            torch.autograd.grad(pooled, features, upstream, retain_graph=True)
    else:

        def run() -> None:
            with torch.no_grad():
                pool(features, boxes)

    threads = inputs.busy_threads(run)
    return Side(
        {"torchvision": torchvision.__version__ + threads, "PyTorch": torch.__version__}, run
    )


def _row(name: str, title: str, gradient: bool) -> Row:
    return Row(
        name,
        title,
        1.0,
        functools.partial(_ours, gradient),
        "torchvision",
        functools.partial(_torchvision, gradient),
        needs=("torch", "torchvision"),
        runs=3,
        warm_up=1,
    )


ROWS = [
    _row("roi_pool", "RoIPool, native", gradient=False),
    _row("roi_pool_gradient", "gradient of RoIPool, native", gradient=True),
]

if __name__ == "__main__":
    main(ROWS)
