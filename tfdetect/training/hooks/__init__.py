"""Hooks of the training loop. Importing this loads no TensorFlow."""

from tfdetect.training.hooks.base import HOOKS, Hook, TrainingState

__all__ = ["HOOKS", "Hook", "TrainingState"]
