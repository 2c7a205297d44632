"""Faster, Mask and Keypoint R-CNN in TensorFlow 2 with the exact numerics of Detectron2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> object:
    # Importing TensorFlow takes seconds; what does not predict need not wait for it.
    if name == "Predictor":
        from tfdetect.inference.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'tfdetect' has no attribute {name!r}")
