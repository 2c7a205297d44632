"""Keys whose value is one of a few names, or a list of some: which ones, for the configured model.

Parts that users can register (MODEL.BACKBONE.NAME, ...) are not among them: see
`tfdetect.modeling.registries.check_names`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities, has_built_in_heads, has_res5_heads
from tfdetect.errors import InputError, one_of

BATCH_NORMS = ("FrozenBN", "BN", "SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")
NORMS = ("", *BATCH_NORMS, "GN", "LN")
CONVENTIONS = ("detectron2", "torchvision", "tensorpack", "maskrcnn_benchmark")
RESNET_DEPTHS = (18, 34, 50, 101, 152)
RESNET_FEATURES = ("stem", "res2", "res3", "res4", "res5")
POOLER_TYPES = ("ROIAlignV2", "ROIAlign", "ROIPool")

# The built-in backbones that MODEL.RESNETS is of. With parts of a user's, keys may have values of
# the user's.
RESNETS = (
    "build_resnet_backbone",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
    "build_fcos_resnet_fpn_backbone",
)
_PROPOSAL_GENERATORS = {"RPN": "DefaultAnchorGenerator", "RRPN": "RotatedAnchorGenerator"}


class Choice(NamedTuple):
    """What a key may be.

    Attributes:
        key: its full name.
        allowed: the values, or those of the entries of a list.
        where: what else they depend on, for the message.
    """

    key: str
    allowed: tuple[Any, ...]
    where: str = ""


def check_choices(cfg: CfgNode, sections: Collection[str]) -> None:
    """Raise InputError for a value that the configured model does not know.

    Args:
        cfg: the whole configuration.
        sections: of MODEL that the model uses: `model_sections`.
    """
    for choice in _choices(cfg, sections):
        check_choice(cfg, choice)


def check_choice(cfg: CfgNode, choice: Choice) -> None:
    """Raise InputError unless the key has one of these values, or a list of some; null is not
    looked at."""
    value: Any = cfg
    for part in choice.key.split("."):
        value = value[part]
    if value is None:
        return
    for entry in value if isinstance(value, (list, tuple)) else [value]:
        if entry not in choice.allowed:
            raise InputError(
                f"{choice.key}: {entry!r} is not supported{choice.where}; use "
                f"{one_of(choice.allowed)}"
            )


def _choices(cfg: CfgNode, sections: Collection[str]) -> Iterator[Choice]:
    model, able = cfg.MODEL, capabilities(cfg)
    proposals = model.PROPOSAL_GENERATOR.NAME
    yield Choice("INPUT.FORMAT", ("BGR", "RGB"))
    yield Choice("MODEL.CONVENTIONS", CONVENTIONS)
    for section in sections:
        if "NORM" in model[section]:
            yield Choice(f"MODEL.{section}.NORM", NORMS)
    if "FPN" in sections:
        yield Choice("MODEL.FPN.FUSE_TYPE", ("sum", "avg"))
    if model.BACKBONE.NAME in RESNETS:
        yield Choice("MODEL.RESNETS.DEPTH", RESNET_DEPTHS)
        yield Choice("MODEL.RESNETS.RES5_DILATION", (1, 2))
        yield Choice("MODEL.RESNETS.OUT_FEATURES", RESNET_FEATURES)
    if able.parts.dense_head == "RETINANET":
        yield Choice("MODEL.ANCHOR_GENERATOR.NAME", ("DefaultAnchorGenerator",))
    if "RPN" in sections and proposals in _PROPOSAL_GENERATORS:
        anchors = (_PROPOSAL_GENERATORS[proposals],)
        where = f" with MODEL.PROPOSAL_GENERATOR.NAME {proposals}"
        yield Choice("MODEL.ANCHOR_GENERATOR.NAME", anchors, where)
        yield Choice("MODEL.RPN.HEAD_NAME", ("StandardRPNHead",))
    if has_built_in_heads(cfg):
        pooler_types = ("ROIAlignRotated",) if able.rotated else POOLER_TYPES
        where = f" for {'rotated' if able.rotated else 'horizontal'} boxes"
        yield Choice("MODEL.ROI_BOX_HEAD.POOLER_TYPE", pooler_types, where)
        if able.has_masks and not has_res5_heads(cfg):
            yield Choice("MODEL.ROI_MASK_HEAD.POOLER_TYPE", ("", *pooler_types))
        if able.has_keypoints:
            yield Choice("MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE", pooler_types, where)


def check_training_choices(cfg: CfgNode) -> None:
    """The same of what is read in training alone."""
    check_choice(cfg, Choice("MODEL.DEVICE", ("cuda", "cpu")))
    check_choice(cfg, Choice("DATALOADER.ON_ERROR", ("stop", "skip")))
    if capabilities(cfg).has_masks:
        check_choice(cfg, Choice("INPUT.MASK_FORMAT", ("polygon", "bitmask")))
    if cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        kinds = ("value", "norm", "full_model")
        check_choice(cfg, Choice("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kinds))
    if cfg.SOLVER.AMP.ENABLED:
        check_choice(cfg, Choice("SOLVER.AMP.DTYPE", ("float16", "bfloat16")))
