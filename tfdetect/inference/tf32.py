"""Warns about TF32, which the commands switch off and which is on by default in other processes."""

from __future__ import annotations

import warnings

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.ops.backend import Backend


def allows_tf32(float32_precision: str) -> bool:
    """What FLOAT32_PRECISION means, by the names of PyTorch's `set_float32_matmul_precision`."""
    return float32_precision in ("high", "medium")


def warn_of_tf32(cfg: CfgNode, backend: Backend) -> None:
    """Warn once if a prediction will multiply in TF32 and FLOAT32_PRECISION does not ask for it.

    Args:
        cfg: of the model.
        backend: of the prediction.
    """
    if backend.device == "cpu":
        return
    if not tf.config.experimental.tensor_float_32_execution_enabled():
        return
    if allows_tf32(cfg.FLOAT32_PRECISION) or not _has_tf32():
        return
    warnings.warn(
        "TensorFlow's TF32 is on: scores and boxes on this GPU are not exactly Detectron2's;"
        " tf.config.experimental.enable_tensor_float_32_execution(False) makes them so"
        " (docs/gpu.md)",
        stacklevel=4,
    )


def _has_tf32() -> bool:
    """Whether there is a GPU of Ampere's generation or a later one."""
    details = map(tf.config.experimental.get_device_details, tf.config.get_visible_devices("GPU"))
    return any(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
