"""Operators of rotated boxes on the CPU, compared with Detectron2's.

1000 regions of mixed sizes and angles, 7 x 7 bins with adaptive sampling, of a map of 200 x 304 x
256; NMS of 4000 proposals, as of one level of an RRPN; the IoU of 20 objects with 100000 anchors.

    python benchmarks/rotated.py [ROW ...] [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import operator_inputs as inputs
from harness import Row, Side, Skip, main

PROPOSALS, OBJECTS, ANCHORS = 4000, 20, 100_000


def _rotated(count: int, shortest: float, longest: float) -> np.ndarray:
    """float32 [count, 5]: boxes of `operator_inputs.boxes`, each turned by any angle."""
    boxes = inputs.boxes(count, inputs.IMAGE, shortest, longest)
    sizes = boxes[:, 2:] - boxes[:, :2]
    angles = np.random.default_rng(1).uniform(-180, 180, (count, 1))
    return np.concatenate([boxes[:, :2] + sizes / 2, sizes, angles], 1).astype(np.float32)


def _arguments() -> tuple[Any, Any, Any]:
    import tensorflow as tf

    features = tf.constant(inputs.normal(*inputs.FEATURES))
    boxes = tf.constant(_rotated(inputs.REGIONS, 16, 600))
    return features, boxes, tf.zeros([inputs.REGIONS], tf.int32)


def _roi_align(gradient: bool) -> Side:
    versions = inputs.versions()
    import tensorflow as tf

    from tfdetect.ops.roi_align_rotated import roi_align_rotated

    inputs.require_native()
    features, *others = _arguments()
    pool = functools.partial(roi_align_rotated, output_size=inputs.BINS, spatial_scale=inputs.SCALE)
    if not gradient:
        return Side(versions, inputs.call(pool, features, *others))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        pooled = pool(features, *others)
    upstream = tf.constant(inputs.normal(*pooled.shape))
    return Side(versions, inputs.call(tape.gradient, pooled, features, upstream))


def _nms() -> Side:
    versions = inputs.versions()
    import tensorflow as tf

    from tfdetect.ops.nms import batched_nms_rotated

    inputs.require_native()
    boxes = tf.constant(_rotated(PROPOSALS, 16, 300))
    scores = tf.constant(inputs.normal(PROPOSALS))
    groups = tf.zeros([PROPOSALS], tf.int32)
    return Side(versions, inputs.call(batched_nms_rotated, boxes, scores, groups, 0.7))


def _iou() -> Side:
    versions = inputs.versions()
    import tensorflow as tf

    from tfdetect.ops.rotated_iou import pairwise_iou_rotated

    inputs.require_native()
    boxes = (tf.constant(_rotated(count, 16, 600)) for count in (OBJECTS, ANCHORS))
    return Side(versions, inputs.call(pairwise_iou_rotated, *boxes))


def _detectron2(operator: str) -> Side:
    import torch
    from detectron2 import layers
    from detectron2.layers.rotated_boxes import pairwise_iou_rotated

    if not hasattr(torch.ops.detectron2, "nms_rotated"):
        raise Skip("Detectron2 is installed without its C++ operators")
    if operator.startswith("roi_align"):
        features = (
            torch.from_numpy(inputs.normal(*inputs.FEATURES)).permute(0, 3, 1, 2).contiguous()
        )
        boxes = torch.from_numpy(_rotated(inputs.REGIONS, 16, 600))
        regions = torch.cat([torch.zeros(inputs.REGIONS, 1), boxes], 1)
        pool = layers.ROIAlignRotated((inputs.BINS, inputs.BINS), inputs.SCALE, 0)
        if operator == "roi_align_gradient":
            features.requires_grad_()
            pooled = pool(features, regions)
            upstream = torch.from_numpy(inputs.normal(*pooled.shape))

            def run() -> None:
                torch.autograd.grad(pooled, features, upstream, retain_graph=True)
        else:
            run = inputs.call(pool, features, regions)
    elif operator == "nms":
        boxes = torch.from_numpy(_rotated(PROPOSALS, 16, 300))
        scores = torch.from_numpy(inputs.normal(PROPOSALS))
        groups = torch.zeros(PROPOSALS, dtype=torch.int64)
        run = inputs.call(layers.batched_nms_rotated, boxes, scores, groups, 0.7)
    else:
        pair = [torch.from_numpy(_rotated(count, 16, 600)) for count in (OBJECTS, ANCHORS)]
        run = inputs.call(pairwise_iou_rotated, *pair)
    threads = inputs.busy_threads(run)
    import detectron2

    return Side({"Detectron2": detectron2.__version__ + threads, "PyTorch": torch.__version__}, run)


def _row(name: str, title: str, goal: float, ours: Any, operator: str) -> Row:
    return Row(
        name,
        f"{title} (processor time)",
        goal,
        ours,
        "Detectron2",
        functools.partial(_detectron2, operator),
        needs=("torch", "detectron2"),
        measure="cpu_seconds",
        runs=3,
        warm_up=1,
    )


ROWS = [
    _row(
        "roi_align_rotated",
        "RoIAlign of rotated boxes, native",
        0.2,
        functools.partial(_roi_align, False),
        "roi_align",
    ),
    _row(
        "roi_align_rotated_gradient",
        "gradient of RoIAlign of rotated boxes, native",
        0.2,
        functools.partial(_roi_align, True),
        "roi_align_gradient",
    ),
    _row("nms_rotated", "NMS of rotated boxes, native", 1.0, _nms, "nms"),
    _row("box_iou_rotated", "IoU of rotated boxes, native", 1.0, _iou, "iou"),
]

if __name__ == "__main__":
    main(ROWS)
