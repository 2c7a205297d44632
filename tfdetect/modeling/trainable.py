"""What of a model is trained."""

from __future__ import annotations

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.names import NamedVariable, named_variables
from tfdetect.errors import InputError

# Those that have `losses`.
_ARCHITECTURES = ("GeneralizedRCNN", "ProposalNetwork")


def trainable_variables(model: tf.Module, cfg: CfgNode) -> list[NamedVariable]:
    """The variables that training changes, in the order of `named_variables`.

    Not among them are running statistics, all of FrozenBN, and the stages of the backbone that
    MODEL.BACKBONE.FREEZE_AT keeps as they are; their gradients are None, as no tape watches them.

    Raises:
        InputError: see `require_trainable`.
    """
    require_trainable(cfg)
    return [named for named in named_variables(model) if named.variable.trainable]


def require_trainable(cfg: CfgNode) -> None:
    """Raise InputError if the model that `cfg` describes has no training here."""
    model = cfg.MODEL
    if model.META_ARCHITECTURE not in _ARCHITECTURES:
        raise InputError(
            f"MODEL.META_ARCHITECTURE: {model.META_ARCHITECTURE} cannot be trained here, "
            f"only run; use {' or '.join(_ARCHITECTURES)}"
        )
    if model.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals":
        raise InputError(
            "MODEL.PROPOSAL_GENERATOR.NAME: PrecomputedProposals cannot be trained here, "
            "only run; use RPN"
        )
