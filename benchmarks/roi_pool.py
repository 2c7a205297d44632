"""RoIPool on the CPU, compared with torchvision's: forward and gradient.

The regions, bins and map of roi_align.py.

    python benchmarks/roi_pool.py [ROW ...] [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import functools

import operator_inputs as inputs
from harness import Row, Side, main


def _ours(gradient: bool) -> Side:
    versions = inputs.versions()
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


def _row(name: str, title: str, gradient: bool) -> Row:
    return Row(
        name,
        title,
        1.0,
        functools.partial(_ours, gradient),
        "torchvision",
        functools.partial(inputs.torchvision_pooling, "roi_pool", gradient),
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
