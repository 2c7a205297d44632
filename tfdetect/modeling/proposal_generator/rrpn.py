"""Region proposal network for rotated boxes (Ma et al., 2018, "RRPN")."""

from __future__ import annotations

from tfdetect.modeling.anchors import RotatedAnchorGenerator
from tfdetect.modeling.proposal_generator.rpn import RPN
from tfdetect.modeling.registries import PROPOSAL_GENERATORS


@PROPOSAL_GENERATORS.register()
class RRPN(RPN):
    """An RPN whose anchors, and so proposals and deltas, have an angle.

    Proposals that are not finite are dropped in training, too, where Detectron2 stops with an
    error; here the trainer stops where a loss is not finite.
    """

    anchor_generator = RotatedAnchorGenerator
