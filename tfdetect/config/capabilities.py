"""What a configured model can do: asked here, and nowhere by the name of an architecture."""

from __future__ import annotations

from dataclasses import dataclass

from yacs.config import CfgNode


@dataclass(frozen=True)
class Parts:
    """What an architecture consists of beside its backbone.

    Attributes:
        proposal_generator: MODEL.PROPOSAL_GENERATOR and, unless proposals are given, MODEL.RPN.
        roi_heads: MODEL.ROI_HEADS and the heads that are switched on.
        dense_head: the section of MODEL that a dense detector is in, such as "RETINANET".
        semantic_head: MODEL.SEM_SEG_HEAD.
        trainable: it has `losses`.
    """

    proposal_generator: bool = False
    roi_heads: bool = False
    dense_head: str = ""
    semantic_head: bool = False
    trainable: bool = False


_POINT_MASKS = ("PointRendMaskHead", "ImplicitPointRendMaskHead", "CoarseMaskHead")

_BUILT_IN_HEADS = (
    "StandardROIHeads",
    "CascadeROIHeads",
    "Res5ROIHeads",
    "PointRendROIHeads",
    "RROIHeads",
)

_ARCHITECTURES = {
    "GeneralizedRCNN": Parts(proposal_generator=True, roi_heads=True, trainable=True),
    "ProposalNetwork": Parts(proposal_generator=True, trainable=True),
    "PanopticFPN": Parts(
        proposal_generator=True, roi_heads=True, semantic_head=True, trainable=True
    ),
    "RetinaNet": Parts(dense_head="RETINANET", trainable=True),
    "FCOS": Parts(dense_head="FCOS", trainable=True),
    "SemanticSegmentor": Parts(semantic_head=True, trainable=True),
}


def register_architecture(name: str, parts: Parts) -> None:
    """Say what MODEL.META_ARCHITECTURE `name` consists of; one that is not known has no parts."""
    _ARCHITECTURES[name] = parts


def trainable_architectures() -> list[str]:
    """The values of MODEL.META_ARCHITECTURE that can be trained."""
    return [name for name, parts in _ARCHITECTURES.items() if parts.trainable]


@dataclass(frozen=True)
class Capabilities:
    """What a model takes and gives.

    Attributes:
        parts: what it consists of.
        takes_proposals: proposals come with the images (Detectron2's Fast R-CNN).
        has_boxes: it gives boxes with a class and a probability.
        has_masks: each box has a mask.
        has_keypoints: each box has keypoints.
        proposes: it gives proposals and nothing else: boxes of one class with a logit.
        has_semantic: it gives each pixel a stuff class.
        has_panoptic: it gives each pixel a segment, of boxes and stuff combined.
        has_point_masks: its masks are computed at points (PointRend).
        has_point_semantic: its semantic logits are.
        rotated: its boxes have five numbers: centre, size and angle.
        cascade: its box head is a cascade of several.
        trainable: it can be trained here.
        classes_key: the key of the number of classes; of stuff classes where there are no others.
        num_classes: of its boxes; 1 of proposals, 0 without boxes.
        num_stuff_classes: 0 without a semantic head.
        num_keypoints: of each box.
    """

    parts: Parts
    takes_proposals: bool
    has_boxes: bool
    has_masks: bool
    has_keypoints: bool
    proposes: bool
    has_semantic: bool
    has_panoptic: bool
    has_point_masks: bool
    has_point_semantic: bool
    rotated: bool
    cascade: bool
    trainable: bool
    classes_key: str
    num_classes: int
    num_stuff_classes: int
    num_keypoints: int

    @property
    def has_points(self) -> bool:
        """Whether it has a point head (PointRend)."""
        return self.has_point_masks or self.has_point_semantic

    @property
    def box_dim(self) -> int:
        """How many numbers a box has: 4, or 5 where it is rotated."""
        return 5 if self.rotated else 4


def capabilities(cfg: CfgNode) -> Capabilities:
    """Those of the model that MODEL describes."""
    model = cfg.MODEL
    parts = _ARCHITECTURES.get(model.META_ARCHITECTURE, Parts())
    has_boxes = parts.roi_heads or bool(parts.dense_head)
    takes_proposals = (
        parts.roi_heads
        and not parts.semantic_head
        and model.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals"
    )
    rotated = (parts.roi_heads and model.ROI_HEADS.NAME == "RROIHeads") or (
        parts.proposal_generator and model.PROPOSAL_GENERATOR.NAME == "RRPN"
    )
    proposes = parts.proposal_generator and not has_boxes
    has_masks = parts.roi_heads and model.MASK_ON
    has_keypoints = parts.roi_heads and model.KEYPOINT_ON
    section = parts.dense_head or "ROI_HEADS"
    if parts.semantic_head and not has_boxes:
        section = "SEM_SEG_HEAD"
    return Capabilities(
        parts=parts,
        takes_proposals=takes_proposals,
        has_boxes=has_boxes,
        has_masks=has_masks,
        has_keypoints=has_keypoints,
        proposes=proposes,
        has_semantic=parts.semantic_head,
        has_panoptic=parts.semantic_head and has_boxes,
        has_point_masks=has_masks and model.ROI_MASK_HEAD.NAME in _POINT_MASKS,
        has_point_semantic=parts.semantic_head and model.SEM_SEG_HEAD.NAME == "PointRendSemSegHead",
        rotated=rotated,
        cascade=parts.roi_heads and model.ROI_HEADS.NAME == "CascadeROIHeads",
        trainable=parts.trainable,
        classes_key=f"MODEL.{section}.NUM_CLASSES",
        num_classes=model[section].NUM_CLASSES if has_boxes else int(proposes),
        num_stuff_classes=model.SEM_SEG_HEAD.NUM_CLASSES if parts.semantic_head else 0,
        num_keypoints=model.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS if has_keypoints else 0,
    )


def has_built_in_heads(cfg: CfgNode) -> bool:
    """Whether the model has RoI heads of this project, which read the keys that Detectron2's do."""
    return capabilities(cfg).parts.roi_heads and cfg.MODEL.ROI_HEADS.NAME in _BUILT_IN_HEADS


def has_res5_heads(cfg: CfgNode) -> bool:
    """Whether the RoI heads begin with a res5, and not with the heads of MODEL.ROI_BOX_HEAD.NAME
    and ROI_MASK_HEAD.POOLER_TYPE."""
    return capabilities(cfg).parts.roi_heads and cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeads"


def trains_as_pointrend(cfg: CfgNode) -> bool:
    """Whether images are augmented as projects/PointRend trains a SemanticSegmentor.

    Detectron2's other trainers do not know the keys.
    """
    able, keys = capabilities(cfg), cfg.INPUT
    has_keys = keys.COLOR_AUG_SSD or keys.CROP.SINGLE_CATEGORY_MAX_AREA not in (None, 1.0)
    return able.has_semantic and not able.has_boxes and (able.has_point_semantic or has_keys)
