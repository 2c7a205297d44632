"""Training: the loop, its hooks, schedule, optimizer, logging, resume.

Importing this loads no TensorFlow.
"""

from tfdetect.training.entry import train
from tfdetect.training.hooks import HOOKS, Hook, TrainingState

__all__ = ["HOOKS", "Hook", "TrainingState", "train"]
