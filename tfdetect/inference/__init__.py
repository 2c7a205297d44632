"""Prediction: `optimize` a model for the `Backend` that it will run on."""

from tfdetect.inference.optimization import optimize
from tfdetect.ops.backend import Backend

__all__ = ["Backend", "optimize"]
