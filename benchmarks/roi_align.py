"""RoIAlign on the CPU, compared with torchvision's: forward, gradient, and the memory of the
portable implementation.

1000 regions of mixed sizes, 7 x 7 bins with adaptive sampling, of a map of 200 x 304 x 256.

    python benchmarks/roi_align.py [ROW ...] [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import operator_inputs as inputs
from harness import Row, Side, Skip, main
from machine import peak_mb

VALUES = inputs.REGIONS * inputs.BINS**2 * inputs.FEATURES[3]
CELL_BYTES = 4 * inputs.FEATURES[3]


def _arguments() -> tuple[Any, Any, Any]:
    """Features, boxes and their images, as tensors."""
    import tensorflow as tf

    features = tf.constant(inputs.normal(*inputs.FEATURES))
    return features, tf.constant(inputs.regions()), tf.zeros([inputs.REGIONS], tf.int32)


def _forward(implementation: str) -> Side:
    versions = inputs.versions()
    import tensorflow as tf

    from tfdetect.ops.backend import Backend
    from tfdetect.ops.roi_align import roi_align

    if implementation == "native":
        inputs.require_native()
    arguments = _arguments()
    pool = tf.function(lambda *given: roi_align(*given, inputs.BINS, inputs.SCALE))
    with Backend.for_device(ops=implementation).active():
        concrete = pool.get_concrete_function(*arguments)
    moved = inputs.pooled_locations(inputs.regions()) * CELL_BYTES + 4 * VALUES
    limit = inputs.bytes_limit("reads its regions and writes what it pools", moved)
    return Side(versions, inputs.call(concrete, *arguments), limit)


def _gradient() -> Side:
    versions = inputs.versions()
    import tensorflow as tf

    from tfdetect.ops.roi_align import roi_align

    inputs.require_native()
    features, *others = _arguments()
    upstream = tf.constant(inputs.normal(inputs.REGIONS, inputs.BINS, inputs.BINS, CELL_BYTES // 4))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        pooled = roi_align(features, *others, inputs.BINS, inputs.SCALE)
    moved = inputs.pooled_locations(inputs.regions()) * 2 * CELL_BYTES + 4 * VALUES
    limit = inputs.bytes_limit("reads what was pooled and adds to its regions", moved)
    return Side(versions, inputs.call(tape.gradient, pooled, features, upstream), limit)


def _memory() -> Side:
    versions = inputs.versions()
    import tensorflow as tf

    from tfdetect.ops.backend import Backend
    from tfdetect.ops.roi_align import roi_align

    # The first call only, and this array is not freed: malloc may keep what is for the call.
    array = inputs.normal(*inputs.FEATURES)
    boxes, images = tf.constant(inputs.regions()), tf.zeros([inputs.REGIONS], tf.int32)
    arguments = tf.constant(array), boxes, images
    pool = tf.function(lambda *given: roi_align(*given, inputs.BINS, inputs.SCALE))
    if not Path("/proc/self/statm").exists():
        raise Skip("this system does not say how much memory a process has")

    def run() -> dict[str, float]:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
        with Backend.for_device(ops="portable").active():
            pool(*arguments)
        return {"beyond_mb": peak_mb() - before, "inputs_mb": array.nbytes / 2**20}

    return Side(versions, run)


def _row(name: str, title: str, goal: float, ours: Any, gradient: bool = False) -> Row:
    return Row(
        name,
        title,
        goal,
        ours,
        "torchvision",
        functools.partial(
            inputs.torchvision_pooling, "roi_align", gradient, sampling_ratio=0, aligned=True
        ),
        needs=("torch", "torchvision"),
        runs=3 if gradient else 5,
        warm_up=1,
    )


ROWS = [
    _row("roi_align", "RoIAlign, native", 0.1, functools.partial(_forward, "native")),
    _row("roi_align_gradient", "gradient of RoIAlign, native", 0.2, _gradient, gradient=True),
    _row("roi_align_portable", "RoIAlign, portable", 1.5, functools.partial(_forward, "portable")),
    Row(
        "roi_align_memory",
        "memory of RoIAlign, portable, beyond its inputs",
        300,
        _memory,
        measure="beyond_mb",
        unit="MB",
        runs=1,
        warm_up=0,
    ),
]

if __name__ == "__main__":
    main(ROWS)
