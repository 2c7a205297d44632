"""Time of inference and of a training step on a GPU, compared with Detectron2's.

As predict.py and train.py, with both libraries on the GPU: in float32 with the matrix units' TF32
off, with it on for both, and in 16 bits (ours bfloat16, Detectron2 under autocast to float16).

    python benchmarks/gpu.py [ROW ...] [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import functools
import os
import sys

import seeded_models
from harness import Row, Side, Skip, main
from seeded_models import IMAGE, MASK_RCNN

import train

# Both sides' processes live at the same time, and TensorFlow would take all of the memory.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def _prepare_tensorflow(tf32: bool) -> str:
    """The GPU's name, with TF32 on or off."""
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        raise Skip("no GPU")
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "a GPU")


def _prepare_torch(tf32: bool) -> None:
    import torch

    if not torch.cuda.is_available():
        raise Skip("PyTorch has no GPU")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32


def _ours(config: str, tf32: bool, dtype: str) -> Side:
    gpu = _prepare_tensorflow(tf32)
    from tfdetect.data.images import read_image

    predict = seeded_models.predictor(config, dtype)
    image = read_image(IMAGE)

    def run() -> dict[str, float]:
        return {"detections": len(predict(image).scores)}

    return Side(seeded_models.versions() | {"GPU": gpu}, run)


def _detectron2(config: str, tf32: bool, dtype: str) -> Side:
    _prepare_torch(tf32)
    import cv2
    import torch

    predict = seeded_models.detectron2_predictor(config, "cuda")
    image = cv2.imread(str(IMAGE))

    def run() -> dict[str, float]:
        with torch.autocast("cuda", enabled=dtype != "float32"):
            found = predict(image)["instances"].to("cpu")  # as ours are given
        return {"detections": len(found)}

    return Side(seeded_models.detectron2_versions(), run)


def _training(side: str, name: str, tf32: bool) -> Side:
    if side == "ours":
        _prepare_tensorflow(tf32)
        return train._ours(name)
    _prepare_torch(tf32)
    return train._detectron2(name)


def _row(name: str, title: str, config: str, tf32: bool, dtype: str = "float32") -> Row:
    return Row(
        name,
        title,
        1.0,
        functools.partial(_ours, config, tf32, dtype),
        "Detectron2",
        functools.partial(_detectron2, config, tf32, dtype),
        needs=("torch", "detectron2"),
        runs=20,
        warm_up=5,
    )


def _training_row(name: str, title: str, of: str, tf32: bool) -> Row:
    return Row(
        name,
        title,
        1.0,
        functools.partial(_training, "ours", of, tf32),
        "Detectron2",
        functools.partial(_training, "theirs", of, tf32),
        needs=("torch", "detectron2"),
        runs=10,
        warm_up=3,
    )


ROWS = [
    _row("gpu_float32", "on a GPU: one image, Mask R-CNN R50-FPN, float32", MASK_RCNN, False),
    _row("gpu_tf32", "the same with TF32", MASK_RCNN, True),
    _row("gpu_16_bits", "the same in 16 bits", MASK_RCNN, True, "bfloat16"),
    _training_row(
        "gpu_train",
        "on a GPU: one training step, Mask R-CNN R50-FPN, one image, float32",
        "train_mask_rcnn",
        False,
    ),
    _training_row("gpu_train_tf32", "the same with TF32", "train_mask_rcnn", True),
]

if __name__ == "__main__":
    if "--child" not in sys.argv:
        train.draw()
    main(ROWS)
