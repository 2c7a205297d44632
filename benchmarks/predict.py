"""Time and peak memory of one prediction, compared with Detectron2's `DefaultPredictor`.

From an image of 400 x 600 in memory, which the models see as 800 x 1200, to what is found in it,
masks in the image's pixels. Both have the same seeded random weights (seeded_models.py).

    python benchmarks/predict.py [ROW ...] [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import dataclasses
import functools

import seeded_models
from harness import Row, Side, main
from machine import limit_of, peak_mb
from seeded_models import IMAGE, MASK_RCNN


def _ours(config: str, dtype: str = "float32") -> Side:
    side = seeded_models.prediction(config, dtype)
    return side if dtype == "float32" else Side(side.versions, side.run, lambda _: limit_of(dtype))


def _ours_in_memory() -> Side:
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    imported = peak_mb()

    def limit(megabytes: float) -> str:
        return f"{imported:.0f} MB of {megabytes:.0f} are TensorFlow's, before anything is loaded"

    side = _ours(MASK_RCNN)
    return Side(side.versions, side.run, limit)


def _detectron2(config: str) -> Side:
    import cv2

    predict = seeded_models.detectron2_predictor(config)
    image = cv2.imread(str(IMAGE))

    def run() -> dict[str, float]:
        return {"detections": len(predict(image)["instances"])}

    return Side(seeded_models.detectron2_versions(), run)


def _row(
    name: str,
    title: str,
    goal: float,
    config: str,
    dtype: str = "float32",
    runs: int = 5,
    needs: tuple[str, ...] = (),
) -> Row:
    return Row(
        name,
        title,
        goal,
        functools.partial(_ours, config, dtype),
        "Detectron2",
        functools.partial(_detectron2, config),
        needs=("torch", "detectron2", *needs),
        unit="s",
        runs=runs,
        warm_up=1,
    )


ROWS = [
    dataclasses.replace(
        _row("mask_rcnn", "one image, Mask R-CNN R50-FPN", 0.3, MASK_RCNN), bounded=True
    ),
    _row(
        "mask_rcnn_bfloat16",
        "the same in bfloat16, Detectron2 in float32",
        0.15,
        MASK_RCNN,
        "bfloat16",
        runs=2,
    ),
    _row(
        "mask_rcnn_int8",
        "the same in int8, Detectron2 in float32",
        0.2,
        MASK_RCNN,
        "int8",
    ),
    _row(
        "faster_rcnn",
        "one image, Faster R-CNN R50-FPN",
        0.6,
        "COCO-Detection/faster_rcnn_R_50_FPN_3x",
    ),
    _row(
        "keypoint_rcnn",
        "one image, Keypoint R-CNN R50-FPN",
        0.6,
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x",
    ),
    _row(
        "mask_rcnn_gn",
        "one image, Mask R-CNN R50-FPN with GroupNorm",
        0.45,
        "Misc/mask_rcnn_R_50_FPN_3x_gn",
        runs=3,
    ),
    _row(
        "mask_rcnn_dconv",
        "one image, Mask R-CNN R50-FPN, deformable convolutions in res3 to res5",
        0.45,
        "Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5",
        runs=3,
        needs=("detectron2._C",),
    ),
    _row(
        "mask_rcnn_C4",
        "one image, Mask R-CNN R50-C4",
        0.45,
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x",
        runs=3,
    ),
    _row(
        "mask_rcnn_X101",
        "one image, Mask R-CNN X101-FPN",
        0.45,
        "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x",
        runs=3,
    ),
    # Memory only grows, so that the last of several runs says it.
    Row(
        "memory",
        "peak memory of the process, Mask R-CNN R50-FPN, five predictions",
        1.0,
        _ours_in_memory,
        "Detectron2",
        functools.partial(_detectron2, MASK_RCNN),
        needs=("torch", "detectron2"),
        measure="peak_mb",
        unit="MB",
        runs=1,
        warm_up=4,
    ),
]

if __name__ == "__main__":
    main(ROWS)
