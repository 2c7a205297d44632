"""Which keys go together in a model of rotated boxes."""

from __future__ import annotations

from typing import Any

from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.errors import InputError

# Of a model of rotated boxes: what the key must be, and which values it cannot have. A part that a
# file of --import registers under another name is taken.
_REQUIRED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RRPN", ("RPN", "PrecomputedProposals")),
    "MODEL.ANCHOR_GENERATOR.NAME": ("RotatedAnchorGenerator", ("DefaultAnchorGenerator",)),
}
_REQUIRED_OF_HEADS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "MODEL.ROI_HEADS.NAME": ("RROIHeads", ("StandardROIHeads", "CascadeROIHeads", "Res5ROIHeads")),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlignRotated", ("ROIAlign", "ROIAlignV2", "ROIPool")),
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": (False, (True,)),
    "MODEL.MASK_ON": (False, (True,)),
    "MODEL.KEYPOINT_ON": (False, (True,)),
}


def check_rotated(cfg: CfgNode) -> None:
    """Raise InputError where a part for horizontal boxes is to work on rotated ones.

    Detectron2's classes have the same limits, most of which show as a failed assertion there.
    """
    able = capabilities(cfg)
    if not able.rotated:
        return
    required = _REQUIRED | (_REQUIRED_OF_HEADS if able.parts.roi_heads else {})
    for key, (expected, others) in required.items():
        value = _get(cfg, key)
        if value in others:
            raise InputError(f"{key}: is {value}, but boxes are rotated here; give {expected}")
    if cfg.MODEL.RPN.BOUNDARY_THRESH >= 0:
        raise InputError(
            f"MODEL.RPN.BOUNDARY_THRESH: is {cfg.MODEL.RPN.BOUNDARY_THRESH}, but rotated anchors "
            "have no such limit; give -1"
        )


def check_rotated_training(cfg: CfgNode) -> None:
    """The same of what is read in training alone."""
    able = capabilities(cfg)
    if not able.rotated:
        return
    for section in ("RPN", "ROI_BOX_HEAD") if able.parts.roi_heads else ("RPN",):
        value = cfg.MODEL[section].BBOX_REG_LOSS_TYPE
        if value in ("giou", "diou", "ciou"):
            raise InputError(
                f"MODEL.{section}.BBOX_REG_LOSS_TYPE: {value} compares horizontal boxes; give "
                "smooth_l1"
            )


def _get(node: Any, key: str) -> Any:
    for part in key.split("."):
        node = node[part]
    return node
