"""What of a model is trained."""

from __future__ import annotations

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.names import NamedVariable, named_variables
from tfdetect.config.training_checks import require_trainable


def trainable_variables(model: tf.Module, cfg: CfgNode) -> list[NamedVariable]:
    """The variables that training changes, in the order of `named_variables`.

    Not among them are running statistics, all of FrozenBN, and the stages of the backbone that
    MODEL.BACKBONE.FREEZE_AT keeps as they are; their gradients are None, as no tape watches them.

    Raises:
        InputError: see `require_trainable`.
    """
    require_trainable(cfg)
    return [named for named in named_variables(model) if named.variable.trainable]
